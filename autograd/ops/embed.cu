/* out = scale W[ids] with noise when training; see embed.c. The rows' bytes are gathered as they
 * are stored and dequantized together. Backward: the first token of each kind adds up the
 * gradients of all tokens of its kind, in their order. */
#include "cuda_formats.h"
#include "random_device.h"
#include "map.h"
#include "random.h"

enum { IDS, WEIGHT, STARTS };

/* row_pieces: of type P in a row of W. */
template <typename P>
static __global__ void gather(int64_t n, int64_t row_pieces, const int32_t *ids, const P *w,
                              P *out) {
    const int64_t k = lq_thread_first();
    if (k < n) out[k] = w[ids[k / row_pieces] * row_pieces + k % row_pieces];
}

template <typename P>
static void gather_rows(const lq_node *node, lq_dev *dev, size_t row_bytes, void *out) {
    const int64_t pieces = (int64_t)(row_bytes / sizeof(P)), n = lq_rows(node->out) * pieces;
    lq_launch(dev, gather<P>, lq_blocks(n, LQ_BLOCK), LQ_BLOCK, 0, n, pieces,
              lq_data_i32(node->in[IDS]), (const P *)node->in[WEIGHT]->data, (P *)out);
}

/* starts rises, so a segment's rows are found by bisection: the first with starts > start or, with
 * from_start, the first with starts >= start. */
static __device__ int64_t bound(const int32_t *starts, int64_t n, int32_t start, bool from_start) {
    int64_t low = 0, high = n;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (starts[middle] < start || (!from_start && starts[middle] == start)) low = middle + 1;
        else high = middle;
    }
    return low;
}

template <typename T>
static __global__ void add_noise(int64_t n, int64_t d, float alpha, uint64_t key,
                                 const int32_t *starts, T *y) {
    const int64_t t = blockIdx.x;
    const int64_t length = bound(starts, n, starts[t], false) - bound(starts, n, starts[t], true);
    const float most = (float)((double)alpha / sqrt((double)length * (double)d));
    for (int64_t j = threadIdx.x; j < d; j += LQ_BLOCK) {
        const float u = lq_device_uniform(key, (uint64_t)(t * d + j));
        lq_accumulate(&y[t * d + j], most * (2 * u - 1));
    }
}

/* The block's tokens k, first <= k < first + LQ_BLOCK, that are of this kind: bits by warp. */
static __device__ void find(unsigned *bits, const int32_t *ids, int64_t n, int64_t first,
                            int32_t id) {
    const int64_t k = first + threadIdx.x;
    const unsigned warp_bits = __ballot_sync(~0u, k < n && ids[k] == id);
    __syncthreads();   /* bits may still be in use */
    if (lq_lane() == 0) bits[threadIdx.x / LQ_WARP] = warp_bits;
    __syncthreads();
}

template <typename T>
static __global__ void scatter(int64_t n, int64_t d, float scale, const int32_t *ids, const T *dy,
                               float *dw) {
    __shared__ unsigned bits[LQ_BLOCK / LQ_WARP];
    const int64_t t = blockIdx.x;
    const int32_t id = ids[t];
    for (int64_t k = 0; k < t; k += LQ_BLOCK) {
        find(bits, ids, t, k, id);
        for (int i = 0; i < LQ_BLOCK / LQ_WARP; i++)
            if (bits[i]) return;   /* not the first of its kind */
    }
    for (int64_t k = t; k < n; k += LQ_BLOCK) {
        find(bits, ids, n, k, id);
        for (int i = 0; i < LQ_BLOCK / LQ_WARP; i++) {
            for (unsigned left = bits[i]; left; left &= left - 1) {
                const T *const row = dy + (k + i * LQ_WARP + __ffs((int)left) - 1) * d;
                for (int64_t j = threadIdx.x; j < d; j += LQ_BLOCK)
                    dw[id * d + j] += scale * lq_to_float(row[j]);
            }
        }
    }
}

static void forward(const lq_node *node, const lq_run *run) {
    const lq_embed_attr *const attr = (const lq_embed_attr *)node->attr;
    const lq_tensor *const w = node->in[WEIGHT];
    const int64_t n = lq_rows(node->out), d = lq_cols(node->out);
    const size_t row_bytes = lq_format_bytes(w->fmt, d);
    if (row_bytes % sizeof(uint4) == 0 && lq_is_aligned(w->data))
        gather_rows<uint4>(node, run->dev, row_bytes, run->scratch);
    else
        gather_rows<uint8_t>(node, run->dev, row_bytes, run->scratch);
    lq_cuda_format_of(w->fmt)->dequant(run->dev, run->scratch, node->out->data, node->out->fmt,
                                       n * d);
    lq_by_activation(node->out->fmt, [&](auto of) {
        typedef decltype(of) T;
        T *const y = lq_data<T>(node->out);
        if (attr->scale != 1) lq_map(run->dev, n * d, lq_times{attr->scale}, y, y);
        if (run->training && attr->noise_alpha > 0)
            lq_launch(run->dev, add_noise<T>, (unsigned)n, LQ_BLOCK, 0, n, d, attr->noise_alpha,
                      lq_random_key(run->key, node->id), lq_data_i32(node->in[STARTS]), y);
    });
}

static void backward(const lq_node *node, const lq_run *run) {
    const lq_embed_attr *const attr = (const lq_embed_attr *)node->attr;
    const int64_t n = lq_rows(node->out), d = lq_cols(node->out);
    lq_by_activation(node->out->fmt, [&](auto of) {
        typedef decltype(of) T;
        lq_launch(run->dev, scatter<T>, (unsigned)n, LQ_BLOCK, 0, n, d, attr->scale,
                  lq_data_i32(node->in[IDS]), lq_grad<T>(node->out),
                  lq_grad<float>(node->in[WEIGHT]));
    });
}

static size_t scratch(const lq_node *node, bool is_backward) {
    const int64_t n = lq_rows(node->out);
    return is_backward ? 0 : (size_t)n * lq_format_bytes(node->in[WEIGHT]->fmt, lq_cols(node->out));
}

static lq_status accepts(const lq_node *node) {
    const lq_format *const fmt = node->in[WEIGHT]->fmt;
    const lq_cuda_format *const row = lq_cuda_format_of(fmt);
    return row && row->dequant ? LQ_OK : lq_fail(LQ_EUNSUPPORTED, "a table of %s", fmt->label);
}

extern "C" const lq_kernels lq_cuda_embed = {forward, backward, scratch, accepts, 0};
