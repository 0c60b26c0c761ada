/* attention on CUDA, backward, on tensor cores, in a fixed order: a block owns 64 or 128 queries of
 * a head for dq, or keys of a key head for dk and dv, at most 128 columns of their sums, and goes
 * over the other side, 32 rows at a time. */
#include "attention_mma.h"

enum { OTHER = 32, N = OTHER / 8 };

/* M: tiles of 16 rows of a warp; C: tiles of 8 columns of the sums, half of those of the widest. */
template <int D> struct backward_shape {
    static constexpr int M = D > 64 ? 1 : 2, OWNED = MMA_WARPS * M * 16;
    static constexpr int STAGES = D > 128 ? 1 : 2, COLS = D > 128 ? D / 2 : D, C = COLS / 8;
    static constexpr size_t bytes = bytes_of_rows<D>(2 * OWNED + 2 * STAGES * OTHER);
    static_assert(bytes <= MMA_SHARED, "shared memory");
};

/* A query's saved numbers, the log-sum-exp in powers of 2. */
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

/* Of the products q.k in *p and dout.v in *ds: p and ds; `key` counts from the range's origin.
 * PLAIN: the key is seen and the rule is plain. */
template <bool PLAIN>
static __device__ __forceinline__ void differentiate(const score_rule &rule, float factor,
                                                     const query_state &query, int key,
                                                     int distance, float *p, float *ds) {
    if (PLAIN) {
        *p = lq_exp2(*p * rule.scale - query.lse);
        *ds = *p * (*ds - query.correction) * factor;
        return;
    }
    const bool seen = key >= query.seen.first && key <= query.seen.last;
    const float s = score_of(rule, *p, distance), r = rule.cap > 0 ? s / rule.cap : 0;
    *p = seen ? lq_exp2(s - query.lse) : 0;
    *ds = seen ? *p * (*ds - query.correction) * factor * (1 - r * r) : 0;
}

/* ---- dq -------------------------------------------------------------------------------------- */

/* Rows: a warp's queries from t on; columns: keys. */
template <bool PLAIN, int M>
static __device__ __forceinline__ void query_scores(const attention_job<lq_b16> &j,
                                                    const attention_grad<lq_b16> &g,
                                                    const score_rule &rule, int h, int64_t t,
                                                    int64_t key, float p[M][N][4],
                                                    float ds[M][N][4]) {
#pragma unroll
    for (int row = 0; row < 2 * M; row++) {
        const int64_t at = t + row * 8 + lq_lane() / 4;
        const query_state query = state_of(j, g.correction, h, at, key);
#pragma unroll
        for (int i = 0; i < 2 * N; i++) {
            const int col = i / 2 * 8 + 2 * (lq_lane() % 4) + i % 2, of = row % 2 * 2 + i % 2;
            differentiate<PLAIN>(rule, j.scale, query, col, (int)(key - at) + col,
                                 &p[row / 2][i / 2][of], &ds[row / 2][i / 2][of]);
        }
    }
}

template <int D>
static __global__ void __launch_bounds__(MMA_THREADS)
    query_gradient_mma(attention_job<lq_b16> j, attention_grad<lq_b16> g) {
    typedef backward_shape<D> S;
    const int ld = row_ld<D>(), h = (int)blockIdx.y, d = j.head_dim;
    const int first = (int)threadIdx.x / 32 * S::M * 16, col = (int)blockIdx.z * S::COLS;
    lq_dynamic_shared(lq_b16, q);
    lq_b16 *const dout = q + S::OWNED * ld;
    const int64_t t = (int64_t)(gridDim.x - 1 - blockIdx.x) * S::OWNED; /* the longest first */
    const int64_t stop = t + S::OWNED < j.n ? t + S::OWNED : j.n;
    const int64_t head = (int64_t)kv_head(j, h) * d;
    const score_rule rule = rule_of(j, h);
    row_stream<OTHER, D, S::STAGES> keys = {dout + S::OWNED * ld, j.k + head, j.v + head, j.kv_ld,
                                            stop, d, 0};
    float sum[S::M][S::C][4] = {};
    copy_rows<S::OWNED, D>(q, j.q + (int64_t)h * d, j.q_ld, t, j.n, d);
    copy_rows<S::OWNED, D>(dout, g.dout + (int64_t)h * d, j.q_ld, t, j.n, d);
    keys.start(key_begin(j, t));
    for (int64_t key = key_begin(j, t); key < stop; key += OTHER) {
        const lq_b16 *const k = keys.take(key), *const v = k + OTHER * ld;
        float p[S::M][N][4], ds[S::M][N][4];
        product_nt<S::M, N, D>(p, q + first * ld, k);
        product_nt<S::M, N, D>(ds, dout + first * ld, v);
        if (rule.plain && sees_all(j, t + first, S::M * 16, key, OTHER))
            query_scores<true, S::M>(j, g, rule, h, t + first, key, p, ds);
        else
            query_scores<false, S::M>(j, g, rule, h, t + first, key, p, ds);
        product_nn<S::M, N, S::C, D>(sum, ds, k + col);
    }
    keys.finish();
    add_rows<S::M, S::C>(g.dq + (int64_t)h * d, j.q_ld, t + first, j.n, col, d, sum);
}

