/* attention on CUDA, forward, on tensor cores: 64 queries of a head a block, 64 keys at a time, D the head
 * size that fits (attention_mma.h). */
#include "attention_mma.h"

enum { KEYS = 64, KEY_TILES = KEYS / 8 };

/* A thread's two rows, in powers of 2. */
struct softmax_pair {
    float max[2], sum[2];
};

/* Over the 4 lanes that share rows. */
static __device__ __forceinline__ float quad_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
    return fmaxf(x, __shfl_xor_sync(~0u, x, 2));
}

static __device__ __forceinline__ float quad_sum(float x) {
    x += __shfl_xor_sync(~0u, x, 1);
    return x + __shfl_xor_sync(~0u, x, 2);
}

/* s = scores of products, -infinity where not seen; row_distance: first key - a row's query. */
static __device__ __forceinline__ void mask_scores(const score_rule &rule, const key_range seen[2],
                                                   const int row_distance[2],
                                                   float s[KEY_TILES][4]) {
#pragma unroll
    for (int n = 0; n < KEY_TILES; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int key = n * 8 + 2 * (lq_lane() % 4) + i % 2, row = i / 2;
            const bool inside = key >= seen[row].first && key <= seen[row].last;
            s[n][i] = inside ? score_of(rule, s[n][i], row_distance[row] + key) : -INFINITY;
        }
}

/* s becomes p relative to the new maximum; out is rescaled to it. */
template <int C>
static __device__ __forceinline__ void online_softmax(float s[KEY_TILES][4], softmax_pair *state,
                                                      float out[C][4]) {
#pragma unroll
    for (int row = 0; row < 2; row++) {
        float most = -INFINITY, added = 0;
#pragma unroll
        for (int n = 0; n < KEY_TILES; n++)
            most = fmaxf(most, fmaxf(s[n][2 * row], s[n][2 * row + 1]));
        most = fmaxf(state->max[row], quad_max(most));
        const float shift = most == -INFINITY ? 0 : most; /* nothing seen yet: p is 0 */
        const float shrink = exp2f(state->max[row] - shift);
#pragma unroll
        for (int n = 0; n < KEY_TILES; n++)
            for (int i = 2 * row; i < 2 * row + 2; i++) added += s[n][i] = exp2f(s[n][i] - shift);
        state->max[row] = most;
        state->sum[row] = state->sum[row] * shrink + quad_sum(added);
#pragma unroll
        for (int c = 0; c < C; c++)
            for (int i = 2 * row; i < 2 * row + 2; i++) out[c][i] *= shrink;
    }
}

template <int C>
static __device__ __forceinline__ void store_rows(const attention_job<lq_b16> &j, int h, int64_t t,
                                                  const softmax_pair &state,
                                                  const float out[C][4]) {
    const int l = lq_lane();
#pragma unroll
    for (int row = 0; row < 2; row++) {
        const int64_t at = t + l / 4 + 8 * row;
        if (at >= j.n) return;
        const float share = 1 / state.sum[row];
        lq_b16 *const to = j.out + at * j.q_ld + (int64_t)h * j.head_dim + 2 * (l % 4);
#pragma unroll
        for (int c = 0; c < C; c++)
            if (c * 8 < j.head_dim)
                *(uint32_t *)(to + c * 8) = lq_pack_b16(out[c][2 * row] * share,
                                                        out[c][2 * row + 1] * share);
        if (l % 4 == 0)
            j.lse[at * j.n_head + h] = (state.max[row] + log2f(state.sum[row])) / log2_e;
    }
}

template <int D>
static __global__ void __launch_bounds__(MMA_THREADS) attend_mma(attention_job<lq_b16> j) {
    lq_dynamic_shared(lq_b16, q);
    lq_b16 *const k = q + OWNED * row_ld<D>(), *const v = k + KEYS * row_ld<D>();
    const int h = (int)blockIdx.y, d = j.head_dim, warp = (int)threadIdx.x / 32;
    const int64_t t = (int64_t)(gridDim.x - 1 - blockIdx.x) * OWNED; /* the longest first */
    const int64_t stop = j.past + (t + OWNED < j.n ? t + OWNED : j.n);
    const int64_t row = t + warp * OWNED_WARP, head = (int64_t)kv_head(j, h) * d;
    const score_rule rule = rule_of(j, h);
    softmax_pair state = {{-INFINITY, -INFINITY}, {0, 0}};
    float out[D / 8][4] = {};
    load_rows<OWNED, D>(q, j.q + (int64_t)h * d, j.q_ld, t, j.n, d);
    for (int64_t key = key_begin(j, t); key < stop; key += KEYS) {
        __syncthreads(); /* the last block's keys are done with */
        load_rows<KEYS, D>(k, j.k + head, j.kv_ld, key, stop, d);
        load_rows<KEYS, D>(v, j.v + head, j.kv_ld, key, stop, d);
        __syncthreads();
        const int64_t mine = row + lq_lane() / 4;
        const key_range seen[2] = {range_of(j, mine, key), range_of(j, mine + 8, key)};
        const int distance = (int)(key - j.past - mine), distances[2] = {distance, distance - 8};
        float s[KEY_TILES][4];
        product_nt<KEY_TILES, D>(s, q + warp * OWNED_WARP * row_ld<D>(), k);
        mask_scores(rule, seen, distances, s);
        online_softmax<D / 8>(s, &state, out);
        product_nn<KEY_TILES, D / 8, D>(out, s, v);
    }
    store_rows<D / 8>(j, h, row, state, out);
}

void lq_attention_mma_forward(lq_dev *dev, const attention_job<lq_b16> &j) {
    const dim3 grid(lq_blocks(j.n, OWNED), (unsigned)j.n_head);
    by_head_size(j.head_dim, [&](auto size) {
        constexpr int D = decltype(size)::value;
        lq_launch(dev, attend_mma<D>, grid, MMA_THREADS, shared_bytes<D>(), j);
    });
}
