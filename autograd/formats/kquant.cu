/* Q2_K, Q3_K, Q4_K, Q5_K and Q6_K on CUDA: super-blocks of 256 in groups of 16 or 32, a thread
 * each; see kquant_parts.h and kquant_affine.h. */
#include "cuda_blocks.h"
#include "scales_scalar.h"

enum { SUPER = 256 };

/* Importance tempered by `times` the mean square of the super-block. */
template <class F>
static __device__ void block_weights(const Place<F> &p, const float *x, float times, float *w) {
    const float mean = times * sum_squares(p.block, SUPER) / SUPER;
    for (int i = 0; i < F::GROUP; i++) w[i] = tempered(p.importance()[i], mean, x[i]);
}

template <int N> static __device__ float sum_of(const float *w) {
    float sum = 0;
    for (int i = 0; i < N; i++) sum += w[i];
    return sum;
}

/* The lane's codes 0.. by its stored scale and minimum; where the scale is 0, those of the search.
 */
template <class F>
static __device__ void put_codes(const Place<F> &p, const float *x, const group_fit *fit, float d,
                                 float m, int low, int high) {
    for (int i = 0; i < F::GROUP; i++)
        p.put(i, d != 0 ? nearest((x[i] + m) / d, low, high) - low
                        : fit_code(fit->inverse, fit->base, x[i], low, high));
}

/* ---- scales and minima ----------------------------------------------------------------------- */

/* Lane 0 codes the scales, lane 1 the minima, each into its half of `coded`; returns what the codes
 * are multiples of through d[2]. All lanes call it. */
template <class F>
static __device__ void code_both(const Place<F> &p, const group_fit *fit, float weight, int top,
                                 uint8_t *mine, float d[2]) {
    enum { LANES = Place<F>::LANES };
    p.share[LANES + p.lane] = -fit->min;
    p.share[2 * LANES + p.lane] = weight;
    p.exchange(0, fit->scale);
    float *const both = p.share + 3 * LANES;
    if (p.lane < 2)
        both[p.lane] = code_scales(p.shared(p.lane), p.block_importance ? p.shared(2) : NULL,
                                   LANES, top, mine);
    __syncthreads();
    d[0] = both[0];
    d[1] = both[1];
}

struct Q2_K {
    enum { BLOCK = SUPER, GROUP = 16, BYTES = 84, IMPORTANCE = LQ_BY_BLOCK, TOP = 3 };
    typedef Plane<2, 16, 32> Low;
    typedef NoPlane High;
    static __device__ group_fit search(const Place<Q2_K> &p, const float *x, float *w) {
        const lq_affine_rule plain = {TOP, -0.5f, 0.1f, 15, 1};
        const lq_affine_rule weighted = {TOP, -0.9f, 0.05f, 36, 0};
        if (p.block_importance) block_weights<Q2_K>(p, x, 1, w);
        else
            for (int i = 0; i < GROUP; i++) w[i] = fabsf(x[i]);
        return fit_affine_group(x, w, GROUP, 1, p.block_importance ? &weighted : &plain);
    }
    static __device__ void grid(const uint8_t *b, int g, float *d, float *m) {
        *d = half_at(b + 80) * (float)(b[g] & 15);
        *m = half_at(b + 82) * (float)(b[g] >> 4);
    }
    /* The codes of scales and minima wait where this format's codes of numbers come later. */
    static __device__ void encode(const Place<Q2_K> &p) {
        float x[GROUP], w[GROUP], of[2], d, m;
        p.load(x);
        const group_fit fit = search(p, x, w);
        uint8_t *const coded = p.codes;
        code_both<Q2_K>(p, &fit, sum_of<GROUP>(w), 15, coded + 16 * p.lane, of);
        p.bytes[p.lane] = (uint8_t)(coded[p.lane] | coded[16 + p.lane] << 4);
        if (p.lane == 0) {
            p.put_half(80, of[0]);
            p.put_half(82, of[1]);
        }
        __syncthreads();
        grid(p.bytes, p.lane, &d, &m);
        put_codes<Q2_K>(p, x, &fit, d, m, 0, TOP);
    }
    static __device__ void decode(const uint8_t *b, int at, float *out) {
        float d, m;
        grid(b, at / GROUP, &d, &m);
        decode_linear<Q2_K>(b, at, d, m, 0, out);
    }
};

