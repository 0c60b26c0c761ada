/* See experts_cuda.h. */
#include "experts_cuda.h"
#include "pack.h"

size_t lq_expert_lists_lay_out(lq_expert_lists *l, int64_t n, int64_t n_experts, char *base) {
    const size_t few = lq_align64((size_t)n_experts * sizeof(int32_t));
    const size_t many = lq_align64((size_t)(n * n_experts) * sizeof(int32_t));
    if (base) {
        l->count = (int32_t *)base;
        l->offset = (int32_t *)(base + few);
        l->token = (int32_t *)(base + 2 * few);
        l->expert = (int32_t *)(base + 2 * few + many);
        l->rank = (int32_t *)(base + 2 * few + 2 * many);
    }
    return 2 * few + 3 * many;
}

/* ---- the lists: a block per expert ----------------------------------------------------------- */

/* This expert's tokens before the thread's, among those of the block; *total: of the block. */
static __device__ int before(bool mine, int *total) {
    __shared__ int warp_count[LQ_BLOCK / LQ_WARP];
    const unsigned bits = __ballot_sync(~0u, mine);
    __syncthreads();   /* the last call's counts have been read */
    if (lq_lane() == 0) warp_count[threadIdx.x / LQ_WARP] = __popc(bits);
    __syncthreads();
    int at = __popc(bits & ((1u << lq_lane()) - 1));
    *total = 0;
    for (int i = 0; i < LQ_BLOCK / LQ_WARP; i++) {
        if (i < (int)threadIdx.x / LQ_WARP) at += warp_count[i];
        *total += warp_count[i];
    }
    return at;
}

template <typename T>
static __global__ void rank_kernel(int64_t n, const T *shares, int32_t *rank, int32_t *count) {
    const int64_t e = blockIdx.x, n_experts = gridDim.x;
    int so_far = 0;
    for (int64_t first = 0; first < n; first += LQ_BLOCK) {
        const int64_t t = first + threadIdx.x;
        const bool mine = t < n && lq_to_float(shares[t * n_experts + e]) != 0;
        int total;
        const int at = before(mine, &total);
        if (mine) rank[t * n_experts + e] = so_far + at;
        so_far += total;
    }
    if (threadIdx.x == 0) count[e] = so_far;
}

static __global__ void offset_kernel(int n_experts, const int32_t *count, int32_t *offset) {
    if (threadIdx.x != 0) return;
    int32_t sum = 0;
    for (int e = 0; e < n_experts; e++) {
        offset[e] = sum;
        sum += count[e];
    }
}

template <typename T>
static __global__ void list_kernel(int64_t n, int64_t n_experts, const T *shares,
                                   const int32_t *rank, const int32_t *offset, int32_t *token,
                                   int32_t *expert) {
    const int64_t i = lq_thread_first();
    if (i >= n * n_experts || lq_to_float(shares[i]) == 0) return;
    const int64_t e = i % n_experts, row = offset[e] + rank[i];
    token[row] = (int32_t)(i / n_experts);
    expert[row] = (int32_t)e;
}

lq_status lq_expert_lists_make(lq_dev *dev, const lq_expert_lists *l, const lq_tensor *shares,
                               int32_t *count) {
    const int64_t n = shares->dim[0], E = shares->dim[1];
    lq_by_activation(shares->fmt, [&](auto of) {
        typedef decltype(of) T;
        const T *const s = lq_data<T>(shares);
        lq_launch(dev, rank_kernel<T>, (unsigned)E, LQ_BLOCK, 0, n, s, l->rank, l->count);
        lq_launch(dev, offset_kernel, 1, LQ_WARP, 0, (int)E, l->count, l->offset);
        lq_launch(dev, list_kernel<T>, lq_blocks(n * E, LQ_BLOCK), LQ_BLOCK, 0, n, E, s, l->rank,
                  l->offset, l->token, l->expert);
    });
    dev->row->copy(dev, count, l->count, (size_t)E * sizeof *count);
    return dev->row->wait(dev);
}

/* ---- rows ------------------------------------------------------------------------------------ */

