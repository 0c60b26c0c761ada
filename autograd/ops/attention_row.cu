/* attention on CUDA for generation: few queries, many keys in a cache. A block per query and head;
 * of its 8 warps each takes 4 keys at a time with an online softmax, and the block joins what they
 * found. Lane l holds the columns l, l + 32, ... of the head. */
#include "attention_cuda.h"

enum { ROW_WARPS = 8, ROW_THREADS = ROW_WARPS * LQ_WARP, KEYS = 4 };

/* What a warp has seen; C columns of the head per lane. */
template <int C> struct row_state {
    float max, sum, out[C];
};

/* x (d) at this lane's columns, beyond them 0. */
template <int C, typename T>
static __device__ __forceinline__ void load_lane(float to[C], const T *x, int d) {
    for (int c = 0; c < C; c++) {
        const int col = lq_lane() + c * LQ_WARP;
        to[c] = col < d ? lq_to_float(x[col]) : 0;
    }
}

/* Adds keys [key, key + KEYS) below stop; k and v at the head. */
template <int C, typename J>
static __device__ __forceinline__ void add_keys(const J &j, const float q[C], const float *k,
                                                const float *v, int64_t key, int64_t stop,
                                                float slope, row_state<C> *state) {
    float s[KEYS], x[C], most = state->max;
    for (int i = 0; i < KEYS; i++) {
        s[i] = 0;
        if (key + i < stop) load_lane<C>(x, k + (key + i) * j.kv_ld, j.head_dim);
        for (int c = 0; c < C && key + i < stop; c++) s[i] += q[c] * x[c];
    }
    for (int i = 0; i < KEYS; i++) {
        s[i] = lq_warp_sum(s[i]) * j.scale + slope * (float)(key + i + 1 - stop);
        if (j.softcap > 0) s[i] = j.softcap * tanhf(s[i] / j.softcap);
        if (key + i >= stop) s[i] = -INFINITY;
        most = fmaxf(most, s[i]);
    }
    const float shrink = expf(state->max - most);
    state->max = most;
    state->sum *= shrink;
    for (int c = 0; c < C; c++) state->out[c] *= shrink;
    for (int i = 0; i < KEYS && key + i < stop; i++) {
        const float p = expf(s[i] - most);
        load_lane<C>(x, v + (key + i) * j.kv_ld, j.head_dim);
        state->sum += p;
        for (int c = 0; c < C; c++) state->out[c] += p * x[c];
    }
}

/* The block's output of all warps' states, in the warps' order. */
template <int C, typename T>
static __device__ void join(const attention_job<T, float> &j, int64_t t, int h,
                            const row_state<C> &state) {
    __shared__ float max[ROW_WARPS], sum[ROW_WARPS], out[ROW_WARPS][C * LQ_WARP];
    const int warp = (int)threadIdx.x / LQ_WARP;
    if (lq_lane() == 0) {
        max[warp] = state.max;
        sum[warp] = state.sum;
    }
    for (int c = 0; c < C; c++) out[warp][lq_lane() + c * LQ_WARP] = state.out[c];
    __syncthreads();
    float most = max[0], total = 0, share[ROW_WARPS];
    for (int w = 1; w < ROW_WARPS; w++) most = fmaxf(most, max[w]);
    for (int w = 0; w < ROW_WARPS; w++) {
        share[w] = expf(max[w] - most);
        total += sum[w] * share[w];
    }
    for (int col = (int)threadIdx.x; col < j.head_dim; col += ROW_THREADS) {
        float x = 0;
        for (int w = 0; w < ROW_WARPS; w++) x += out[w][col] * share[w];
        j.out[t * j.q_ld + (int64_t)h * j.head_dim + col] = lq_from_float<T>(x / total);
    }
    if (threadIdx.x == 0) j.lse[t * j.n_head + h] = most + logf(total);
}

template <int C, typename T>
static __global__ void attend_row(attention_job<T, float> j) {
    const int h = (int)blockIdx.y;
    const int64_t t = blockIdx.x, head = (int64_t)kv_head(j, h) * j.head_dim, stop = j.past + t + 1;
    const float slope = alibi_slope(j, h);
    row_state<C> state = {-INFINITY, 0, {}};
    float q[C];
    load_lane<C>(q, j.q + t * j.q_ld + (int64_t)h * j.head_dim, j.head_dim);
    for (int64_t key = key_begin(j, t) + threadIdx.x / LQ_WARP * KEYS; key < stop;
         key += ROW_WARPS * KEYS)
        add_keys<C>(j, q, j.k + head, j.v + head, key, stop, slope, &state);
    join<C>(j, t, h, state);
}

template <typename T> static void forward(lq_dev *dev, const attention_job<T, float> &j) {
    const dim3 grid((unsigned)j.n, (unsigned)j.n_head);
    if (j.head_dim <= 64) lq_launch(dev, attend_row<2, T>, grid, ROW_THREADS, 0, j);
    else if (j.head_dim <= 128) lq_launch(dev, attend_row<4, T>, grid, ROW_THREADS, 0, j);
    else lq_launch(dev, attend_row<8, T>, grid, ROW_THREADS, 0, j);
}

void lq_attention_row_forward(lq_dev *dev, const attention_job<float> &j) { forward(dev, j); }
void lq_attention_row_forward(lq_dev *dev, const attention_job<lq_b16, float> &j) {
    forward(dev, j);
}
