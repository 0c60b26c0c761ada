/* Formats whose 4-bit codes stand for 16 fixed values: the rules of nibbles.h for one number or one
 * group, and their scales. */
#ifndef LOQUAT_NIBBLES_SCALAR_H
#define LOQUAT_NIBBLES_SCALAR_H

#include "groups_scalar.h"

enum { IQ4_GROUP = 32, IQ4_TRIALS = 16 };

/* ---- IQ4: -127 -104 -83 -65 -49 -35 -22 -10 1 13 25 38 53 69 89 113 -------------------------- */

LQ_SCALAR int iq4_value(int code) {
    static const int8_t values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                      1,    13,   25,  38,  53,  69,  89,  113};
    return values[code];
}

/* The number of borders between two values that x is not below. */
LQ_SCALAR int iq4_code(float x) {
    static const float borders[15] = {-115.5f, -93.5f, -74, -57,   -42,   -28.5f, -16, -4.5f,
                                      7,       19,     31.5f, 45.5f, 61, 79,     101};
    int code = 0;
    for (int i = 0; i < 15; i++) code += !(x < borders[i]);
    return code;
}

/* The inverse scale of a trial; the first is the middle one, but rounded twice. */
LQ_SCALAR float iq4_trial(int t, float max) {
    return t == 0 ? 1 / (-max / -127) : (float)(t - IQ4_TRIALS / 2 - 127) / max;
}

/* The sums, in order, of w q x and w q^2, q the values nearest to x * inverse. */
LQ_SCALAR void iq4_sums(const float *x, const float *w, float inverse, float *wqx, float *wqq) {
    *wqx = *wqq = 0;
    for (int i = 0; i < IQ4_GROUP; i++) {
        const float q = (float)iq4_value(iq4_code(inverse * x[i]));
        *wqx += w[i] * q * x[i];
        *wqq += w[i] * q * q;
    }
}

/* Takes the trial's own least-squares scale if its error is less; the first trial always. */
LQ_SCALAR void iq4_keep_best(int t, float wqx, float wqq, float *scale, float *best) {
    if (t == 0 ? !(wqq > 0) : !(wqq > 0 && wqx * wqx > *best * wqq)) return;
    *scale = wqx / wqq;
    *best = *scale * wqx;
}

/* IQ4_XS: codes 0..63 of 8 scales such that the one of largest magnitude becomes -32; returns the
 * scale of the scales. */
LQ_SCALAR float code_iq4_scales(const float *scale, uint8_t *codes) {
    const float d = -signed_max(scale, 8, 1) / 32, inverse = inverse_of(d);
    for (int g = 0; g < 8; g++) codes[g] = (uint8_t)(nearest(inverse * scale[g], -32, 31) + 32);
    return d;
}

/* ---- FP4 (E2M1), doubled: 0 1 2 3 4 6 8 12 and their negatives ------------------------------- */

LQ_SCALAR int fp4_value(int code) {
    static const int8_t values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
    return values[code];
}

/* The first of least distance, rounded to F32. */
LQ_SCALAR int fp4_code(float x, float d) {
    int best = 0;
    float least = fabsf(x);
    for (int i = 1; i < 16; i++) {
        const float distance = fabsf((float)fp4_value(i) * d - x);
        if (!(distance < least)) continue;
        best = i;
        least = distance;
    }
    return best;
}

/* MXFP4: half the scale of exponent e, 2^(e - 128). */
LQ_SCALAR float mx_half_scale(uint8_t e) { return ldexpf(1, e - 128); }

/* MXFP4's exponent for the largest magnitude x > 0: floor(log2 x) - 2 + 127, as a byte: a block
 * below 2^-125 wraps around to a large one, with all codes 0. log2 x is rounded to F32 first, which
 * lifts the numbers 2^k (1 - n 2^-24) right below a power of two onto k if n log2(e) 2^-24 is less
 * than half the distance between numbers at k. */
LQ_SCALAR uint8_t mx_exponent(float x) {
    const bool subnormal = x < 0x1p-126f;
    const uint32_t bits = float_to_bits(subnormal ? x * 0x1p24f : x);
    const int floor_log2 = (int)(bits >> 23) - 127 - (subnormal ? 24 : 0), next = floor_log2 + 1;
    const float n = (float)(0x800000 - (int)(bits & 0x7fffff));
    const int size = next < 0 ? -next : next;
    int place = 0; /* numbers at next are 2^(place - 23) apart */
    while (size >> (place + 1)) place++;
    if (next > 0 && (size & (size - 1)) == 0) place--; /* below a power of two they lie closer */
    const bool lifted = next != 0 && n * 1.442695f < ldexpf(1, place);
    return (uint8_t)(floor_log2 + (lifted ? 1 : 0) - 2 + 127);
}

/* NVFP4's scale (UE4M3): normal numbers drop all bits but the mantissa's three and round up on the
 * next; those below 2^-6 are multiples of 2^-9. 0x7e is the largest, 448; one above is no number.
 */
LQ_SCALAR uint8_t nv_scale_code(float x) {
    if (!(x > 0)) return 0;
    if (x < 0x1p-6f) return (uint8_t)fminf(x * 512 + 0.5f, 7);
    const uint32_t code = ((float_to_bits(x) >> 19) + 1) / 2 - ((127 - 7) << 3);
    return (uint8_t)(code < 0x7e ? code : 0x7e);
}

/* Half of what the code stands for. */
LQ_SCALAR float nv_half_scale(uint8_t code) {
    if (code == 0x7f) return 0;
    const int exponent = code >> 3 & 15, mantissa = code & 7;
    return exponent ? ldexpf((float)(8 + mantissa), exponent - 11) : ldexpf((float)mantissa, -10);
}

/* ---- ternary --------------------------------------------------------------------------------- */

/* 0, 1, 2 for -1, 0, 1: x inverse, of magnitude at most 1, rounded half away from zero; NaN counts
 * as 0. */
LQ_SCALAR uint8_t trit(float x, float inverse) {
    const float v = x * inverse;
    return (uint8_t)(1 + (v >= 0.5f) - (v <= -0.5f));
}

/* TQ1_0: five codes, of which those from `digits` on are 0, as the fraction 0.t0t1t2t3t4 in base 3,
 * in 256ths, rounded up. */
LQ_SCALAR uint8_t pack_trits(const uint8_t *codes, int stride, int digits) {
    int number = 0;
    for (int k = 0; k < 5; k++) number = number * 3 + (k < digits ? codes[k * stride] : 0);
    return (uint8_t)((number * 256 + 242) / 243);
}

#endif
