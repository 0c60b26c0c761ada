/* Tiles of attention on tensor cores, for attention_mma.cu and attention_mma_bwd.cu: a block of 4
 * warps owns 64 rows of one side (queries or keys), 16 a warp, and goes over the other side. Scores
 * stay in registers: what a product leaves there is the left operand of the next (as Dao 2023 does).
 * Head rows lie in shared memory, D columns of them, the head's own padded with zeros. */
#ifndef LOQUAT_ATTENTION_MMA_H
#define LOQUAT_ATTENTION_MMA_H

#include "attention_cuda.h"
#include "mma.h"

#include <type_traits>

enum { OWNED = 64, MMA_THREADS = 128, OWNED_WARP = 16 };

static constexpr float log2_e = 1.4426950408889634f;

/* Rows 16 bytes more than D apart hit different banks. */
template <int D> static __device__ __host__ constexpr int row_ld() { return D + 8; }

/* Rows [row, row + ROWS) of a head, those from `end` on and columns from d on 0. Rows of the tensor
 * are 16-byte aligned and d a multiple of 8. */
template <int ROWS, int D>
static __device__ __forceinline__ void load_rows(lq_b16 *to, const lq_b16 *x, int64_t ld,
                                                 int64_t row, int64_t end, int d) {
    for (int i = (int)threadIdx.x; i < ROWS * (D / 8); i += MMA_THREADS) {
        const int r = i / (D / 8), c = i % (D / 8) * 8;
        const bool inside = row + r < end && c < d;
        *(uint4 *)(to + r * row_ld<D>() + c) =
            inside ? *(const uint4 *)(x + (row + r) * ld + c) : make_uint4(0, 0, 0, 0);
    }
}

/* s (16, 8 N) = a b^T, a 16 rows, b 8 N. */
template <int N, int D>
static __device__ __forceinline__ void product_nt(float s[N][4], const lq_b16 *a,
                                                  const lq_b16 *b) {
    const int l = lq_lane(), ld = row_ld<D>();
    const lq_b16 *const a_row = a + l % 16 * ld + l / 16 * 8;
    const lq_b16 *const b_row = b + (l % 8 + l / 16 * 8) * ld + l / 8 % 2 * 8;
#pragma unroll
    for (int n = 0; n < N; n++)
        for (int i = 0; i < 4; i++) s[n][i] = 0;
#pragma unroll
    for (int k = 0; k < D; k += 16) {
        uint32_t x[4], y[4];
        lq_load_matrices(x, a_row + k);
#pragma unroll
        for (int n = 0; n < N; n += 2) {
            lq_load_matrices(y, b_row + n * 8 * ld + k);
            lq_mma(s[n], x, y);
            lq_mma(s[n + 1], x, y + 2);
        }
    }
}

/* sum (16, 8 C) += p x, p (16, 8 N), x 8 N rows from the first of 8 C columns. */
template <int N, int C, int D>
static __device__ __forceinline__ void product_nn(float sum[C][4], const float p[N][4],
                                                  const lq_b16 *x) {
    const int l = lq_lane(), ld = row_ld<D>();
    const lq_b16 *const x_row = x + l % 16 * ld + l / 16 * 8;
#pragma unroll
    for (int n = 0; n < N; n += 2) {
        const uint32_t a[4] = {lq_pack_b16(p[n][0], p[n][1]), lq_pack_b16(p[n][2], p[n][3]),
                               lq_pack_b16(p[n + 1][0], p[n + 1][1]),
                               lq_pack_b16(p[n + 1][2], p[n + 1][3])};
#pragma unroll
        for (int c = 0; c < C; c += 2) {
            uint32_t y[4];
            lq_load_transposed(y, x_row + n * 8 * ld + c * 8);
            lq_mma(sum[c], a, y);
            lq_mma(sum[c + 1], a, y + 2);
        }
    }
}

/* Scores in powers of 2: what turns q.k into them, and which keys a query sees. */
struct score_rule {
    float scale, cap, slope;
};

static __device__ __forceinline__ score_rule rule_of(const attention_job<lq_b16> &j, int h) {
    return {j.scale * log2_e, j.softcap * log2_e, alibi_slope(j, h) * log2_e};
}

/* distance: key - query */
static __device__ __forceinline__ float score_of(const score_rule &rule, float product,
                                                 int distance) {
    const float s = product * rule.scale + rule.slope * (float)distance;
    return rule.cap > 0 ? rule.cap * tanhf(s / rule.cap) : s;
}

/* The keys that query t sees, counted from `key`: [first, last]; of a row from n on none. */
struct key_range {
    int first, last;
};

static __device__ __forceinline__ key_range range_of(const attention_job<lq_b16> &j, int64_t t,
                                                     int64_t key) {
    if (t >= j.n) return {1, 0};
    const int64_t first = key_begin(j, t) - key, last = j.past + t - key;
    return {(int)(first > 0 ? first : 0), (int)(last < INT32_MAX ? last : INT32_MAX)};
}

/* dx += sum, a warp's 16 rows from `row`, columns from `col`. */
template <int C>
static __device__ __forceinline__ void add_rows(lq_b16 *dx, int64_t ld, int64_t row, int64_t end,
                                                int col, int d, const float sum[C][4]) {
    const int l = lq_lane();
#pragma unroll
    for (int c = 0; c < C; c++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int64_t r = row + l / 4 + i / 2 * 8;
            const int at = col + c * 8 + 2 * (l % 4) + i % 2;
            if (r < end && at < d) lq_accumulate(&dx[r * ld + at], sum[c][i]);
        }
}

/* f(std::integral_constant<int, D>()), D the narrowest that holds the head. */
template <typename F> static void by_head_size(int head_dim, F f) {
    if (head_dim <= 64) f(std::integral_constant<int, 64>());
    else if (head_dim <= 96) f(std::integral_constant<int, 96>());
    else if (head_dim <= 128) f(std::integral_constant<int, 128>());
    else f(std::integral_constant<int, 256>());
}

/* Shared memory of 192 rows: the most that every device from sm_80 on has when D is 256. */
template <int D> static constexpr size_t shared_bytes() {
    return 3 * OWNED * row_ld<D>() * sizeof(lq_b16);
}

#endif