template <typename T, int W>
static __global__ void gather_kernel(int64_t n, int64_t cols, const int32_t *token, const T *x,
                                     T *to) {
    const int64_t at = lq_thread_first() * W;
    if (at < n * cols) lq_store<W>(to + at, lq_load<W>(x + token[at / cols] * cols + at % cols));
}

template <typename T, int W>
static __global__ void weigh_kernel(int64_t n, int64_t cols, int64_t n_experts,
                                    const int32_t *token, const int32_t *expert, const T *shares,
                                    T *x) {
    const int64_t at = lq_thread_first() * W, row = at / cols;
    if (row >= n) return;
    const float share = lq_to_float(shares[token[row] * n_experts + expert[row]]);
    lq_floats<W> v = lq_load<W>(x + at);
    for (int j = 0; j < W; j++) v.v[j] *= share;
    lq_store<W>(x + at, v);
}

template <typename T, int W>
static __global__ void combine_kernel(int64_t n, int64_t cols, int64_t n_experts,
                                      lq_expert_group g, const int32_t *offset,
                                      const int32_t *rank, const T *shares, bool weighted,
                                      const T *from, T *to) {
    const int64_t at = lq_thread_first() * W, t = at / cols;
    if (t >= n) return;
    lq_floats<W> sum = lq_load<W>(to + at);
    for (int64_t e = g.expert; e < g.end; e++) {
        const float share = lq_to_float(shares[t * n_experts + e]);
        if (share == 0) continue;
        const int64_t row = offset[e] + rank[t * n_experts + e] - g.first;
        const lq_floats<W> x = lq_load<W>(from + row * cols + at % cols);
        for (int j = 0; j < W; j++) sum.v[j] += (weighted ? share : 1) * x.v[j];
    }
    lq_store<W>(to + at, sum);
}

/* f(T(), lq_int<W>()) with the widest W that divides cols. */
template <typename F> static void by_width(const lq_format *type, int64_t cols, F f) {
    lq_by_activation(type, [&](auto of) {
        constexpr int W = lq_pack_width<decltype(of)>;
        if (cols % W == 0) f(of, std::integral_constant<int, W>());
        else f(of, std::integral_constant<int, 1>());
    });
}

void lq_expert_gather(lq_dev *dev, const lq_expert_lists *l, const lq_expert_group *g,
                      const lq_format *type, const void *x, int64_t cols, void *to) {
    by_width(type, cols, [&](auto of, auto width) {
        typedef decltype(of) T;
        constexpr int W = decltype(width)::value;
        lq_launch(dev, gather_kernel<T, W>, lq_blocks(g->n * cols, LQ_BLOCK * W), LQ_BLOCK, 0,
                  g->n, cols, l->token + g->first, (const T *)x, (T *)to);
    });
}

void lq_expert_weigh(lq_dev *dev, const lq_expert_lists *l, const lq_expert_group *g,
                     const lq_tensor *shares, void *x, int64_t cols) {
    by_width(shares->fmt, cols, [&](auto of, auto width) {
        typedef decltype(of) T;
        constexpr int W = decltype(width)::value;
        lq_launch(dev, weigh_kernel<T, W>, lq_blocks(g->n * cols, LQ_BLOCK * W), LQ_BLOCK, 0, g->n,
                  cols, shares->dim[1], l->token + g->first, l->expert + g->first,
                  lq_data<T>(shares), (T *)x);
    });
}

void lq_expert_combine(lq_dev *dev, const lq_expert_lists *l, const lq_expert_group *g,
                       const lq_tensor *shares, bool weighted, const void *from, int64_t cols,
                       void *to) {
    const int64_t n = shares->dim[0];
    by_width(shares->fmt, cols, [&](auto of, auto width) {
        typedef decltype(of) T;
        constexpr int W = decltype(width)::value;
        lq_launch(dev, combine_kernel<T, W>, lq_blocks(n * cols, LQ_BLOCK * W), LQ_BLOCK, 0, n,
                  cols, shares->dim[1], *g, l->offset, l->rank, lq_data<T>(shares), weighted,
                  (const T *)from, (T *)to);
    });
}
