/* TQ1_0: 256 ternary codes 0, 1, 2 and one F16 scale d = the largest magnitude; value = d * (code -
 * 1). Five codes t0..t4 share a byte: as the fraction 0.t0t1t2t3t4 in base 3, in 256ths, rounded
 * up, so that multiplying by 3 moves one code after the other out at the top. Bytes come in runs; a
 * byte's codes are a run's length apart. The last run has four codes per byte. An importance
 * matrix does not change it. */
#include "block_parts.h"
#include "format.h"
#include "groups.h"
#include "nibbles_scalar.h"

enum { BLOCK = 256, BYTES = 52, N_RUNS = 3 };

typedef struct block {
    uint8_t codes[BYTES];
    uint16_t d;    /* F16 */
} block;

static const struct run { int bytes, codes; } runs[N_RUNS] = {{32, 5}, {16, 5}, {4, 4}};

static void pack_block(const uint8_t *codes, uint8_t *out) {
    for (int r = 0; r < N_RUNS; r++) {
        for (int i = 0; i < runs[r].bytes; i++)
            *out++ = pack_trits(codes + i, runs[r].bytes, runs[r].codes);
        codes += runs[r].bytes * runs[r].codes;
    }
}

static void quant(const float *x, void *out, int64_t n, const float *imatrix) {
    (void)imatrix;
    const lq_group_kernels *const k = lq_groups();
    block *b = out;
    for (int64_t i = 0; i < n; i += BLOCK, b++) {
        const float d = k->largest(x + i, BLOCK);
        uint8_t codes[BLOCK];
        k->trits(x + i, BLOCK, lq_finite_inverse(d), codes);
        pack_block(codes, b->codes);
        b->d = lq_f16_from_f32(d);
    }
}

/* The bytes of the last run, each shifted by 0 to 3 digits: 16 bytes of one code. */
static void shift_last(const uint8_t *bytes, uint8_t out[16]) {
    static const uint8_t power_of_3[4] = {1, 3, 9, 27};
    for (int k = 0; k < 4; k++)
        for (int i = 0; i < 4; i++) out[4 * k + i] = (uint8_t)(bytes[i] * power_of_3[k]);
}

static void dequant_block(const block *b, float *out) {
    const lq_group_kernels *const k = lq_groups();
    const float d = lq_f32_from_f16(b->d);
    const uint8_t *code = b->codes;
    for (int r = 0; r < N_RUNS - 1; r++) {
        k->expand_trits(code, runs[r].bytes, runs[r].codes, d, out);
        code += runs[r].bytes;
        out += runs[r].bytes * runs[r].codes;
    }
    uint8_t last[16];
    shift_last(code, last);
    k->expand_trits(last, sizeof last, 1, d, out);
}

static void dequant(const void *in, float *out, int64_t n) {
    const block *b = in;
    for (int64_t i = 0; i < n; i += BLOCK) dequant_block(b++, out + i);
}

const lq_format lq_tq1_0 = {"tq1_0", "TQ1_0", 34, 36, BLOCK, sizeof(block), quant, dequant};
