/* The kernels of span.h. Compiled without contraction, as the CPU's. */
#include "span.h"

#include "kernels.h"

/* ---- norm ------------------------------------------------------------------------------------ */

/* Each block's sum of squares; then one block adds them up. */
static __global__ void squares_kernel(double *part, const float *x, int64_t n) {
    double sum = 0;
    for (int64_t i = lq_thread_first(); i < n; i += lq_thread_step())
        sum += (double)x[i] * (double)x[i];
    sum = lq_block_sum(sum);
    if (threadIdx.x == 0) part[blockIdx.x] = sum;
}

static __global__ void root_kernel(double *part, int n) {
    double sum = 0;
    for (int i = (int)threadIdx.x; i < n; i += LQ_BLOCK) sum += part[i];
    sum = lq_block_sum(sum);
    if (threadIdx.x == 0) part[0] = sqrt(sum);
}

static void norm(lq_dev *dev, double *work, const float *x, int64_t n) {
    const int blocks = (int)lq_min64(LQ_SPAN_WORK, lq_max64(1, (n + LQ_BLOCK - 1) / LQ_BLOCK));
    lq_launch(dev, squares_kernel, (unsigned)blocks, LQ_BLOCK, 0, work, x, n);
    lq_launch(dev, root_kernel, 1, LQ_BLOCK, 0, work, blocks);
}

/* ---- updates --------------------------------------------------------------------------------- */

static __global__ void scale_kernel(float *x, float factor, int64_t n) {
    const int64_t i = lq_thread_first();
    if (i < n) x[i] *= factor;
}

static __global__ void ema_kernel(float *ema, const float *x, float decay, float rest, int64_t n) {
    const int64_t i = lq_thread_first();
    if (i < n) ema[i] = decay * ema[i] + rest * x[i];
}

static __global__ void adamw_kernel(lq_span_adamw o, float *param, const float *grad, float *m,
                                    float *v, int64_t n) {
    const int64_t i = lq_thread_first();
    if (i >= n) return;
    const float g = grad[i];
    const float first = m[i] + o.one_minus_beta1 * (g - m[i]);
    const float second = o.beta2 * v[i] + o.one_minus_beta2 * g * g;
    m[i] = first;
    v[i] = second;
    param[i] = param[i] * o.keep - o.step * first / (sqrtf(second) / o.root + o.epsilon);
}

static __global__ void sgd_kernel(lq_span_sgd o, float *param, const float *grad, float *m,
                                  int64_t n) {
    const int64_t i = lq_thread_first();
    if (i >= n) return;
    const float step = o.momentum * m[i] + (grad[i] + o.decay * param[i]);
    m[i] = step;
    param[i] -= o.lr * step;
}

static void scale(lq_dev *dev, float *x, int64_t n, float factor) {
    lq_launch(dev, scale_kernel, lq_blocks(n, LQ_BLOCK), LQ_BLOCK, 0, x, factor, n);
}

static void ema(lq_dev *dev, float *average, const float *x, int64_t n, float decay) {
    const float rest = (float)(1 - (double)decay);
    lq_launch(dev, ema_kernel, lq_blocks(n, LQ_BLOCK), LQ_BLOCK, 0, average, x, decay, rest, n);
}

static void adamw(lq_dev *dev, lq_span_adamw o, int64_t n, float *param, const float *grad,
                  float *m, float *v) {
    lq_launch(dev, adamw_kernel, lq_blocks(n, LQ_BLOCK), LQ_BLOCK, 0, o, param, grad, m, v, n);
}

static void sgd(lq_dev *dev, lq_span_sgd o, int64_t n, float *param, const float *grad, float *m) {
    lq_launch(dev, sgd_kernel, lq_blocks(n, LQ_BLOCK), LQ_BLOCK, 0, o, param, grad, m, n);
}

/* ---- scales of blocks ------------------------------------------------------------------------ */

static __global__ void scales_kernel(uint8_t *blocks, int block_bytes, const float *d, int64_t n) {
    const int64_t i = lq_thread_first();
    if (i >= n) return;
    const uint16_t half = lq_half_bits(d[i]);
    blocks[i * block_bytes] = (uint8_t)half;
    blocks[i * block_bytes + 1] = (uint8_t)(half >> 8);
}

static void set_scales(lq_dev *dev, const lq_format *fmt, void *blocks, const float *d,
                       int64_t n) {
    lq_launch(dev, scales_kernel, lq_blocks(n, LQ_BLOCK), LQ_BLOCK, 0, (uint8_t *)blocks,
              fmt->bytes, d, n);
}

extern "C" const lq_span_kernels lq_cuda_span = {norm, scale, ema, adamw, sgd, set_scales};
