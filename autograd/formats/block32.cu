/* Q8_0, Q4_0, Q4_1, Q5_0 and Q5_1 on CUDA: see block32.h. A thread has a block. */
#include "cuda_blocks.h"
#include "scales_scalar.h"

enum { B32 = 32 };

static __device__ void row_weights(const float *x, const float *importance, float mean_square,
                                   float *w) {
    for (int i = 0; i < B32; i++) w[i] = tempered(importance[i], mean_square, x[i]);
}

struct Q8_0 {
    enum { BLOCK = B32, GROUP = B32, BYTES = 34, IMPORTANCE = LQ_NEVER };
    typedef Plane<8, 2, 32> Low;
    typedef NoPlane High;
    static __device__ void encode(const Place<Q8_0> &p) {
        float x[B32];
        p.load(x);
        const float d = largest_of<B32>(x) / 127, inverse = inverse_of(d);
        for (int i = 0; i < B32; i++)
            p.put(i, isfinite(inverse) ? (int)(int8_t)roundf(x[i] * inverse) : 0);
        p.put_half(0, d);
    }
    static __device__ void decode(const uint8_t *b, int at, float *out) {
        const float d = half_at(b);
        for (int k = 0; k < LQ_PER_THREAD; k++) out[k] = (float)(int8_t)b[2 + at + k] * d;
    }
};

/* A scale, and codes that stand for -HALF..HALF - 1. */
template <class F, int HALF> struct Signed {
    enum { BLOCK = B32, GROUP = B32, IMPORTANCE = LQ_BY_ROW };
    static __device__ float plain(const Place<F> &p, const float *x) {
        const float d = signed_max(x, B32, 1) / (float)-HALF, inverse = inverse_of(d);
        for (int i = 0; i < B32; i++)
            p.put(i, truncated(x[i] * inverse + ((float)HALF + 0.5f), 2 * HALF - 1));
        return d;
    }
    static __device__ float weighted(const Place<F> &p, const float *x) {
        float w[B32];
        row_weights(x, p.importance(), p.mean_square, w);
        const group_fit fit = fit_signed_group(x, w, B32, 1, HALF);
        for (int i = 0; i < B32; i++) p.put(i, fit_code(fit.inverse, 0, x[i], -HALF, HALF - 1));
        return fit.scale;
    }
    static __device__ void encode(const Place<F> &p) {
        float x[B32];
        p.load(x);
        p.put_half(0, p.block_importance ? weighted(p, x) : plain(p, x));
    }
    static __device__ void decode(const uint8_t *b, int at, float *out) {
        decode_linear<F>(b, at, half_at(b), 0, HALF, out);
    }
};

struct Q4_0 : Signed<Q4_0, 8> {
    enum { BYTES = 18 };
    typedef Plane<4, 2, 16> Low;
    typedef NoPlane High;
};
struct Q5_0 : Signed<Q5_0, 16> {
    enum { BYTES = 22 };
    typedef Plane<4, 6, 16> Low;
    typedef Plane<1, 2, 1> High;
};

/* A scale, a minimum, and codes 0..TOP. */
template <class F, int TOP> struct Affine {
    enum { BLOCK = B32, GROUP = B32, IMPORTANCE = LQ_BY_ROW };
    /* Of equal zeros the first one's sign is what the file gets. */
    static __device__ group_fit plain(const Place<F> &p, const float *x) {
        float low = x[0], high = x[0];
        for (int i = 1; i < B32; i++) {
            if (x[i] < low) low = x[i];
            if (x[i] > high) high = x[i];
        }
        const float d = high > low ? (high - low) / (float)TOP : 0, inverse = inverse_of(d);
        for (int i = 0; i < B32; i++) p.put(i, truncated((x[i] - low) * inverse + 0.5f, TOP));
        return make_fit(d, low, 0, 0);
    }
    static __device__ group_fit weighted(const Place<F> &p, const float *x) {
        const lq_affine_rule rule = {TOP, -0.9f, 0.05f, 36, 0};
        float w[B32];
        row_weights(x, p.importance(), p.mean_square, w);
        const group_fit fit = fit_affine_group(x, w, B32, 1, &rule);
        for (int i = 0; i < B32; i++) p.put(i, fit_code(fit.inverse, fit.base, x[i], 0, TOP));
        return fit;
    }
    static __device__ void encode(const Place<F> &p) {
        float x[B32];
        p.load(x);
        const group_fit fit = p.block_importance ? weighted(p, x) : plain(p, x);
        p.put_half(0, fit.scale);
        p.put_half(2, fit.min);
    }
    static __device__ void decode(const uint8_t *b, int at, float *out) {
        decode_linear<F>(b, at, half_at(b), -half_at(b + 2), 0, out);
    }
};

struct Q4_1 : Affine<Q4_1, 15> {
    enum { BYTES = 20 };
    typedef Plane<4, 4, 16> Low;
    typedef NoPlane High;
};
struct Q5_1 : Affine<Q5_1, 31> {
    enum { BYTES = 24 };
    typedef Plane<4, 8, 16> Low;
    typedef Plane<1, 4, 1> High;
};

extern "C" const lq_cuda_format lq_cuda_q8_0 = {
    &lq_q8_0, quant_blocks<Q8_0>, dequant_blocks<Q8_0>, NULL};
extern "C" const lq_cuda_format lq_cuda_q4_0 = {
    &lq_q4_0, quant_blocks<Q4_0>, dequant_blocks<Q4_0>, NULL};
extern "C" const lq_cuda_format lq_cuda_q4_1 = {
    &lq_q4_1, quant_blocks<Q4_1>, dequant_blocks<Q4_1>, NULL};
extern "C" const lq_cuda_format lq_cuda_q5_0 = {
    &lq_q5_0, quant_blocks<Q5_0>, dequant_blocks<Q5_0>, NULL};
extern "C" const lq_cuda_format lq_cuda_q5_1 = {
    &lq_q5_1, quant_blocks<Q5_1>, dequant_blocks<Q5_1>, NULL};
