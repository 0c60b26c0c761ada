/* Tiles of attention on tensor cores, for attention_mma.cu and attention_mma_bwd.cu: a block of 4
 * warps owns rows of one side (queries or keys), 16 M a warp, and goes over the other side, whose
 * next rows are copied while it computes. Scores stay in registers: what a product leaves there is
 * the left operand of the next (Dao 2023). Rows lie in shared memory, D columns of them, those that
 * the head lacks 0. */
#ifndef LOQUAT_ATTENTION_MMA_H
#define LOQUAT_ATTENTION_MMA_H

#include "attention_cuda.h"
#include "mma.h"

#include <type_traits>

enum {
    MMA_WARPS = 4,
    MMA_THREADS = 32 * MMA_WARPS,
    MMA_SHARED = 99 << 10   /* bytes that a block can have on every device from sm_80 on */
};

static constexpr float log2_e = 1.4426950408889634f;

/* Rows 16 bytes more than D apart hit different banks. */
template <int D> static __device__ __host__ constexpr int row_ld() { return D + 8; }

/* ---- rows in shared memory ------------------------------------------------------------------- */

/* Begins to copy rows [row, row + ROWS) of a head; those from `end` on and columns from d on are 0.
 * Rows of the tensor are 16-byte aligned and d a multiple of 8. */
template <int ROWS, int D>
static __device__ __forceinline__ void copy_rows(lq_b16 *to, const lq_b16 *x, int64_t ld,
                                                 int64_t row, int64_t end, int d) {
    for (int i = (int)threadIdx.x; i < ROWS * (D / 8); i += MMA_THREADS) {
        const int r = i / (D / 8), c = i % (D / 8) * 8;
        const bool inside = row + r < end && c < d;
        lq_copy_async(to + r * row_ld<D>() + c, inside ? x + (row + r) * ld + c : x, inside);
    }
}

/* The other side: ROWS rows of two tensors at a time, the next ones under way if STAGES is 2. */
template <int ROWS, int D, int STAGES> struct row_stream {
    lq_b16 *memory;              /* 2 STAGES ROWS rows */
    const lq_b16 *x, *y;
    int64_t ld, end;             /* rows from `end` on are not read */
    int d, stage;

    __device__ __forceinline__ void copy(int64_t row) {
        lq_b16 *const to = memory + stage * 2 * ROWS * row_ld<D>();
        if (row < end) {
            copy_rows<ROWS, D>(to, x, ld, row, end, d);
            copy_rows<ROWS, D>(to + ROWS * row_ld<D>(), y, ld, row, end, d);
        }
        lq_commit_copies();
    }

    /* All threads are done with the memory's former contents. */
    __device__ __forceinline__ void start(int64_t row) {
        stage = 0;
        if (STAGES == 2) copy(row);
    }

    /* Copies that nobody took have arrived. */
    __device__ __forceinline__ void finish() { lq_wait_copies<0>(); }

    /* Rows from `row` on, of x and, ROWS rows behind, of y. */
    __device__ __forceinline__ const lq_b16 *take(int64_t row) {
        const lq_b16 *const taken = memory + stage * 2 * ROWS * row_ld<D>();
        __syncthreads(); /* everyone is done with what was taken last */
        if (STAGES == 2) stage = 1 - stage;
        copy(STAGES == 2 ? row + ROWS : row);
        lq_wait_copies<STAGES - 1>();
        __syncthreads();
        return taken;
    }
};

/* ---- products -------------------------------------------------------------------------------- */

/* s (16 M, 8 N) = a b^T, a 16 M rows, b 8 N. */
template <int M, int N, int D>
static __device__ __forceinline__ void product_nt(float s[M][N][4], const lq_b16 *a,
                                                  const lq_b16 *b) {
    const int l = lq_lane(), ld = row_ld<D>();
    const lq_b16 *const a_row = a + l % 16 * ld + l / 16 * 8;
    const lq_b16 *const b_row = b + (l % 8 + l / 16 * 8) * ld + l / 8 % 2 * 8;
#pragma unroll
    for (int i = 0; i < M * N * 4; i++) s[i / 4 / N][i / 4 % N][i % 4] = 0;
#pragma unroll
    for (int k = 0; k < D; k += 16) {
        uint32_t x[M][4], y[4];
#pragma unroll
        for (int m = 0; m < M; m++) lq_load_matrices(x[m], a_row + m * 16 * ld + k);
#pragma unroll
        for (int n = 0; n < N; n += 2) {
            lq_load_matrices(y, b_row + n * 8 * ld + k);
#pragma unroll
            for (int m = 0; m < M; m++) {
                lq_mma(s[m][n], x[m], y);
                lq_mma(s[m][n + 1], x[m], y + 2);
            }
        }
    }
}

