/* attention on CUDA, forward, on tensor cores: a block owns 128 queries of a head, 64 of the
 * widest, and goes over the keys with an online softmax (attention_mma.h). There are no caches
 * here: query t's own key is row t. */
#include "attention_mma.h"

/* Of a warp: tiles of 16 queries; keys at a time, and their tiles. */
template <int D> struct forward_shape {
    static constexpr int M = D > 128 ? 1 : 2, OWNED = MMA_WARPS * M * 16;
    static constexpr int KEYS = D > 96 ? 32 : 64, N = KEYS / 8;
    static constexpr size_t bytes = bytes_of_rows<D>(OWNED + 2 * 2 * KEYS);
    static_assert(bytes <= MMA_SHARED, "shared memory");
};

/* A thread's rows: l / 4 and l / 4 + 8 of each tile. Maxima are in powers of 2. */
template <int M> struct softmax_rows {
    float max[M][2], sum[M][2];
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

/* s = scores of products, -infinity where not seen. */
template <int M, int N>
static __device__ __forceinline__ void make_scores(const attention_job<lq_b16> &j,
                                                   const score_rule &rule, int64_t t, int64_t key,
                                                   float s[M][N][4]) {
    if (rule.plain && sees_all(j, t, 16 * M, key, 8 * N)) {
#pragma unroll
        for (int i = 0; i < M * N * 4; i++) s[i / 4 / N][i / 4 % N][i % 4] *= rule.scale;
        return;
    }
#pragma unroll
    for (int row = 0; row < 2 * M; row++) {
        const int64_t query = t + row * 8 + lq_lane() / 4;
        const key_range seen = range_of(j, query, key);
        const int distance = (int)(key - query);
#pragma unroll
        for (int i = 0; i < 2 * N; i++) {
            const int at = i / 2 * 8 + 2 * (lq_lane() % 4) + i % 2;
            float *const x = &s[row / 2][i / 2][row % 2 * 2 + i % 2];
            *x = at >= seen.first && at <= seen.last ? score_of(rule, *x, distance + at)
                                                     : -INFINITY;
        }
    }
}

/* s becomes p relative to the new maximum; out is rescaled to it. */
template <int M, int N, int C>
static __device__ __forceinline__ void online_softmax(float s[M][N][4], softmax_rows<M> *state,
                                                      float out[M][C][4]) {
#pragma unroll
    for (int row = 0; row < 2 * M; row++) {
        const int m = row / 2, of = row % 2;
        float most = -INFINITY, added = 0;
#pragma unroll
        for (int n = 0; n < N; n++)
            most = fmaxf(most, fmaxf(s[m][n][2 * of], s[m][n][2 * of + 1]));
        most = fmaxf(state->max[m][of], quad_max(most));
        const float shift = most == -INFINITY ? 0 : most; /* nothing seen yet: p is 0 */
        const float shrink = lq_exp2(state->max[m][of] - shift);
#pragma unroll
        for (int i = 0; i < 2 * N; i++) {
            float *const x = &s[m][i / 2][2 * of + i % 2];
            added += *x = lq_exp2(*x - shift);
        }
        state->max[m][of] = most;
        state->sum[m][of] = state->sum[m][of] * shrink + added;
#pragma unroll
        for (int i = 0; i < 2 * C; i++) out[m][i / 2][2 * of + i % 2] *= shrink;
    }
}

/* A warp's rows of the output and of the log-sum-exp. */
template <int M, int C>
static __device__ __forceinline__ void store_rows(const attention_job<lq_b16> &j, int h, int64_t t,
                                                  const softmax_rows<M> &state,
                                                  const float out[M][C][4]) {
    const int l = lq_lane();
#pragma unroll
    for (int row = 0; row < 2 * M; row++) {
        const int m = row / 2, of = row % 2;
        const int64_t at = t + row * 8 + l / 4;
        const float sum = quad_sum(state.sum[m][of]), share = 1 / sum;
        if (at >= j.n) continue;
        lq_b16 *const to = j.out + at * j.q_ld + (int64_t)h * j.head_dim + 2 * (l % 4);
#pragma unroll
        for (int c = 0; c < C; c++)
            if (c * 8 < j.head_dim)
                *(uint32_t *)(to + c * 8) =
                    lq_pack_b16(out[m][c][2 * of] * share, out[m][c][2 * of + 1] * share);
        if (l % 4 == 0) j.lse[at * j.n_head + h] = (state.max[m][of] + log2f(sum)) / log2_e;
    }
}

template <int D>
static __global__ void __launch_bounds__(MMA_THREADS) attend_mma(attention_job<lq_b16> j) {
    typedef forward_shape<D> S;
    lq_dynamic_shared(lq_b16, q);
    const int h = (int)blockIdx.y, d = j.head_dim, first = (int)threadIdx.x / 32 * S::M * 16;
    const int64_t t = (int64_t)(gridDim.x - 1 - blockIdx.x) * S::OWNED; /* the longest first */
    const int64_t stop = t + S::OWNED < j.n ? t + S::OWNED : j.n;
    const int64_t head = (int64_t)kv_head(j, h) * d;
    const score_rule rule = rule_of(j, h);
    row_stream<S::KEYS, D, 2> keys = {q + S::OWNED * row_ld<D>(), j.k + head, j.v + head, j.kv_ld,
                                      stop, d, 0};
    softmax_rows<S::M> state;
    float out[S::M][D / 8][4] = {};
    for (int i = 0; i < 2 * S::M; i++) {
        state.max[i / 2][i % 2] = -INFINITY;
        state.sum[i / 2][i % 2] = 0;
    }
    copy_rows<S::OWNED, D>(q, j.q + (int64_t)h * d, j.q_ld, t, j.n, d);
    keys.start(key_begin(j, t));
    for (int64_t key = key_begin(j, t); key < stop; key += S::KEYS) {
        const lq_b16 *const k = keys.take(key), *const v = k + S::KEYS * row_ld<D>();
        float s[S::M][S::N][4];
        product_nt<S::M, S::N, D>(s, q + first * row_ld<D>(), k);
        make_scores<S::M, S::N>(j, rule, t + first, key, s);
        online_softmax<S::M, S::N, D / 8>(s, &state, out);
        product_nn<S::M, S::N, D / 8, D>(out, s, v);
    }
    keys.finish();
    store_rows<S::M, D / 8>(j, h, t + first, state, out);
}

void lq_attention_mma_forward(lq_dev *dev, const attention_job<lq_b16> &j) {
    by_head_size(j.head_dim, [&](auto size) {
        typedef forward_shape<decltype(size)::value> S;
        lq_launch(dev, attend_mma<decltype(size)::value>,
                  dim3(lq_blocks(j.n, S::OWNED), (unsigned)j.n_head), MMA_THREADS, S::bytes, j);
    });
}
