/* attention on CUDA, backward, in f32 and in a fixed order: a block of threads owns 64 queries of a
 * head for dq, 64 keys of a key head for dk and dv, and goes over the other side 64 at a time.
 * Scores are computed again from q, k and the saved log-sum-exp. Heads wider than a block's sums
 * take several blocks. */
#include "attention_tile.h"

/* p of a tile, and ds. */
template <typename T>
static __device__ inline void score_gradient(const attention_job<T> &j, const attention_grad<T> &g,
                                             int h, int64_t t, int64_t key, int64_t key_stop,
                                             float p[PER][PER], float ds[PER][PER],
                                             tile_memory *m) {
    const score_place at = place_of(j, t, key);
    make_scores(j, query_rows(j, j.q, h, t), key_rows(j, j.k, h, key, key_stop), at,
                alibi_slope(j, h), p, m);
    multiply_rows(ds, query_rows(j, g.dout, h, t), key_rows(j, j.v, h, key, key_stop), j.head_dim,
                  m);
    for (int i = 0; i < PER; i++) {
        const int64_t row = (at.t + i) * j.n_head + h;
        for (int c = 0; c < PER; c++) {
            const float s = p[i][c], r = j.softcap > 0 ? s / j.softcap : 0;
            const bool seen = sees(j, at, i, c);
            p[i][c] = seen ? expf(s - j.lse[row]) : 0;
            ds[i][c] = seen ? p[i][c] * (ds[i][c] - g.correction[row]) * j.scale * (1 - r * r) : 0;
        }
    }
}

/* dx += sum, rows from `row` to `end`, columns from col; dx at its head. */
template <int C, typename T>
static __device__ inline void add_to(T *dx, int64_t ld, int64_t row, int64_t end, int col, int d,
                                     const float sum[PER][C]) {
    for (int i = 0; i < PER; i++) {
        const int64_t r = row + tile_row() + i;
        if (r >= end) return;
        for (int c = 0; c < C; c++) {
            const int at = col + sum_col(c);
            if (at < d) lq_accumulate(&dx[r * ld + at], sum[i][c]);
        }
    }
}

/* ---- dq ------------------------------------------------------------------------------------- */

template <int C, typename T>
static __global__ void __launch_bounds__(TILE_THREADS, C > 8 ? 1 : 2)
    query_gradient(attention_job<T> j, attention_grad<T> g) {
    __shared__ tile_memory m;
    const int h = (int)blockIdx.y, col = (int)blockIdx.z * 16 * C, d = j.head_dim;
    const int64_t t = (int64_t)(gridDim.x - 1 - blockIdx.x) * TILE; /* the longest first */
    const int64_t stop = t + TILE < j.n ? t + TILE : j.n;
    float sum[PER][C];
    clear<C>(sum);
    for (int64_t key = key_begin(j, t); key < stop; key += TILE) {
        float p[PER][PER], ds[PER][PER];
        score_gradient(j, g, h, t, key, stop, p, ds, &m);
        store_scores(ds, &m);
        add_sums<C, false>(sum, key_rows(j, j.k, h, key, stop), col, d, &m);
    }
    add_to<C>(g.dq + (int64_t)h * d, j.q_ld, t, j.n, col, d, sum);
}

/* ---- dk and dv ------------------------------------------------------------------------------ */

/* The queries of head h that see keys [key, key + 64): none before `key`, and once one begins
 * behind them, so do all later ones. */
template <int C, typename T>
static __device__ inline void add_key_sums(const attention_job<T> &j, const attention_grad<T> &g,
                                           int h, int64_t key, int col, float dk[PER][C],
                                           float dv[PER][C], tile_memory *m) {
    for (int64_t t = key; t < j.n && key_begin(j, t) < key + TILE; t += TILE) {
        float p[PER][PER], ds[PER][PER];
        score_gradient(j, g, h, t, key, j.n, p, ds, m);
        store_scores(p, m);
        add_sums<C, true>(dv, query_rows(j, g.dout, h, t), col, j.head_dim, m);
        store_scores(ds, m);
        add_sums<C, true>(dk, query_rows(j, j.q, h, t), col, j.head_dim, m);
    }
}

template <int C, typename T>
static __global__ void __launch_bounds__(TILE_THREADS, C > 4 ? 1 : 2)
    key_gradient(attention_job<T> j, attention_grad<T> g) {
    __shared__ tile_memory m;
    const int kv = (int)blockIdx.y, group = j.n_head / j.n_head_kv, d = j.head_dim;
    const int col = (int)blockIdx.z * 16 * C;
    const int64_t key = (int64_t)blockIdx.x * TILE;
    float dk[PER][C], dv[PER][C];
    clear<C>(dk);
    clear<C>(dv);
    for (int h = kv * group; h < (kv + 1) * group; h++)
        add_key_sums<C>(j, g, h, key, col, dk, dv, &m);
    if (g.dk) add_to<C>(g.dk + (int64_t)kv * d, j.kv_ld, key, j.n, col, d, dk);
    if (g.dv) add_to<C>(g.dv + (int64_t)kv * d, j.kv_ld, key, j.n, col, d, dv);
}

/* ---- launching ------------------------------------------------------------------------------ */

template <int C, typename T>
static void launch(lq_dev *dev, void (*kernel)(attention_job<T>, attention_grad<T>), int heads,
                   const attention_job<T> &j, const attention_grad<T> &g) {
    const dim3 grid(lq_blocks(j.n, TILE), (unsigned)heads, lq_blocks(j.head_dim, 16 * C));
    lq_launch(dev, kernel, grid, TILE_THREADS, 0, j, g);
}

template <typename T>
static void backward(lq_dev *dev, const attention_job<T> &j, const attention_grad<T> &g) {
    const int d = j.head_dim;
    if (g.dq && d <= 64) launch<4>(dev, query_gradient<4, T>, j.n_head, j, g);
    else if (g.dq && d <= 128) launch<8>(dev, query_gradient<8, T>, j.n_head, j, g);
    else if (g.dq) launch<16>(dev, query_gradient<16, T>, j.n_head, j, g);
    if (!g.dk && !g.dv) return;
    if (d <= 64) launch<4>(dev, key_gradient<4, T>, j.n_head_kv, j, g);
    else launch<8>(dev, key_gradient<8, T>, j.n_head_kv, j, g);
}

void lq_attention_tile_backward(lq_dev *dev, const attention_job<float> &j,
                                const attention_grad<float> &g) {
    backward(dev, j, g);
}
void lq_attention_tile_backward(lq_dev *dev, const attention_job<lq_b16> &j,
                                const attention_grad<lq_b16> &g) {
    backward(dev, j, g);
}
