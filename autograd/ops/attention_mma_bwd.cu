/* attention on CUDA, backward, on tensor cores, in a fixed order: a block owns 64 queries of a head for dq,
 * 64 keys of a key head for dk and dv, and at most 128 columns of their sums, and goes over 32 rows
 * of the other side at a time. */
#include "attention_mma.h"

enum { OTHER = 32, OTHER_TILES = OTHER / 8 };

/* Columns of the sums that a block owns: half of those of the widest heads. */
template <int D> static __device__ __host__ constexpr int sum_cols() { return D > 128 ? D / 2 : D; }

/* A query's saved numbers, in powers of 2. */
struct query_state {
    key_range seen;
    float lse, correction;
};

static __device__ __forceinline__ query_state state_of(const attention_job<lq_b16> &j,
                                                       const float *correction, int h, int64_t t,
                                                       int64_t key) {
    const bool inside = t < j.n;
    return {range_of(j, t, key), inside ? j.lse[t * j.n_head + h] * log2_e : 0,
            inside ? correction[t * j.n_head + h] : 0};
}

/* Of a product q.k and dout.v: p, and ds in *dp's place. `key` counts from the range's first key. */
static __device__ __forceinline__ float probability(const score_rule &rule, float factor,
                                                    const query_state &query, int key,
                                                    int distance, float product, float *dp) {
    const bool seen = key >= query.seen.first && key <= query.seen.last;
    const float s = score_of(rule, product, distance), r = rule.cap > 0 ? s / rule.cap : 0;
    const float p = seen ? exp2f(s - query.lse) : 0;
    *dp = seen ? p * (*dp - query.correction) * factor * (1 - r * r) : 0;
    return p;
}

/* ---- dq ------------------------------------------------------------------------------------- */

template <int D>
static __global__ void __launch_bounds__(MMA_THREADS)
    query_gradient_mma(attention_job<lq_b16> j, attention_grad<lq_b16> g) {
    const int ld = row_ld<D>(), C = sum_cols<D>() / 8;
    lq_dynamic_shared(lq_b16, q);
    lq_b16 *const dout = q + OWNED * ld, *const k = dout + OWNED * ld, *const v = k + OTHER * ld;
    const int h = (int)blockIdx.y, d = j.head_dim, warp = (int)threadIdx.x / 32;
    const int first = warp * OWNED_WARP, col = (int)blockIdx.z * sum_cols<D>();
    const int64_t t = (int64_t)(gridDim.x - 1 - blockIdx.x) * OWNED; /* the longest first */
    const int64_t stop = t + OWNED < j.n ? t + OWNED : j.n, mine = t + first + lq_lane() / 4;
    const int64_t head = (int64_t)kv_head(j, h) * d;
    const score_rule rule = rule_of(j, h);
    float sum[C][4] = {};
    load_rows<OWNED, D>(q, j.q + (int64_t)h * d, j.q_ld, t, j.n, d);
    load_rows<OWNED, D>(dout, g.dout + (int64_t)h * d, j.q_ld, t, j.n, d);
    for (int64_t key = key_begin(j, t); key < stop; key += OTHER) {
        __syncthreads(); /* the last block's keys are done with */
        load_rows<OTHER, D>(k, j.k + head, j.kv_ld, key, stop, d);
        load_rows<OTHER, D>(v, j.v + head, j.kv_ld, key, stop, d);
        __syncthreads();
        const query_state query[2] = {state_of(j, g.correction, h, mine, key),
                                      state_of(j, g.correction, h, mine + 8, key)};
        float s[OTHER_TILES][4], ds[OTHER_TILES][4];
        product_nt<OTHER_TILES, D>(s, q + first * ld, k);
        product_nt<OTHER_TILES, D>(ds, dout + first * ld, v);
#pragma unroll
        for (int n = 0; n < OTHER_TILES; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int at = n * 8 + 2 * (lq_lane() % 4) + i % 2;
                const int distance = (int)(key - mine) + at - i / 2 * 8;
                probability(rule, j.scale, query[i / 2], at, distance, s[n][i], &ds[n][i]);
            }
        product_nn<OTHER_TILES, C, D>(sum, ds, k + col);
    }
    add_rows<C>(g.dq + (int64_t)h * d, j.q_ld, t + first, j.n, col, d, sum);
}