/* Q4_K and Q5_K; LIMIT: of scale codes with importance. */
template <class F, int TOP_, int LIMIT> struct AffineK {
    enum { BLOCK = SUPER, GROUP = 32, GROUPS = SUPER / GROUP };
    enum { IMPORTANCE = LQ_BY_BLOCK, TOP = TOP_ };
    static __device__ group_fit search(const Place<F> &p, const float *x, float *w) {
        const lq_affine_rule weighted = {TOP, -0.9f, 0.05f, 36, 0}, plain = F::plain();
        const float rms = sqrtf(sum_squares(x, GROUP) / GROUP);
        if (p.block_importance) block_weights<F>(p, x, 2, w);
        else
            for (int i = 0; i < GROUP; i++) w[i] = rms + fabsf(x[i]);
        return fit_affine_group(x, w, GROUP, 1, p.block_importance ? &weighted : &plain);
    }
    static __device__ void grid(const uint8_t *b, int g, float *d, float *m) {
        *d = half_at(b) * (float)q4_scale(b + 4, g);
        *m = half_at(b + 2) * (float)q4_min(b + 4, g);
    }
    static __device__ void encode(const Place<F> &p) {
        float x[GROUP], w[GROUP], of[2], d, m;
        p.load(x);
        const group_fit fit = search(p, x, w);
        uint8_t *const coded = p.codes;
        code_both<F>(p, &fit, sum_of<GROUP>(w), 63, coded + GROUPS * p.lane, of);
        const int limit = p.block_importance ? LIMIT : 63;
        for (int i = p.lane; i < 2 * GROUPS; i += GROUPS)
            coded[i] = (uint8_t)at_most(coded[i], limit);
        __syncthreads();
        if (p.lane == 0) {
            pack_q4_scales(coded, coded + GROUPS, p.bytes + 4);
            p.put_half(0, of[0]);
            p.put_half(2, of[1]);
        }
        __syncthreads();
        grid(p.bytes, p.lane, &d, &m);
        put_codes<F>(p, x, &fit, d, m, 0, TOP);
    }
    static __device__ void decode(const uint8_t *b, int at, float *out) {
        float d, m;
        grid(b, at / GROUP, &d, &m);
        decode_linear<F>(b, at, d, m, 0, out);
    }
};

struct Q4_K : AffineK<Q4_K, 15, 255> {
    enum { BYTES = 144 };
    typedef Plane<4, 16, 32> Low;
    typedef NoPlane High;
    static __device__ lq_affine_rule plain() { return {15, -1, 0.1f, 20, 0}; }
};
struct Q5_K : AffineK<Q5_K, 31, 63> {
    enum { BYTES = 176 };
    typedef Plane<4, 48, 32> Low;
    typedef Plane<1, 16, 32> High;
    static __device__ lq_affine_rule plain() { return {31, -0.5f, 0.1f, 15, 0}; }
};

/* ---- scales only ----------------------------------------------------------------------------- */

