/* Tiles of attention in f32, for attention_tile.cu and attention_tile_bwd.cu: 256 threads hold a
 * tile of 64 x 64 scores, 4 x 4 each, and 64 x 16C sums, 4 x C each. Operands pass through shared
 * memory in chunks, as f32 whatever their type, so that any head size works and 36 KiB are enough.
 * Thread (ty, tx) = (thread / 16, thread % 16) owns rows 4 ty .. 4 ty + 3; of scores the columns
 * tx + 16 j, of sums the columns 4 tx + 64 g .. + 3. */
#ifndef LOQUAT_ATTENTION_TILE_H
#define LOQUAT_ATTENTION_TILE_H

#include "attention_cuda.h"

enum {
    TILE = 64,              /* queries and keys */
    TILE_THREADS = 256,
    PER = 4,                /* rows, and columns of scores, per thread */
    DEPTH = 32,             /* columns of the heads that are in shared memory at a time */
    DEPTH_LD = DEPTH + 4,   /* 16-byte aligned rows that hit different banks */
    SCORE_LD = TILE + 4,
    CHUNK = 4096            /* elements of the right operand of a sum at a time */
};

struct tile_memory {
    __align__(16) float operands[2 * TILE * DEPTH_LD];
    __align__(16) float scores[TILE * SCORE_LD];
};

/* n rows of one head, ld apart; what is beyond n or beyond the head's columns reads as 0. */
template <typename T> struct head_rows {
    const T *data;
    int64_t ld;
    int n;
};

template <typename T>
static __device__ inline head_rows<T> rows_at(const T *data, int64_t ld, int64_t row,
                                              int64_t end) {
    return {data + row * ld, ld, end - row < TILE ? (int)(end - row) : (int)TILE};
}

/* Rows from t on of query head h, and from `key` on of its key head. */
template <typename J, typename T>
static __device__ inline head_rows<T> query_rows(const J &j, const T *data, int h, int64_t t) {
    return rows_at(data + (int64_t)h * j.head_dim, j.q_ld, t, j.n);
}

template <typename J, typename T>
static __device__ inline head_rows<T> key_rows(const J &j, const T *data, int h, int64_t key,
                                               int64_t end) {
    return rows_at(data + (int64_t)kv_head(j, h) * j.head_dim, j.kv_ld, key, end);
}

static __device__ inline int tile_row() { return (int)threadIdx.x / 16 * PER; }
static __device__ inline int tile_col() { return (int)threadIdx.x % 16; }
/* Of a thread's sum c, counted from the block's first column. */
static __device__ inline int sum_col(int c) { return 4 * tile_col() + c / 4 * 64 + c % 4; }

template <int C> static __device__ inline void clear(float x[PER][C]) {
    for (int i = 0; i < PER; i++)
        for (int c = 0; c < C; c++) x[i][c] = 0;
}

static __device__ inline float4 at4(const float *p) { return *(const float4 *)p; }

/* to (ROWS x COLS, LD apart) = x's rows from `row`, columns from `col` of d. */
template <int ROWS, int COLS, int LD, typename T>
static __device__ inline void load_tile(float *to, const head_rows<T> &x, int row, int col, int d) {
    for (int i = (int)threadIdx.x; i < ROWS * COLS; i += TILE_THREADS) {
        const int r = i / COLS, c = i % COLS;
        const bool inside = row + r < x.n && col + c < d;
        to[r * LD + c] = inside ? lq_to_float(x.data[(row + r) * x.ld + col + c]) : 0.0f;
    }
}

