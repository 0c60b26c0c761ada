/* autograd/cuda/nvcc/mma.h emulated: what PTX says of ldmatrix and mma.m16n8k16, lane by lane. */
#ifndef LOQUAT_MMA_H
#define LOQUAT_MMA_H

#include "launch.h"

static inline uint16_t lq_row_bits(uint64_t row, int col) {
    return ((const lq_b16 *)(uintptr_t)row)[col].bits;
}

static inline void lq_check_row(const lq_b16 *row) {
    if ((uintptr_t)row % 16) lq_emulated_die("a matrix row that is not 16-byte aligned");
}

static inline void lq_load_matrices(uint32_t r[4], const lq_b16 *row) {
    const int l = lq_lane(), col = 2 * (l % 4);
    lq_check_row(row);
    const uint64_t *const rows = lq_emulated_exchange(~0u, (uint64_t)(uintptr_t)row);
    for (int i = 0; i < 4; i++) {
        const uint64_t at = rows[8 * i + l / 4];
        r[i] = lq_row_bits(at, col) | (uint32_t)lq_row_bits(at, col + 1) << 16;
    }
}

static inline void lq_load_transposed(uint32_t r[4], const lq_b16 *row) {
    const int l = lq_lane(), first = 2 * (l % 4);
    lq_check_row(row);
    const uint64_t *const rows = lq_emulated_exchange(~0u, (uint64_t)(uintptr_t)row);
    for (int i = 0; i < 4; i++)
        r[i] = lq_row_bits(rows[8 * i + first], l / 4) |
               (uint32_t)lq_row_bits(rows[8 * i + first + 1], l / 4) << 16;
}

/* Element k of 16 in a row of which 4 lanes hold 2 in each of `low` and `high`. */
static inline float lq_row_element(const uint64_t *low_high, int row, int k) {
    const uint64_t pair = low_high[row * 4 + k % 8 / 2];
    return lq_f32_from_bf16((uint16_t)(pair >> (32 * (k / 8) + 16 * (k % 2))));
}

static inline void lq_mma(float c[4], const uint32_t a[4], const uint32_t b[2]) {
    const int l = lq_lane();
    uint64_t rows[3][32]; /* a's upper and lower rows, b's columns */
    const uint64_t mine[3] = {a[0] | (uint64_t)a[2] << 32, a[1] | (uint64_t)a[3] << 32,
                              b[0] | (uint64_t)b[1] << 32};
    for (int i = 0; i < 3; i++) memcpy(rows[i], lq_emulated_exchange(~0u, mine[i]), sizeof rows[i]);
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < 16; k++)
            c[i] += lq_row_element(rows[i / 2], l / 4, k) *
                    lq_row_element(rows[2], 2 * (l % 4) + i % 2, k);
}

static inline uint32_t lq_pack_b16(float low, float high) {
    return lq_bf16_from_f32(low) | (uint32_t)lq_bf16_from_f32(high) << 16;
}

/* ---- asynchronous copies: what is under way is poison, and arrives when it is waited for ----- */

struct lq_copy {
    lq_b16 *to;
    const lq_b16 *from;   /* NULL: zeros */
    int group;
};

struct lq_copies {
    lq_copy copy[256];
    int n, group;
};

static inline lq_copies *lq_thread_copies() {
    static lq_copies all[1024];
    return &all[threadIdx.x];
}

static inline void lq_copy_async(lq_b16 *to, const lq_b16 *from, bool inside) {
    lq_copies *const c = lq_thread_copies();
    if (c->n == 256) lq_emulated_die("a thread with more copies under way than emulated");
    lq_check_row(to);
    lq_check_row(from);
    c->copy[c->n++] = {to, inside ? from : NULL, c->group};
    memset(to, 0xff, 16);
}

static inline void lq_commit_copies() { lq_thread_copies()->group++; }

template <int PENDING> static void lq_wait_copies() {
    lq_copies *const c = lq_thread_copies();
    int kept = 0;
    for (int i = 0; i < c->n; i++) {
        const lq_copy copy = c->copy[i];
        if (copy.group >= c->group - PENDING) c->copy[kept++] = copy;
        else if (copy.from) memcpy(copy.to, copy.from, 16);
        else memset(copy.to, 0, 16);
    }
    c->n = kept;
}

static inline float lq_exp2(float x) { return exp2f(x); }

#endif