/* ---- dk and dv ------------------------------------------------------------------------------- */

/* Rows: a warp's keys from `key` on; columns: queries from t on. */
template <bool PLAIN, int M>
static __device__ __forceinline__ void key_scores(const attention_job<lq_b16> &j,
                                                  const attention_grad<lq_b16> &g,
                                                  const score_rule &rule, int h, int64_t t,
                                                  int64_t key, float p[M][N][4],
                                                  float ds[M][N][4]) {
#pragma unroll
    for (int i = 0; i < 2 * N; i++) {
        const int64_t at = t + i / 2 * 8 + 2 * (lq_lane() % 4) + i % 2;
        const query_state query = state_of(j, g.correction, h, at, key);
#pragma unroll
        for (int row = 0; row < 2 * M; row++) {
            const int from = row * 8 + lq_lane() / 4, of = row % 2 * 2 + i % 2;
            differentiate<PLAIN>(rule, j.scale, query, from, (int)(key - at) + from,
                                 &p[row / 2][i / 2][of], &ds[row / 2][i / 2][of]);
        }
    }
}

/* Adds what the queries of head h give: none before `key`, and once one begins behind the block's
 * keys, so do all later ones. own: the block's rows of k, and of v OWNED rows behind. */
template <int D>
static __device__ __forceinline__ void
add_key_sums(const attention_job<lq_b16> &j, const attention_grad<lq_b16> &g, int h, int64_t key,
             int col, lq_b16 *own, float dk[][backward_shape<D>::C][4],
             float dv[][backward_shape<D>::C][4]) {
    typedef backward_shape<D> S;
    const int ld = row_ld<D>(), first = (int)threadIdx.x / 32 * S::M * 16;
    const int64_t head = (int64_t)h * j.head_dim;
    const score_rule rule = rule_of(j, h);
    row_stream<OTHER, D, S::STAGES> queries = {own + 2 * S::OWNED * ld, j.q + head, g.dout + head,
                                               j.q_ld, j.n, j.head_dim, 0};
    __syncthreads(); /* everyone is done with the last head's queries */
    queries.start(key);
    for (int64_t t = key; t < j.n && key_begin(j, t) < key + S::OWNED; t += OTHER) {
        const lq_b16 *const q = queries.take(t), *const dout = q + OTHER * ld;
        float p[S::M][N][4], ds[S::M][N][4];
        product_nt<S::M, N, D>(p, own + first * ld, q);
        product_nt<S::M, N, D>(ds, own + (S::OWNED + first) * ld, dout);
        if (rule.plain && sees_all(j, t, OTHER, key + first, S::M * 16))
            key_scores<true, S::M>(j, g, rule, h, t, key + first, p, ds);
        else
            key_scores<false, S::M>(j, g, rule, h, t, key + first, p, ds);
        product_nn<S::M, N, S::C, D>(dv, p, dout + col);
        product_nn<S::M, N, S::C, D>(dk, ds, q + col);
    }
    queries.finish();
}

template <int D>
static __global__ void __launch_bounds__(MMA_THREADS)
    key_gradient_mma(attention_job<lq_b16> j, attention_grad<lq_b16> g) {
    typedef backward_shape<D> S;
    const int kv = (int)blockIdx.y, group = j.n_head / j.n_head_kv, d = j.head_dim;
    const int first = (int)threadIdx.x / 32 * S::M * 16, col = (int)blockIdx.z * S::COLS;
    const int64_t key = (int64_t)blockIdx.x * S::OWNED, head = (int64_t)kv * d;
    lq_dynamic_shared(lq_b16, k);
    float dk[S::M][S::C][4] = {}, dv[S::M][S::C][4] = {};
    copy_rows<S::OWNED, D>(k, j.k + head, j.kv_ld, key, j.n, d);
    copy_rows<S::OWNED, D>(k + S::OWNED * row_ld<D>(), j.v + head, j.kv_ld, key, j.n, d);
    for (int h = kv * group; h < (kv + 1) * group; h++)
        add_key_sums<D>(j, g, h, key, col, k, dk, dv);
    if (g.dk) add_rows<S::M, S::C>(g.dk + head, j.kv_ld, key + first, j.n, col, d, dk);
    if (g.dv) add_rows<S::M, S::C>(g.dv + head, j.kv_ld, key + first, j.n, col, d, dv);
}

/* ---- launching ------------------------------------------------------------------------------- */

void lq_attention_mma_backward(lq_dev *dev, const attention_job<lq_b16> &j,
                               const attention_grad<lq_b16> &g) {
    by_head_size(j.head_dim, [&](auto size) {
        constexpr int D = decltype(size)::value;
        typedef backward_shape<D> S;
        const unsigned blocks = lq_blocks(j.n, S::OWNED), parts = lq_blocks(j.head_dim, S::COLS);
        if (g.dq)
            lq_launch(dev, query_gradient_mma<D>, dim3(blocks, (unsigned)j.n_head, parts),
                      MMA_THREADS, S::bytes, j, g);
        if (g.dk || g.dv)
            lq_launch(dev, key_gradient_mma<D>, dim3(blocks, (unsigned)j.n_head_kv, parts),
                      MMA_THREADS, S::bytes, j, g);
    });
}
