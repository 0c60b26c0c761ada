/* TQ1_0, TQ2_0, Q2_0 and Q1_0 on CUDA: a scale and codes of -1, 0, 1 or signs. Importance does not
 * change them. */
#include "cuda_blocks.h"
#include "nibbles_scalar.h"

/* Of all lanes' groups. */
template <class F> static __device__ float block_largest(const Place<F> &p, const float *x) {
    p.exchange(0, largest_of<F::GROUP>(x));
    return largest_of<Place<F>::LANES>(p.shared(0));
}

template <class F, int D_AT> struct Trits {
    enum { GROUP = 32, IMPORTANCE = LQ_NEVER };
    static __device__ void encode(const Place<F> &p) {
        float x[GROUP];
        p.load(x);
        const float d = block_largest<F>(p, x), inverse = inverse_of(d);
        for (int i = 0; i < GROUP; i++)
            p.put(i, isfinite(inverse) ? trit(x[i], inverse) : (int)F::TOO_SMALL);
        p.put_half(D_AT, d);
    }
    static __device__ void decode(const uint8_t *b, int at, float *out) {
        decode_linear<F>(b, at, half_at(b + D_AT), 0, 1, out);
    }
};

struct TQ2_0 : Trits<TQ2_0, 64> {
    enum { BLOCK = 256, BYTES = 66, TOO_SMALL = 1 };
    typedef Plane<2, 0, 32> Low;
    typedef NoPlane High;
};
struct Q2_0 : Trits<Q2_0, 0> {
    enum { BLOCK = 64, BYTES = 18, TOO_SMALL = 0 };
    typedef Plane<2, 2, 1> Low;
    typedef NoPlane High;
};

/* Runs of bytes, and in them codes a run's length apart: see tq1_0.c. */
struct TQ1_0 : Trits<TQ1_0, 52> {
    enum { BLOCK = 256, BYTES = 54, TOO_SMALL = 1 };
    typedef Packed<0, 52> Low;
    struct Spot { int first, step, digits; }; /* the codes of a byte */
    static __device__ Spot spot(int byte) {
        if (byte < 32) return {byte, 32, 5};
        if (byte < 48) return {160 + byte - 32, 16, 5};
        return {240 + byte - 48, 4, 4};
    }
    static __device__ uint8_t pack(const uint8_t *codes, int byte) {
        const Spot s = spot(byte);
        uint8_t five[5] = {0, 0, 0, 0, 0};
        for (int k = 0; k < s.digits; k++) five[k] = codes[code_at<TQ1_0>(s.first + k * s.step)];
        return pack_trits(five, 1, s.digits);
    }
    /* Multiplying by 3 moves one digit after the other out at the top. */
    static __device__ int digit(uint8_t byte, int k) {
        for (; k > 0; k--) byte = (uint8_t)(byte * 3);
        return byte * 3 >> 8;
    }
    static __device__ int code(const uint8_t *b, int i) {
        if (i < 160) return digit(b[i % 32], i / 32);
        if (i < 240) return digit(b[32 + (i - 160) % 16], (i - 160) / 16);
        return digit(b[48 + i % 4], (i - 240) / 4);
    }
    static __device__ void decode(const uint8_t *b, int at, float *out) {
        const float d = half_at(b + 52);
        for (int k = 0; k < LQ_PER_THREAD; k++) out[k] = (float)(code(b, at + k) - 1) * d;
    }
};

struct Q1_0 {
    enum { BLOCK = 128, GROUP = 32, BYTES = 18, IMPORTANCE = LQ_NEVER };
    typedef Plane<1, 2, 1> Low;
    typedef NoPlane High;
    /* Every lane adds up the block, in order. */
    static __device__ void encode(const Place<Q1_0> &p) {
        float sum = 0;
        for (int i = 0; i < BLOCK; i++) sum += fabsf(p.block[i]);
        for (int i = 0; i < GROUP; i++) p.put(i, p.numbers()[i] >= 0);
        p.put_half(0, sum / BLOCK);
    }
    static __device__ void decode(const uint8_t *b, int at, float *out) {
        const float d = half_at(b);
        for (int k = 0; k < LQ_PER_THREAD; k++) out[k] = d * (float)(2 * Low::get(b, at + k) - 1);
    }
};

extern "C" const lq_cuda_format lq_cuda_tq1_0 = {
    &lq_tq1_0, quant_blocks<TQ1_0>, dequant_blocks<TQ1_0>, NULL};
extern "C" const lq_cuda_format lq_cuda_tq2_0 = {
    &lq_tq2_0, quant_blocks<TQ2_0>, dequant_blocks<TQ2_0>, NULL};
extern "C" const lq_cuda_format lq_cuda_q1_0 = {
    &lq_q1_0, quant_blocks<Q1_0>, dequant_blocks<Q1_0>, NULL};
extern "C" const lq_cuda_format lq_cuda_q2_0 = {
    &lq_q2_0, quant_blocks<Q2_0>, dequant_blocks<Q2_0>, NULL};
