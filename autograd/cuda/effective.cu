/* Effective weights on CUDA: see effective.h. */
#include "effective.h"

#include "codes.h"
#include "cuda_formats.h"
#include "kernels.h"
#include "reround.h"
#include "saturation.h"
#include "saturation_scalar.h"

static __device__ void guard_value(lq_tile_guard guard, float x) {
    if (guard.bad && !(fabsf(x) <= guard.limit)) atomicMin(guard.bad, guard.index);
}

/* ---- W + s B A ------------------------------------------------------------------------------- */

/* lq_exact_add_product's sums. A block makes 32 rows of 128 columns, a warp 4 of the rows, a lane
 * every 32nd of the columns; the rank goes by in pieces of 16. */
enum { SUM_ROWS = 32, SUM_COLS = 128, SUM_RANK = 16, PER_LANE = 4, ROWS_PER_WARP = 4 };

struct sum_shared {
    float a[SUM_RANK][SUM_COLS], b[SUM_ROWS][SUM_RANK];
};

static __device__ void load_piece(sum_shared *s, const float *b, const float *a, int64_t row,
                                  int64_t col, int64_t rows, int64_t cols, int rank, int k0) {
    for (int i = (int)threadIdx.x; i < SUM_RANK * SUM_COLS; i += LQ_BLOCK) {
        const int k = k0 + i / SUM_COLS;
        const int64_t j = col + i % SUM_COLS;
        s->a[i / SUM_COLS][i % SUM_COLS] = k < rank && j < cols ? a[k * cols + j] : 0;
    }
    for (int i = (int)threadIdx.x; i < SUM_ROWS * SUM_RANK; i += LQ_BLOCK) {
        const int k = k0 + i % SUM_RANK;
        const int64_t r = row + i / SUM_RANK;
        s->b[i / SUM_RANK][i % SUM_RANK] = k < rank && r < rows ? b[r * rank + k] : 0;
    }
}

static __device__ void add_piece(const sum_shared *s, float sum[ROWS_PER_WARP][PER_LANE]) {
    const int first = (int)threadIdx.x / LQ_WARP * ROWS_PER_WARP;
    for (int k = 0; k < SUM_RANK; k++)
        for (int r = 0; r < ROWS_PER_WARP; r++)
            for (int q = 0; q < PER_LANE; q++)
                sum[r][q] = fmaf(s->b[first + r][k], s->a[k][lq_lane() + LQ_WARP * q], sum[r][q]);
}

/* w is of T; it may be the tile itself. */
template <typename T>
static __global__ void sum_kernel(float *tile, const T *w, float scale, const float *b,
                                  const float *a, int64_t rows, int64_t cols, int rank,
                                  float limit, int32_t index, int32_t *bad) {
    __shared__ sum_shared shared;
    const lq_tile_guard guard = {limit, index, bad};
    const int64_t row = (int64_t)blockIdx.y * SUM_ROWS, col = (int64_t)blockIdx.x * SUM_COLS;
    float sum[ROWS_PER_WARP][PER_LANE] = {};
    for (int k = 0; k < rank; k += SUM_RANK) {
        load_piece(&shared, b, a, row, col, rows, cols, rank, k);
        __syncthreads();
        add_piece(&shared, sum);
        __syncthreads();
    }
    for (int r = 0; r < ROWS_PER_WARP; r++)
        for (int q = 0; q < PER_LANE; q++) {
            const int64_t i = row + (int64_t)threadIdx.x / LQ_WARP * ROWS_PER_WARP + r;
            const int64_t j = col + lq_lane() + LQ_WARP * q;
            if (i >= rows || j >= cols) continue;
            const float was = lq_to_float(w[i * cols + j]);
            const float x = rank > 0 ? fmaf(scale, sum[r][q], was) : was;   /* keeps -0 */
            tile[i * cols + j] = x;
            guard_value(guard, x);
        }
}

template <typename T>
static void launch_sum(lq_dev *dev, float *tile, const T *w, float scale, const float *b,
                       const float *a, int64_t rows, int64_t cols, int rank, lq_tile_guard guard) {
    const dim3 grid(lq_blocks(cols, SUM_COLS), lq_blocks(rows, SUM_ROWS));
    lq_launch(dev, sum_kernel<T>, grid, LQ_BLOCK, 0, tile, w, scale, b, a, rows, cols, rank,
              guard.limit, guard.index, guard.bad);
}

/* F32 and BF16 are read as they are, what is packed becomes the tile first. */
static void sum(lq_dev *dev, float *tile, const lq_format *fmt, const void *w, float scale,
                const float *b, const float *a, int64_t rows, int64_t cols, int rank,
                lq_tile_guard guard) {
    if (rows * cols == 0) return;
    if (fmt == &lq_bf16) {
        launch_sum(dev, tile, (const lq_b16 *)w, scale, b, a, rows, cols, rank, guard);
        return;
    }
    if (fmt != &lq_f32) {
        lq_cuda_format_of(fmt)->dequant(dev, w, tile, &lq_f32, rows * cols);
        w = tile;
    }
    launch_sum(dev, tile, (const float *)w, scale, b, a, rows, cols, rank, guard);
}

/* ---- magnitudes ------------------------------------------------------------------------------ */