/* ---- dk and dv ------------------------------------------------------------------------------ */

/* p and ds of 16 keys (rows) and the queries from t on (columns). */
static __device__ __forceinline__ void key_scores(const attention_job<lq_b16> &j,
                                                  const float *correction, int h, int64_t t,
                                                  int64_t key, float p[OTHER_TILES][4],
                                                  float ds[OTHER_TILES][4]) {
    const score_rule rule = rule_of(j, h);
#pragma unroll
    for (int n = 0; n < OTHER_TILES; n++)
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int64_t row = t + n * 8 + 2 * (lq_lane() % 4) + i;
            const query_state query = state_of(j, correction, h, row, key);
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int at = lq_lane() / 4 + 8 * half, distance = (int)(key - row) + at;
                float *const x = &p[n][i + 2 * half];
                *x = probability(rule, j.scale, query, at, distance, *x, &ds[n][i + 2 * half]);
            }
        }
}

template <int D>
static __global__ void __launch_bounds__(MMA_THREADS)
    key_gradient_mma(attention_job<lq_b16> j, attention_grad<lq_b16> g) {
    const int ld = row_ld<D>(), C = sum_cols<D>() / 8;
    lq_dynamic_shared(lq_b16, k);
    lq_b16 *const v = k + OWNED * ld, *const q = v + OWNED * ld, *const dout = q + OTHER * ld;
    const int kv = (int)blockIdx.y, group = j.n_head / j.n_head_kv, d = j.head_dim;
    const int first = (int)threadIdx.x / 32 * OWNED_WARP, col = (int)blockIdx.z * sum_cols<D>();
    const int64_t key = (int64_t)blockIdx.x * OWNED;
    float dk[C][4] = {}, dv[C][4] = {};
    load_rows<OWNED, D>(k, j.k + (int64_t)kv * d, j.kv_ld, key, j.n, d);
    load_rows<OWNED, D>(v, j.v + (int64_t)kv * d, j.kv_ld, key, j.n, d);
    for (int h = kv * group; h < (kv + 1) * group; h++)
        for (int64_t t = key; t < j.n && key_begin(j, t) < key + OWNED; t += OTHER) {
            __syncthreads(); /* the last block's queries are done with */
            load_rows<OTHER, D>(q, j.q + (int64_t)h * d, j.q_ld, t, j.n, d);
            load_rows<OTHER, D>(dout, g.dout + (int64_t)h * d, j.q_ld, t, j.n, d);
            __syncthreads();
            float p[OTHER_TILES][4], ds[OTHER_TILES][4];
            product_nt<OTHER_TILES, D>(p, k + first * ld, q);
            product_nt<OTHER_TILES, D>(ds, v + first * ld, dout);
            key_scores(j, g.correction, h, t, key + first, p, ds);
            product_nn<OTHER_TILES, C, D>(dv, p, dout + col);
            product_nn<OTHER_TILES, C, D>(dk, ds, q + col);
        }
    if (g.dk) add_rows<C>(g.dk + (int64_t)kv * d, j.kv_ld, key + first, j.n, col, d, dk);
    if (g.dv) add_rows<C>(g.dv + (int64_t)kv * d, j.kv_ld, key + first, j.n, col, d, dv);
}

/* ---- launching ------------------------------------------------------------------------------ */

void lq_attention_mma_backward(lq_dev *dev, const attention_job<lq_b16> &j,
                               const attention_grad<lq_b16> &g) {
    by_head_size(j.head_dim, [&](auto size) {
        constexpr int D = decltype(size)::value;
        const unsigned blocks = lq_blocks(j.n, OWNED), parts = lq_blocks(j.head_dim, sum_cols<D>());
        if (g.dq)
            lq_launch(dev, query_gradient_mma<D>, dim3(blocks, (unsigned)j.n_head, parts),
                      MMA_THREADS, shared_bytes<D>(), j, g);
        if (g.dk || g.dv)
            lq_launch(dev, key_gradient_mma<D>, dim3(blocks, (unsigned)j.n_head_kv, parts),
                      MMA_THREADS, shared_bytes<D>(), j, g);
    });
}
