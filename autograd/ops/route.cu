/* out (N,E): the shares of each token's n_used best experts; see route.c. A warp per token; expert
 * e is lane e % 32's. */
#include "kernels.h"

enum { ROWS = LQ_BLOCK / LQ_WARP, MAX_EXPERTS = 32 * LQ_WARP };

static __device__ const float smallest_sum = 6.103515625e-5f;   /* as in route.c */

namespace {
/* p_e is exp(x_e - most) / total. */
struct softmax { float most, total; };
}

template <typename T> static __device__ float share(const softmax &s, T x) {
    return expf(lq_to_float(x) - s.most) / s.total;
}

template <typename T> static __device__ softmax normaliser(const T *x, int n) {
    softmax s = {-INFINITY, 0};
    for (int e = lq_lane(); e < n; e += LQ_WARP) s.most = fmaxf(s.most, lq_to_float(x[e]));
    s.most = lq_warp_max(s.most);
    for (int e = lq_lane(); e < n; e += LQ_WARP) s.total += expf(lq_to_float(x[e]) - s.most);
    s.total = lq_warp_sum(s.total);
    return s;
}

/* The best expert that no lane has in `taken` (bit i: expert lane + 32 i); of equals the first, NaN
 * last, so that all lanes find the same. */
template <typename T> static __device__ int best_left(const T *x, int n, unsigned taken) {
    float best = -INFINITY;
    int at = n;
    for (int e = lq_lane(), i = 0; e < n; e += LQ_WARP, i++) {
        const float v = fmaxf(lq_to_float(x[e]), -INFINITY);
        if (taken >> i & 1 || (at < n && !(v > best))) continue;
        best = v;
        at = e;
    }
    for (int far = LQ_WARP / 2; far > 0; far /= 2) {
        const float v = __shfl_xor_sync(~0u, best, far);
        const int e = __shfl_xor_sync(~0u, at, far);
        if (at < n && (e >= n || v < best || (v == best && e > at))) continue;
        best = v;
        at = e;
    }
    return at;
}

template <typename T>
static __global__ void forward_kernel(int64_t rows, int n, lq_route_attr attr, const T *x, T *y) {
    const int64_t t = (int64_t)blockIdx.x * ROWS + threadIdx.x / LQ_WARP;
    if (t >= rows) return;
    x += t * n;
    y += t * n;
    const softmax s = normaliser(x, n);
    unsigned taken = 0;
    float sum = 0;
    for (int k = 0; k < attr.n_used; k++) {
        const int e = best_left(x, n, taken);
        sum += share(s, x[e]);
        if (e % LQ_WARP == lq_lane()) taken |= 1u << e / LQ_WARP;
    }
    const float by = attr.scale / (attr.normalise ? fmaxf(sum, smallest_sum) : 1);
    for (int e = lq_lane(), i = 0; e < n; e += LQ_WARP, i++)
        y[e] = lq_from_float<T>(taken >> i & 1 ? by * share(s, x[e]) : 0);
}

template <typename T>
static __global__ void backward_kernel(int64_t rows, int n, lq_route_attr attr, const T *x,
                                       const T *y, const T *dy, T *dx) {
    const int64_t t = (int64_t)blockIdx.x * ROWS + threadIdx.x / LQ_WARP;
    if (t >= rows) return;
    x += t * n;
    y += t * n;
    dy += t * n;
    dx += t * n;
    const softmax s = normaliser(x, n);
    float chosen = 0, mean = 0, sum = 0;
    for (int e = lq_lane(); e < n; e += LQ_WARP) {
        if (lq_to_float(y[e]) == 0) continue;
        chosen += share(s, x[e]);
        mean += lq_to_float(dy[e]) * lq_to_float(y[e]);
    }
    chosen = lq_warp_sum(chosen);
    mean = attr.normalise && chosen >= smallest_sum ? lq_warp_sum(mean) : 0;
    const float by = 1 / (attr.normalise ? fmaxf(chosen, smallest_sum) : 1);
    for (int e = lq_lane(); e < n; e += LQ_WARP)
        if (lq_to_float(y[e]) != 0)
            sum += (attr.scale * lq_to_float(dy[e]) - mean) * by * share(s, x[e]);
    sum = lq_warp_sum(sum);
    for (int e = lq_lane(); e < n; e += LQ_WARP) {
        const float dp =
            lq_to_float(y[e]) != 0 ? (attr.scale * lq_to_float(dy[e]) - mean) * by : 0;
        lq_accumulate(&dx[e], share(s, x[e]) * (dp - sum));
    }
}

static void forward(const lq_node *node, const lq_run *run) {
    const int64_t rows = lq_rows(node->out);
    lq_by_activation(node->out->fmt, [&](auto of) {
        typedef decltype(of) T;
        lq_launch(run->dev, forward_kernel<T>, lq_blocks(rows, ROWS), LQ_BLOCK, 0, rows,
                  (int)lq_cols(node->out), *(const lq_route_attr *)node->attr,
                  lq_data<T>(node->in[0]), lq_data<T>(node->out));
    });
}

static void backward(const lq_node *node, const lq_run *run) {
    const int64_t rows = lq_rows(node->out);
    lq_by_activation(node->out->fmt, [&](auto of) {
        typedef decltype(of) T;
        lq_launch(run->dev, backward_kernel<T>, lq_blocks(rows, ROWS), LQ_BLOCK, 0, rows,
                  (int)lq_cols(node->out), *(const lq_route_attr *)node->attr,
                  lq_data<T>(node->in[0]), lq_data<T>(node->out), lq_grad<T>(node->out),
                  lq_grad<T>(node->in[0]));
    });
}

static lq_status accepts(const lq_node *node) {
    if (lq_cols(node->out) <= MAX_EXPERTS) return LQ_OK;
    return lq_fail(LQ_EUNSUPPORTED, "%lld experts, at most %d wanted",
                   (long long)lq_cols(node->out), (int)MAX_EXPERTS);
}

extern "C" const lq_kernels lq_cuda_route = {forward, backward, NULL, accepts, 0};