/* A warp per row; its lanes' sums are lq_exact_length's. */
static __global__ void scale_rows_kernel(float *tile, const float *m, float *norm, int64_t rows,
                                         int64_t cols, float limit, int32_t index, int32_t *bad) {
    const lq_tile_guard guard = {limit, index, bad};
    const int64_t row = lq_thread_first() / LQ_WARP;
    if (row >= rows) return;
    float *const x = tile + row * cols;
    double sum = 0;
    for (int64_t j = lq_lane(); j < cols; j += LQ_WARP) sum += (double)x[j] * (double)x[j];
    const float length = (float)sqrt(lq_warp_sum(sum));
    const float factor = m && length > 0 ? m[row] / length : 1;
    if (norm && lq_lane() == 0) norm[row] = length;
    for (int64_t j = lq_lane(); j < cols; j += LQ_WARP) {
        x[j] *= factor;
        guard_value(guard, x[j]);
    }
}

static void scale_rows(lq_dev *dev, float *tile, const float *m, float *norm, int64_t rows,
                       int64_t cols, lq_tile_guard guard) {
    if (rows > 0)
        lq_launch(dev, scale_rows_kernel, lq_blocks(rows * LQ_WARP, LQ_BLOCK), LQ_BLOCK, 0, tile,
                  m, norm, rows, cols, guard.limit, guard.index, guard.bad);
}

/* ---- quantizing ------------------------------------------------------------------------------ */

static const char *refuses(const lq_format *fmt, bool write) {
    const lq_cuda_format *const row = lq_cuda_format_of(fmt);
    if (!row || !row->dequant) return "no kernel reads it";
    return write && !row->quant ? "no kernel writes it" : NULL;
}

static void quant(lq_dev *dev, const lq_format *fmt, const float *tile, void *out, int64_t rows,
                  int64_t cols, const float *importance, bool keep_scales) {
    const lq_cuda_format *const row = lq_cuda_format_of(fmt);
    if (keep_scales && row->reround) row->reround(dev, tile, out, rows * cols);
    else row->quant(dev, tile, out, rows, cols, importance);
}

/* A thread per block. */
static __global__ void saturation_kernel(const float *x, const lq_q4_0_block *blocks, int64_t n,
                                         uint32_t *mask) {
    const int64_t i = lq_thread_first();
    if (i < n) mask[i] = q4_0_clipped(x + i * LQ_CLIP_BITS, blocks[i].d, blocks[i].codes);
}

static void saturation(lq_dev *dev, const lq_format *fmt, const float *x, const void *blocks,
                       int64_t n, uint32_t *mask) {
    const int64_t words = n / LQ_CLIP_BITS;
    (void)fmt;   /* Q4_0: the only one that can */
    if (words > 0)
        lq_launch(dev, saturation_kernel, lq_blocks(words, LQ_BLOCK), LQ_BLOCK, 0, x,
                  (const lq_q4_0_block *)blocks, words, mask);
}

/* ---- watching -------------------------------------------------------------------------------- */

static __device__ int plane_code(const lq_code_plane *p, const uint8_t *block, int i) {
    const int fields = 8 / p->bits, run = i / p->run;
    return block[p->at + run / fields * p->run + i % p->run] >> run % fields * p->bits &
           ((1 << p->bits) - 1);
}

static __device__ int watched_code(const lq_code_layout *layout, const uint8_t *block, int i) {
    const int low = plane_code(&layout->low, block, i);
    return layout->high.bits ? low | plane_code(&layout->high, block, i) << layout->low.bits : low;
}

/* No bits: no codes. */
static __global__ void watch_kernel(lq_code_layout layout, int block, int bytes,
                                    const uint8_t *before, const uint8_t *after, const float *x,
                                    const float *value, int64_t n, lq_watch_part *part) {
    int64_t codes = 0, changed = 0, saturated = 0;
    double error = 0, norm = 0;
    for (int64_t i = lq_thread_first(); i < n; i += lq_thread_step()) {
        const double miss = (double)value[i] - (double)x[i];
        error += miss * miss;
        norm += (double)x[i] * (double)x[i];
        if (!layout.low.bits) continue;
        codes++;
        const int64_t at = i / block * bytes;
        const int code = watched_code(&layout, after + at, (int)(i % block));
        changed += code != watched_code(&layout, before + at, (int)(i % block));
        saturated += code == layout.end[0] || code == layout.end[1];
    }
    codes = lq_block_sum(codes);
    changed = lq_block_sum(changed);
    saturated = lq_block_sum(saturated);
    error = lq_block_sum(error);
    norm = lq_block_sum(norm);
    if (threadIdx.x == 0) part[blockIdx.x] = {codes, changed, saturated, error, norm};
}

static void watch(lq_dev *dev, const lq_format *fmt, const void *before, const void *after,
                  const float *x, float *value, int64_t n, lq_watch_part *part) {
    const lq_code_layout *const known = lq_codes_of(fmt), none = {};
    lq_cuda_format_of(fmt)->dequant(dev, after, value, &lq_f32, n);
    lq_launch(dev, watch_kernel, LQ_WATCH_PARTS, LQ_BLOCK, 0, known ? *known : none, fmt->block,
              fmt->bytes, (const uint8_t *)before, (const uint8_t *)after, x,
              (const float *)value, n, part);
}

extern "C" const lq_effective lq_cuda_effective = {
    refuses, sum, scale_rows, quant, saturation, watch,
};
