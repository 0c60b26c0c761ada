/* Rounding of activations, keys and values on CUDA: see rounding.c. Q8_0 and Q8_K are a warp's work
 * per block, IQ4_NL a thread's; the others go through their bytes. */
#include "cuda_rounding.h"

#include "cuda_formats.h"
#include "kernels.h"
#include "nibbles_scalar.h"

/* ---- 8 bits ---------------------------------------------------------------------------------- */

/* A block is PER_LANE numbers of each lane. Zeros where it is too small to have a scale. */
template <int PER_LANE, typename T>
static __global__ void round8_kernel(const T *x, T *y, int64_t blocks, bool half_scale) {
    const int64_t block = lq_thread_first() / LQ_WARP;
    if (block >= blocks) return;
    const int64_t at = block * PER_LANE * LQ_WARP + lq_lane();
    float v[PER_LANE], most = 0;
    for (int k = 0; k < PER_LANE; k++) {
        v[k] = lq_to_float(x[at + k * LQ_WARP]);
        most = fmaxf(most, fabsf(v[k]));
    }
    most = lq_warp_max(most);
    const float inverse = 127 / most;
    const float d = half_scale ? f32_from_f16(f16_from_f32(most / 127)) : 1 / inverse;
    const bool live = d != 0 && isfinite(inverse);
    for (int k = 0; k < PER_LANE; k++)
        y[at + k * LQ_WARP] = lq_from_float<T>(live ? snapped(v[k], inverse, d) : 0);
}

template <int PER_LANE>
static void round8(lq_dev *dev, const lq_format *type, const void *x, void *y, int64_t n,
                   bool half_scale) {
    const int64_t blocks = n / (PER_LANE * LQ_WARP);
    lq_by_activation(type, [&](auto of) {
        typedef decltype(of) T;
        lq_launch(dev, round8_kernel<PER_LANE, T>, lq_blocks(blocks, LQ_BLOCK / LQ_WARP), LQ_BLOCK,
                  0, (const T *)x, (T *)y, blocks, half_scale);
    });
}

/* ---- IQ4_NL ---------------------------------------------------------------------------------- */

template <typename T>
static __global__ void round_iq4_kernel(const T *in, T *out, int64_t blocks) {
    const int64_t block = lq_thread_first();
    if (block >= blocks) return;
    float x[IQ4_GROUP], w[IQ4_GROUP], wqx, wqq;
    for (int i = 0; i < IQ4_GROUP; i++) {
        x[i] = lq_to_float(in[block * IQ4_GROUP + i]);
        w[i] = x[i] * x[i];
    }
    const float largest = signed_max(x, IQ4_GROUP, 1), inverse = 1 / (largest / -127);
    iq4_sums(x, w, inverse, &wqx, &wqq);
    const float scale = fabsf(largest) >= 1e-15f && wqq > 0 ? wqx / wqq : 0;
    const float d = f32_from_f16(f16_from_f32(scale));
    for (int i = 0; i < IQ4_GROUP; i++)
        out[block * IQ4_GROUP + i] =
            lq_from_float<T>((float)iq4_value(iq4_code(inverse * x[i])) * d);
}

static void round_iq4(lq_dev *dev, const lq_format *type, const void *x, void *y, int64_t n) {
    const int64_t blocks = n / IQ4_GROUP;
    lq_by_activation(type, [&](auto of) {
        typedef decltype(of) T;
        lq_launch(dev, round_iq4_kernel<T>, lq_blocks(blocks, LQ_BLOCK), LQ_BLOCK, 0, (const T *)x,
                  (T *)y, blocks);
    });
}

/* ---- through bytes --------------------------------------------------------------------------- */

/* Scratch: x in F32 where it is not, then the bytes. */
static void round_through(lq_dev *dev, const lq_format *fmt, const lq_format *type, const void *x,
                          void *y, int64_t n, void *scratch) {
    const lq_cuda_format *const row = lq_cuda_format_of(fmt);
    const bool plain = type == &lq_f32;
    void *const bytes = (char *)scratch + (plain ? 0 : lq_align64((size_t)n * sizeof(float)));
    if (!plain) lq_cuda_format_of(type)->dequant(dev, x, scratch, &lq_f32, n);
    row->quant(dev, (const float *)(plain ? x : scratch), bytes, 1, n, NULL);
    row->dequant(dev, bytes, y, type, n);
}

/* ---- which ----------------------------------------------------------------------------------- */

extern "C" size_t lq_cuda_rounding_scratch(const lq_rounding *how, const lq_format *type,
                                           int64_t n) {
    if (!how->fmt || how->fmt == &lq_q8_0 || how->fmt == &lq_iq4_nl) return 0;
    const size_t numbers = type == &lq_f32 ? 0 : lq_align64((size_t)n * sizeof(float));
    return numbers + lq_format_bytes(how->fmt, n);
}

extern "C" void lq_cuda_round(lq_dev *dev, const lq_rounding *how, const lq_format *type,
                              const void *x, void *y, int64_t n, void *scratch) {
    if (n == 0) return;
    if (!how->fmt) round8<8>(dev, type, x, y, n, false);   /* Q8_K */
    else if (how->fmt == &lq_q8_0) round8<1>(dev, type, x, y, n, true);
    else if (how->fmt == &lq_iq4_nl) round_iq4(dev, type, x, y, n);
    else round_through(dev, how->fmt, type, x, y, n, scratch);
}