struct Q3_K {
    enum { BLOCK = SUPER, GROUP = 16, BYTES = 110, IMPORTANCE = LQ_BY_BLOCK };
    enum { HALF = 4, TOP = 2 * HALF - 1 };
    typedef Plane<2, 32, 32> Low;
    typedef Plane<1, 0, 32> High;
    static __device__ float plain(const Place<Q3_K> &p, const float *x) {
        float found[GROUP];
        for (int i = 0; i < GROUP; i++) found[i] = 0;
        const float scale = fit_sweeping_group(x, GROUP, 1, HALF, found);
        for (int i = 0; i < GROUP; i++) p.put(i, (uint8_t)found[i]);
        return scale;
    }
    static __device__ float weighted(const Place<Q3_K> &p, const float *x) {
        float w[GROUP];
        block_weights<Q3_K>(p, x, 2, w);
        p.share[GROUP + p.lane] = sum_of<GROUP>(w);
        const group_fit fit = fit_signed_group(x, w, GROUP, 1, HALF);
        for (int i = 0; i < GROUP; i++) p.put(i, fit_code(fit.inverse, 0, x[i], -HALF, HALF - 1));
        return fit.scale;
    }
    /* The scales of the groups are searched as the groups are, weighted by the groups' weights. */
    static __device__ void put_scales(const Place<Q3_K> &p) {
        uint8_t codes[GROUP];
        float d;
        if (p.block_importance) {
            const float *const scale = p.shared(0);
            const group_fit fit = fit_signed_group(scale, p.shared(1), GROUP, 1, 32);
            for (int g = 0; g < GROUP; g++)
                codes[g] = fit_code(fit.inverse, 0, scale[g], -32, 31);
            d = fit.scale;
        } else {
            d = code_q3_scales(p.shared(0), codes);
            for (int g = 0; d == 0 && g < GROUP; g++) codes[g] = 0;
        }
        pack_q3_scales(codes, p.bytes + 96);
        p.put_half(108, d);
    }
    static __device__ float scale_of(const uint8_t *b, int g) {
        return half_at(b + 108) * (float)q3_scale(b + 96, g);
    }
    static __device__ void grid(const uint8_t *b, int g, float *step, float *low) {
        *step = scale_of(b, g);
        *low = HALF * *step;
    }
    static __device__ void encode(const Place<Q3_K> &p) {
        float x[GROUP];
        p.load(x);
        p.exchange(0, p.block_importance ? weighted(p, x) : plain(p, x));
        if (p.lane == 0) put_scales(p);
        __syncthreads();
        const float d = scale_of(p.bytes, p.lane);
        for (int i = 0; d != 0 && i < GROUP; i++)
            p.put(i, nearest((x[i] + 0) / d, -HALF, HALF - 1) + HALF);
    }
    static __device__ void decode(const uint8_t *b, int at, float *out) {
        decode_linear<Q3_K>(b, at, scale_of(b, at / GROUP), 0, HALF, out);
    }
};

struct Q6_K {
    enum { BLOCK = SUPER, GROUP = 16, BYTES = 210, IMPORTANCE = LQ_BY_BLOCK };
    enum { HALF = 32, TOP = 2 * HALF - 1 };
    typedef Plane<4, 0, 64> Low;
    typedef Plane<2, 128, 32> High;
    static __device__ float scale_of(const uint8_t *b, int g) {
        return half_at(b + 208) * (float)(int8_t)b[192 + g];
    }
    static __device__ void grid(const uint8_t *b, int g, float *step, float *low) {
        *step = scale_of(b, g);
        *low = HALF * *step;
    }
    static __device__ void encode(const Place<Q6_K> &p) {
        float x[GROUP], w[GROUP];
        p.load(x);
        for (int i = 0; i < GROUP; i++)
            w[i] = p.block_importance ? p.importance()[i] : x[i] * x[i];
        const group_fit fit = fit_signed_group(x, w, GROUP, 1, HALF);
        p.bytes[192 + p.lane] = 0;
        p.exchange(0, fit.scale);
        if (p.lane == 0) {
            const float scale = code_q6_scales(p.shared(0), (int8_t *)p.bytes + 192);
            p.share[GROUP] = scale;
            p.put_half(208, scale);
        }
        __syncthreads();
        if (p.share[GROUP] == 0)
            for (int i = 0; i < GROUP; i++) p.put(i, 0);
        else put_codes<Q6_K>(p, x, &fit, scale_of(p.bytes, p.lane), 0, -HALF, HALF - 1);
    }
    static __device__ void decode(const uint8_t *b, int at, float *out) {
        decode_linear<Q6_K>(b, at, scale_of(b, at / GROUP), 0, HALF, out);
    }
};

extern "C" const lq_cuda_format lq_cuda_q2_k = {
    &lq_q2_k, quant_blocks<Q2_K>, dequant_blocks<Q2_K>, reround_blocks<Q2_K>};
extern "C" const lq_cuda_format lq_cuda_q3_k = {
    &lq_q3_k, quant_blocks<Q3_K>, dequant_blocks<Q3_K>, reround_blocks<Q3_K>};
extern "C" const lq_cuda_format lq_cuda_q4_k = {
    &lq_q4_k, quant_blocks<Q4_K>, dequant_blocks<Q4_K>, reround_blocks<Q4_K>};
extern "C" const lq_cuda_format lq_cuda_q5_k = {
    &lq_q5_k, quant_blocks<Q5_K>, dequant_blocks<Q5_K>, reround_blocks<Q5_K>};
extern "C" const lq_cuda_format lq_cuda_q6_k = {
    &lq_q6_k, quant_blocks<Q6_K>, dequant_blocks<Q6_K>, reround_blocks<Q6_K>};