/* sum (16 M, 8 C) += p x, p (16 M, 8 N), x 8 N rows from the first of 8 C columns. */
template <int M, int N, int C, int D>
static __device__ __forceinline__ void product_nn(float sum[M][C][4], const float p[M][N][4],
                                                  const lq_b16 *x) {
    const int l = lq_lane(), ld = row_ld<D>();
    const lq_b16 *const x_row = x + l % 16 * ld + l / 16 * 8;
#pragma unroll
    for (int n = 0; n < N; n += 2) {
        uint32_t a[M][4];
#pragma unroll
        for (int i = 0; i < M * 4; i++) {
            const float *const pair = &p[i / 4][n + i % 4 / 2][i % 2 * 2];
            a[i / 4][i % 4] = lq_pack_b16(pair[0], pair[1]);
        }
#pragma unroll
        for (int c = 0; c < C; c += 2) {
            uint32_t y[4];
            lq_load_transposed(y, x_row + n * 8 * ld + c * 8);
#pragma unroll
            for (int m = 0; m < M; m++) {
                lq_mma(sum[m][c], a[m], y);
                lq_mma(sum[m][c + 1], a[m], y + 2);
            }
        }
    }
}

/* dx += sum, a warp's rows from `row`, columns from col. */
template <int M, int C>
static __device__ __forceinline__ void add_rows(lq_b16 *dx, int64_t ld, int64_t row, int64_t end,
                                                int col, int d, const float sum[M][C][4]) {
    const int l = lq_lane();
#pragma unroll
    for (int i = 0; i < M * C * 4; i++) {
        const int m = i / 4 / C, c = i / 4 % C, of = i % 4;
        const int64_t r = row + m * 16 + l / 4 + of / 2 * 8;
        const int at = col + c * 8 + 2 * (l % 4) + of % 2;
        if (r < end && at < d) lq_accumulate(&dx[r * ld + at], sum[m][c][of]);
    }
}

/* ---- scores ---------------------------------------------------------------------------------- */

/* What turns q.k into a score, in powers of 2; plain: the scale alone. */
struct score_rule {
    float scale, cap, slope;
    bool plain;
};

static __device__ __forceinline__ score_rule rule_of(const attention_job<lq_b16> &j, int h) {
    return {j.scale * log2_e, j.softcap * log2_e, alibi_slope(j, h) * log2_e,
            !(j.softcap > 0) && !(j.alibi > 0)};
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
    const int64_t first = key_begin(j, t) - key;
    return {(int)(first > 0 ? first : 0), (int)(t - key)};
}

/* Whether all these queries see all these keys. */
static __device__ __forceinline__ bool sees_all(const attention_job<lq_b16> &j, int64_t t,
                                                int queries, int64_t key, int keys) {
    const int64_t last = t + queries - 1;
    return last < j.n && key_begin(j, last) <= key && key + keys - 1 <= t;
}

/* ---- launching ------------------------------------------------------------------------------- */

/* f(std::integral_constant<int, D>()), D the narrowest that holds the head. */
template <typename F> static void by_head_size(int head_dim, F f) {
    if (head_dim <= 64) f(std::integral_constant<int, 64>());
    else if (head_dim <= 96) f(std::integral_constant<int, 96>());
    else if (head_dim <= 128) f(std::integral_constant<int, 128>());
    else f(std::integral_constant<int, 256>());
}

template <int D> static constexpr size_t bytes_of_rows(int rows) {
    return (size_t)(rows * row_ld<D>()) * sizeof(lq_b16);
}

#endif
