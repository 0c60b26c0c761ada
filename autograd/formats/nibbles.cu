/* IQ4_NL, IQ4_XS, MXFP4 and NVFP4 on CUDA: codes of 4 bits for 16 fixed values; see nibbles.h. */
#include "cuda_blocks.h"
#include "nibbles_scalar.h"
#include "scales_scalar.h"

/* ---- IQ4 ------------------------------------------------------------------------------------- */

/* Twice the mean square of the numbers that share a scale, then the scale of the lane's 32. */
template <class F> static __device__ float iq4_scale(const Place<F> &p, const float *x) {
    float w[IQ4_GROUP], scale = 0, best = 0;
    const float max = signed_max(x, IQ4_GROUP, 1);
    if (p.block_importance) {
        const float sigma2 = sum_squares(p.block, F::BLOCK) * (2.0f / (float)F::BLOCK);
        for (int i = 0; i < IQ4_GROUP; i++) w[i] = tempered(p.importance()[i], sigma2, x[i]);
    } else {
        for (int i = 0; i < IQ4_GROUP; i++) w[i] = x[i] * x[i];
    }
    if (fabsf(max) < 1e-15f) return 0;
    for (int t = 0; t < IQ4_TRIALS; t++) {
        float wqx, wqq;
        iq4_sums(x, w, iq4_trial(t, max), &wqx, &wqq);
        iq4_keep_best(t, wqx, wqq, &scale, &best);
    }
    return scale;
}

template <class F> static __device__ void put_iq4(const Place<F> &p, const float *x, float d) {
    const float inverse = inverse_of(d);
    for (int i = 0; i < IQ4_GROUP; i++) p.put(i, iq4_code(inverse * x[i]));
}

template <class F>
static __device__ void decode_iq4(const uint8_t *b, int at, float d, float *out) {
    for (int k = 0; k < LQ_PER_THREAD; k++)
        out[k] = (float)iq4_value(F::Low::get(b, at + k)) * d;
}

struct IQ4_NL {
    enum { BLOCK = 32, GROUP = 32, BYTES = 18, IMPORTANCE = LQ_BY_BLOCK };
    typedef Plane<4, 2, 16> Low;
    typedef NoPlane High;
    static __device__ void encode(const Place<IQ4_NL> &p) {
        float x[GROUP];
        p.load(x);
        const float d = iq4_scale<IQ4_NL>(p, x);
        p.put_half(0, d);
        put_iq4<IQ4_NL>(p, x, d); /* by the scale as it was before rounding */
    }
    static __device__ void decode(const uint8_t *b, int at, float *out) {
        decode_iq4<IQ4_NL>(b, at, half_at(b), out);
    }
};

struct IQ4_XS {
    enum { BLOCK = 256, GROUP = 32, BYTES = 136, IMPORTANCE = LQ_BY_BLOCK, GROUPS = BLOCK / GROUP };
    typedef Plane<4, 8, 16> Low;
    typedef NoPlane High;
    static __device__ void put_head(const Place<IQ4_XS> &p, float d, const uint8_t *s) {
        int high = 0;
        for (int g = 0; g < GROUPS; g++) high |= s[g] >> 4 << 2 * g;
        p.put_half(0, d);
        p.bytes[2] = (uint8_t)(high & 255);
        p.bytes[3] = (uint8_t)(high >> 8);
        for (int k = 0; k < GROUPS / 2; k++)
            p.bytes[4 + k] = (uint8_t)((s[2 * k] & 15) | (s[2 * k + 1] & 15) << 4);
    }
    static __device__ void encode(const Place<IQ4_XS> &p) {
        float x[GROUP];
        uint8_t s[GROUPS];
        p.load(x);
        p.exchange(0, iq4_scale<IQ4_XS>(p, x));
        const float d = code_iq4_scales(p.shared(0), s);
        if (p.lane == 0) put_head(p, d, s);
        put_iq4<IQ4_XS>(p, x, d * (float)(s[p.lane] - 32));
    }
    static __device__ void decode(const uint8_t *b, int at, float *out) {
        const int g = at / GROUP, high = b[2 + g / 4] >> 2 * (g % 4) & 3;
        const int s = (b[4 + g / 2] >> 4 * (g % 2) & 15) | high << 4;
        decode_iq4<IQ4_XS>(b, at, half_at(b) * (float)(s - 32), out);
    }
};

/* ---- FP4 ------------------------------------------------------------------------------------- */

template <class F>
static __device__ void decode_fp4(const uint8_t *b, int at, float d, float *out) {
    for (int k = 0; k < LQ_PER_THREAD; k++)
        out[k] = (float)fp4_value(F::Low::get(b, at + k)) * d;
}

struct MXFP4 {
    enum { BLOCK = 32, GROUP = 32, BYTES = 17, IMPORTANCE = LQ_NEVER };
    typedef Plane<4, 1, 16> Low;
    typedef NoPlane High;
    static __device__ void encode(const Place<MXFP4> &p) {
        float x[GROUP];
        p.load(x);
        const float most = largest_of<GROUP>(x);
        const uint8_t e = most == 0 ? 0 : mx_exponent(most);
        const float d = mx_half_scale(e);
        for (int i = 0; i < GROUP; i++) p.put(i, fp4_code(x[i], d));
        p.bytes[0] = e;
    }
    static __device__ void decode(const uint8_t *b, int at, float *out) {
        decode_fp4<MXFP4>(b, at, mx_half_scale(b[0]), out);
    }
};

struct NVFP4 {
    enum { BLOCK = 64, GROUP = 16, BYTES = 36, IMPORTANCE = LQ_NEVER };
    typedef Plane<4, 4, 8> Low;
    typedef NoPlane High;
    static __device__ void encode(const Place<NVFP4> &p) {
        float x[GROUP];
        p.load(x);
        const uint8_t s = nv_scale_code(largest_of<GROUP>(x) / 6);
        const float d = nv_half_scale(s);
        for (int i = 0; i < GROUP; i++) p.put(i, fp4_code(x[i], d));
        p.bytes[p.lane] = s;
    }
    static __device__ void decode(const uint8_t *b, int at, float *out) {
        decode_fp4<NVFP4>(b, at, nv_half_scale(b[at / GROUP]), out);
    }
};

extern "C" const lq_cuda_format lq_cuda_iq4_nl = {
    &lq_iq4_nl, quant_blocks<IQ4_NL>, dequant_blocks<IQ4_NL>, NULL};
extern "C" const lq_cuda_format lq_cuda_iq4_xs = {
    &lq_iq4_xs, quant_blocks<IQ4_XS>, dequant_blocks<IQ4_XS>, NULL};
extern "C" const lq_cuda_format lq_cuda_mxfp4 = {
    &lq_mxfp4, quant_blocks<MXFP4>, dequant_blocks<MXFP4>, NULL};
extern "C" const lq_cuda_format lq_cuda_nvfp4 = {
    &lq_nvfp4, quant_blocks<NVFP4>, dequant_blocks<NVFP4>, NULL};