/* s = a b^T */
template <typename A, typename B>
static __device__ inline void multiply_rows(float s[PER][PER], const head_rows<A> &a,
                                            const head_rows<B> &b, int d, tile_memory *m) {
    float *const left = m->operands, *const right = left + TILE * DEPTH_LD;
    clear<PER>(s);
    for (int col = 0; col < d; col += DEPTH) {
        __syncthreads();
        load_tile<TILE, DEPTH, DEPTH_LD>(left, a, 0, col, d);
        load_tile<TILE, DEPTH, DEPTH_LD>(right, b, 0, col, d);
        __syncthreads();
        for (int k = 0; k < DEPTH; k += 4) {
            float4 x[PER], y[PER];
            for (int i = 0; i < PER; i++) {
                x[i] = at4(left + (tile_row() + i) * DEPTH_LD + k);
                y[i] = at4(right + (tile_col() + 16 * i) * DEPTH_LD + k);
            }
            for (int i = 0; i < PER; i++)
                for (int c = 0; c < PER; c++)
                    s[i][c] += x[i].x * y[c].x + x[i].y * y[c].y + x[i].z * y[c].z +
                               x[i].w * y[c].w;
        }
    }
}

static __device__ inline void store_scores(const float s[PER][PER], tile_memory *m) {
    __syncthreads(); /* the last sum is done with them */
    for (int i = 0; i < PER; i++)
        for (int c = 0; c < PER; c++)
            m->scores[(tile_row() + i) * SCORE_LD + tile_col() + 16 * c] = s[i][c];
}

/* sum += p x, or p^T x, p the stored scores; columns [col, col + 16 C) of x. */
template <int C, bool TRANSPOSED, typename T>
static __device__ inline void add_sums(float sum[PER][C], const head_rows<T> &x, int col, int d,
                                       tile_memory *m) {
    const int cols = 16 * C, rows = CHUNK / cols;
    for (int row = 0; row < x.n; row += rows) {
        __syncthreads();
        load_tile<rows, cols, cols>(m->operands, x, row, col, d);
        __syncthreads();
        for (int k = 0; k < rows; k++) {
            float p[PER];
            for (int i = 0; i < PER; i++)
                p[i] = TRANSPOSED ? m->scores[(row + k) * SCORE_LD + tile_row() + i]
                                  : m->scores[(tile_row() + i) * SCORE_LD + row + k];
            for (int g = 0; g < C / 4; g++) {
                const float4 y = at4(m->operands + k * cols + 4 * tile_col() + 64 * g);
                for (int i = 0; i < PER; i++) {
                    sum[i][4 * g] += p[i] * y.x;
                    sum[i][4 * g + 1] += p[i] * y.y;
                    sum[i][4 * g + 2] += p[i] * y.z;
                    sum[i][4 * g + 3] += p[i] * y.w;
                }
            }
        }
    }
}

/* A thread's place in a tile of scores. */
struct score_place {
    int64_t t, key;             /* of the thread's first row and column; rows step 1, columns 16 */
    int64_t begin[PER];         /* each row's first visible key; beyond the last query: none */
};

template <typename J>
static __device__ inline score_place place_of(const J &j, int64_t t, int64_t key) {
    score_place at = {t + tile_row(), key + tile_col(), {}};
    for (int i = 0; i < PER; i++)
        at.begin[i] = at.t + i < j.n ? key_begin(j, at.t + i) : INT64_MAX;
    return at;
}

template <typename J>
static __device__ inline bool sees(const J &j, const score_place &at, int i, int col) {
    const int64_t key = at.key + 16 * col;
    return key >= at.begin[i] && key <= j.past + at.t + i;
}

/* s = cap(scale q k^T), plus ALiBi */
template <typename J, typename T, typename KV>
static __device__ inline void make_scores(const J &j, const head_rows<T> &q,
                                          const head_rows<KV> &k, const score_place &at,
                                          float slope, float s[PER][PER], tile_memory *m) {
    multiply_rows(s, q, k, j.head_dim, m);
    for (int i = 0; i < PER; i++)
        for (int c = 0; c < PER; c++) {
            const float distance = (float)(at.key + 16 * c - (j.past + at.t + i));
            s[i][c] = s[i][c] * j.scale + slope * distance;
            if (j.softcap > 0) s[i][c] = j.softcap * tanhf(s[i][c] / j.softcap);
        }
}

#endif
