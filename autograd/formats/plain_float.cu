/* F32, F16 and BF16 on CUDA. */
#include "cuda_formats.h"
#include "kernels.h"

struct f32_row { typedef float stored; };
struct f16_row { typedef uint16_t stored; };
struct bf16_row { typedef lq_b16 stored; };

static __device__ float value(f32_row, float x) { return x; }
static __device__ float value(f16_row, uint16_t x) { return lq_half_value(x); }
static __device__ float value(bf16_row, lq_b16 x) { return lq_to_float(x); }
static __device__ float code(f32_row, float x) { return x; }
static __device__ uint16_t code(f16_row, float x) { return lq_half_bits(x); }
static __device__ lq_b16 code(bf16_row, float x) { return lq_from_float<lq_b16>(x); }

template <typename R, typename T>
static __global__ void dequant_kernel(const typename R::stored *in, T *out, int64_t n) {
    for (int64_t i = lq_thread_first(); i < n; i += lq_thread_step())
        out[i] = lq_from_float<T>(value(R(), in[i]));
}

template <typename R>
static __global__ void quant_kernel(const float *x, typename R::stored *out, int64_t n) {
    for (int64_t i = lq_thread_first(); i < n; i += lq_thread_step()) out[i] = code(R(), x[i]);
}

template <typename R>
static void dequant(lq_dev *dev, const void *in, void *out, const lq_format *out_fmt, int64_t n) {
    typedef typename R::stored stored;
    lq_by_activation(out_fmt, [&](auto type) {
        typedef decltype(type) T;
        lq_launch(dev, dequant_kernel<R, T>, lq_blocks(n, LQ_BLOCK), LQ_BLOCK, 0,
                  (const stored *)in, (T *)out, n);
    });
}

template <typename R>
static void quant(lq_dev *dev, const float *x, void *out, int64_t rows, int64_t cols,
                  const float *importance) {
    (void)importance;
    lq_launch(dev, quant_kernel<R>, lq_blocks(rows * cols, LQ_BLOCK), LQ_BLOCK, 0, x,
              (typename R::stored *)out, rows * cols);
}

extern "C" const lq_cuda_format lq_cuda_f32 = {&lq_f32, quant<f32_row>, dequant<f32_row>, NULL};
extern "C" const lq_cuda_format lq_cuda_f16 = {&lq_f16, quant<f16_row>, dequant<f16_row>, NULL};
extern "C" const lq_cuda_format lq_cuda_bf16 = {&lq_bf16, quant<bf16_row>, dequant<bf16_row>, NULL};
