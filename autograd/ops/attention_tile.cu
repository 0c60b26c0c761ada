/* attention on CUDA, forward, in f32: a block of threads per 64 queries of a head (and, for heads
 * wider than 256, per 256 columns of the output) goes over the keys 64 at a time with an online
 * softmax. */
#include "attention_tile.h"

struct softmax_rows {
    float max[PER], sum[PER];
};

/* Over the 16 threads that share rows; all get the result. */
static __device__ inline float row_max(float x) {
    for (int width = 8; width > 0; width /= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, width));
    return x;
}

static __device__ inline float row_sum(float x) {
    for (int width = 8; width > 0; width /= 2) x += __shfl_xor_sync(~0u, x, width);
    return x;
}

/* s becomes p relative to the new maximum; sums are rescaled to it. */
template <int C, typename J>
static __device__ inline void online_softmax(const J &j, const score_place &at, float s[PER][PER],
                                             softmax_rows *state, float sum[PER][C]) {
    for (int i = 0; i < PER; i++) {
        float most = -INFINITY, added = 0;
        for (int c = 0; c < PER; c++)
            if (sees(j, at, i, c)) most = fmaxf(most, s[i][c]);
        most = fmaxf(state->max[i], row_max(most));
        const float shrink = most > state->max[i] ? expf(state->max[i] - most) : 1;
        for (int c = 0; c < PER; c++) {
            s[i][c] = sees(j, at, i, c) ? expf(s[i][c] - most) : 0;
            added += s[i][c];
        }
        state->max[i] = most;
        state->sum[i] = state->sum[i] * shrink + row_sum(added);
        for (int c = 0; c < C; c++) sum[i][c] *= shrink;
    }
}

template <int C, typename T, typename KV>
static __device__ inline void store_out(const attention_job<T, KV> &j, int h, int64_t t, int col,
                                        const softmax_rows &state, const float sum[PER][C]) {
    for (int i = 0; i < PER; i++) {
        const int64_t row = t + tile_row() + i;
        if (row >= j.n) return;
        T *const out = j.out + row * j.q_ld + (int64_t)h * j.head_dim;
        for (int c = 0; c < C; c++) {
            const int at = col + sum_col(c);
            if (at < j.head_dim) out[at] = lq_from_float<T>(sum[i][c] / state.sum[i]);
        }
        if (blockIdx.z == 0 && tile_col() == 0)
            j.lse[row * j.n_head + h] = state.max[i] + logf(state.sum[i]);
    }
}

template <int C, typename T, typename KV>
static __global__ void __launch_bounds__(TILE_THREADS, C > 8 ? 1 : 2)
    attend(attention_job<T, KV> j) {
    __shared__ tile_memory m;
    const int h = (int)blockIdx.y, col = (int)blockIdx.z * 16 * C;
    const int64_t t = (int64_t)(gridDim.x - 1 - blockIdx.x) * TILE; /* the longest first */
    const int64_t stop = j.past + (t + TILE < j.n ? t + TILE : j.n);
    const head_rows<T> q = query_rows(j, j.q, h, t);
    const float slope = alibi_slope(j, h);
    softmax_rows state;
    float sum[PER][C];
    clear<C>(sum);
    for (int i = 0; i < PER; i++) {
        state.max[i] = -INFINITY;
        state.sum[i] = 0;
    }
    for (int64_t key = key_begin(j, t); key < stop; key += TILE) {
        const score_place at = place_of(j, t, key);
        float s[PER][PER];
        make_scores(j, q, key_rows(j, j.k, h, key, stop), at, slope, s, &m);
        online_softmax<C>(j, at, s, &state, sum);
        store_scores(s, &m);
        add_sums<C, false>(sum, key_rows(j, j.v, h, key, stop), col, j.head_dim, &m);
    }
    store_out<C>(j, h, t, col, state, sum);
}

template <int C, typename T, typename KV>
static void launch(lq_dev *dev, const attention_job<T, KV> &j) {
    const dim3 grid(lq_blocks(j.n, TILE), (unsigned)j.n_head, lq_blocks(j.head_dim, 16 * C));
    lq_launch(dev, attend<C, T, KV>, grid, TILE_THREADS, 0, j);
}

template <typename T, typename KV>
static void forward(lq_dev *dev, const attention_job<T, KV> &j) {
    if (j.head_dim <= 64) launch<4>(dev, j);
    else if (j.head_dim <= 128) launch<8>(dev, j);
    else launch<16>(dev, j);
}

void lq_attention_tile_forward(lq_dev *dev, const attention_job<float> &j) { forward(dev, j); }
void lq_attention_tile_forward(lq_dev *dev, const attention_job<lq_b16> &j) { forward(dev, j); }
void lq_attention_tile_forward(lq_dev *dev, const attention_job<lq_b16, float> &j) {
    forward(dev, j);
}
