/* Block formats on CUDA: the kernels that every one shares, and what a format says of itself.
 *
 * One thread has one group of numbers, in registers; the threads of a block's groups (its lanes)
 * meet at barriers. Codes and bytes are put together in shared memory and leave it 16 bytes at a
 * time. The arithmetic is the *_scalar.h headers', so the bytes are the CPU's.
 *
 * A format F has BLOCK and GROUP elements, BYTES, the planes Low and High of its codes (as codes.h
 * describes them), IMPORTANCE: whether and how it weighs, and
 *   encode(place)           the lane's codes (place.put), and all bytes that hold no code
 *   pack(codes, k)          byte k of the codes, where F::Low is Packed
 *   decode(bytes, at, out)  8 elements from `at` on, a multiple of 8
 *   grid(bytes, lane, &step, &low), TOP    if lq_can_reround */
#ifndef LOQUAT_CUDA_BLOCKS_H
#define LOQUAT_CUDA_BLOCKS_H

#include "cuda_formats.h"
#include "groups_scalar.h"
#include "kernels.h"

enum { LQ_QUANT_THREADS = 128, LQ_PER_THREAD = 8 };
/* F::IMPORTANCE; by row: its mean square tempers importance. */
static constexpr int LQ_NEVER = 0, LQ_BY_BLOCK = 1, LQ_BY_ROW = 2;

/* ---- where codes lie ------------------------------------------------------------------------- */

/* A bit field of every element, `BITS` wide; see lq_code_plane. */
template <int BITS_, int AT_, int RUN> struct Plane {
    enum { BITS = BITS_, AT = AT_, FIELDS = 8 / BITS };
    /* The first element of those in byte k; the next lie RUN apart. */
    static __device__ int element(int k) { return k / RUN * FIELDS * RUN + k % RUN; }
    static __device__ int element(int k, int field) { return element(k) + field * RUN; }
    static __device__ int get(const uint8_t *block, int i) {
        const int run = i / RUN;
        return block[AT + run / FIELDS * RUN + i % RUN] >> run % FIELDS * BITS & ((1 << BITS) - 1);
    }
};
struct NoPlane {
    enum { BITS = 0 };
    static __device__ int get(const uint8_t *, int) { return 0; }
};
/* Codes that the format packs itself, into N bytes from AT on. */
template <int AT_, int N_> struct Packed { enum { AT = AT_, N = N_ }; };

/* Shared codes of one block: groups lie 4 bytes further apart than they are long, so that lanes
 * reach different banks. */
template <class F> static __device__ int code_at(int i) {
    return i / F::GROUP * (F::GROUP + 4) + i % F::GROUP;
}

template <class F> static __device__ int code_of(const uint8_t *block, int i) {
    return F::Low::get(block, i) | F::High::get(block, i) << F::Low::BITS;
}

/* ---- what a lane works with ------------------------------------------------------------------ */

template <class F> struct Place {
    enum { GROUP = F::GROUP, LANES = F::BLOCK / F::GROUP };
    const float *block, *block_importance;  /* the block's numbers; importance: NULL: none */
    float mean_square;                      /* of the row, if weighted by row */
    int lane;
    float *share;                           /* shared: 4 numbers of each lane */
    uint8_t *codes, *bytes;                 /* shared */

    __device__ const float *numbers() const { return block + lane * GROUP; }
    __device__ const float *importance() const { return block_importance + lane * GROUP; }
    __device__ void load(float *x) const { load_from(x, numbers()); }
    static __device__ void load_from(float *x, const float *from) {
        const float4 *const p = (const float4 *)from;
        for (int i = 0; i < GROUP / 4; i++) {
            const float4 v = p[i];
            x[4 * i] = v.x;
            x[4 * i + 1] = v.y;
            x[4 * i + 2] = v.z;
            x[4 * i + 3] = v.w;
        }
    }
    __device__ void put(int i, int code) const { codes[lane * (GROUP + 4) + i] = (uint8_t)code; }
    __device__ void put_half(int at, float x) const {
        const uint16_t half = f16_from_f32(x);
        bytes[at] = (uint8_t)(half & 255);
        bytes[at + 1] = (uint8_t)(half >> 8);
    }
    /* Every lane calls it: share[which * LANES + lane], then a barrier. */
    __device__ void exchange(int which, float x) const {
        share[which * LANES + lane] = x;
        __syncthreads();
    }
    __device__ const float *shared(int which) const { return share + which * LANES; }
};

static __device__ float half_at(const uint8_t *p) {
    return f32_from_f16((uint16_t)(p[0] | p[1] << 8));
}

template <int N> static __device__ float largest_of(const float *x) {
    float most = 0;
    for (int i = 0; i < N; i++) most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    return most;
}

/* ---- quantizing ------------------------------------------------------------------------------ */

/* The bytes of a plane in all blocks at hand; a code's bits from `shift` on. */
template <class F, class P>
static __device__ void pack_plane(const uint8_t *codes, uint8_t *bytes, int units, int shift,
                                  int pitch) {
    enum { N = F::BLOCK * P::BITS / 8 };
    for (int k = (int)threadIdx.x; k < units * N; k += LQ_QUANT_THREADS) {
        const uint8_t *const from = codes + k / N * pitch;
        int byte = 0;
        for (int f = 0; f < P::FIELDS; f++) {
            const int code = from[code_at<F>(P::element(k % N, f))] >> shift;
            byte |= (code & ((1 << P::BITS) - 1)) << f * P::BITS;
        }
        bytes[k / N * F::BYTES + P::AT + k % N] = (uint8_t)byte;
    }
}

template <class F, class P> struct Packer {
    static __device__ void run(const uint8_t *codes, uint8_t *bytes, int units, int pitch) {
        pack_plane<F, P>(codes, bytes, units, 0, pitch);
        if constexpr (F::High::BITS > 0)
            pack_plane<F, typename F::High>(codes, bytes, units, P::BITS, pitch);
    }
};
template <class F, int AT, int N> struct Packer<F, Packed<AT, N>> {
    static __device__ void run(const uint8_t *codes, uint8_t *bytes, int units, int pitch) {
        for (int k = (int)threadIdx.x; k < units * N; k += LQ_QUANT_THREADS)
            bytes[k / N * F::BYTES + AT + k % N] = F::pack(codes + k / N * pitch, k % N);
    }
};

/* n bytes; 16 at a time where both ends allow it. */
static inline __device__ void copy_bytes(uint8_t *to, const uint8_t *from, int n) {
    const int wide = ((uintptr_t)to | (uintptr_t)from) % 16 == 0 ? n / 16 : 0;
    for (int i = (int)threadIdx.x; i < wide; i += LQ_QUANT_THREADS)
        ((uint4 *)to)[i] = ((const uint4 *)from)[i];
    for (int i = wide * 16 + (int)threadIdx.x; i < n; i += LQ_QUANT_THREADS) to[i] = from[i];
}

/* In order of the elements, as the CPU adds them up; all threads call it. */
template <class F> static __device__ float row_mean_square(const float *x, int64_t n) {
    __shared__ float tile[1024], mean;
    float sum = 0;
    for (int64_t at = 0; at < n; at += 1024) {
        const int some = (int)(n - at < 1024 ? n - at : 1024);
        for (int i = (int)threadIdx.x; i < some; i += LQ_QUANT_THREADS) tile[i] = x[at + i];
        __syncthreads();
        if (threadIdx.x == 0)
            for (int i = 0; i < some; i++) sum += tile[i] * tile[i];
        __syncthreads();
    }
    if (threadIdx.x == 0) mean = sum / (float)n;
    __syncthreads();
    return mean;
}

/* Codes by the scales that the bytes hold already; see reround.h. */
template <class F> static __device__ void recode(const Place<F> &p) {
    float x[F::GROUP], step, low;
    p.load(x);
    F::grid(p.bytes, p.lane, &step, &low);
    for (int i = 0; i < F::GROUP; i++) p.put(i, kept_scale_code(x[i], step, low, F::TOP));
}

enum Task { PLAIN, WEIGHTED, KEEP_SCALES };

/* Rows of `blocks` blocks; `parts` thread blocks share a row. Lanes beyond the row's end do the
 * last block once more, so that all meet at the barriers; it is not written again. */
template <class F, Task TASK>
static __global__ void quant_kernel(const float *x, uint8_t *out, int64_t blocks, int64_t parts,
                                    const float *importance) {
    enum { LANES = F::BLOCK / F::GROUP, UNITS = LQ_QUANT_THREADS / LANES,
           PITCH = LANES * (F::GROUP + 4) };
    __align__(16) __shared__ uint8_t bytes[UNITS * F::BYTES];
    __align__(16) __shared__ uint8_t codes[UNITS * PITCH];
    __shared__ float share[4 * LQ_QUANT_THREADS];
    const int64_t row = blockIdx.x / parts;
    const int unit = (int)threadIdx.x / LANES;
    Place<F> p;
    p.lane = (int)threadIdx.x % LANES;
    p.share = share + unit * 4 * LANES;
    p.codes = codes + unit * PITCH;
    p.bytes = bytes + unit * F::BYTES;
    x += row * blocks * F::BLOCK;
    out += row * blocks * F::BYTES;
    p.mean_square = 0;
    if constexpr (TASK == WEIGHTED && F::IMPORTANCE == LQ_BY_ROW)
        p.mean_square = row_mean_square<F>(x, blocks * F::BLOCK);
    for (int64_t at = blockIdx.x % parts * UNITS; at < blocks; at += parts * UNITS) {
        const int units = (int)(blocks - at < UNITS ? blocks - at : (int64_t)UNITS);
        const int64_t block = at + (unit < units ? unit : units - 1);
        p.block = x + block * F::BLOCK;
        p.block_importance = TASK == WEIGHTED ? importance + block * F::BLOCK : NULL;
        if constexpr (TASK == KEEP_SCALES) {
            copy_bytes(bytes, out + at * F::BYTES, units * F::BYTES);
            __syncthreads();
            recode<F>(p);
        } else {
            F::encode(p);
        }
        __syncthreads();
        Packer<F, typename F::Low>::run(codes, bytes, units, PITCH);
        __syncthreads();
        copy_bytes(out + at * F::BYTES, bytes, units * F::BYTES);
        __syncthreads();
    }
}

/* parts: thread blocks that share a row; 0: as many as it takes. */
template <class F, Task TASK>
static void quant_rows(lq_dev *dev, const float *x, void *out, int64_t rows, int64_t blocks,
                       int64_t parts, const float *importance) {
    enum { UNITS = LQ_QUANT_THREADS / (F::BLOCK / F::GROUP) };
    if (!parts) parts = lq_blocks(blocks, UNITS);
    if (rows * parts > 0)
        lq_launch(dev, quant_kernel<F, TASK>, (unsigned)(rows * parts), LQ_QUANT_THREADS, 0, x,
                  (uint8_t *)out, blocks, parts, importance);
}

/* Without importance rows do not matter. */
template <class F>
static void quant_blocks(lq_dev *dev, const float *x, void *out, int64_t rows, int64_t cols,
                         const float *importance) {
    if constexpr (F::IMPORTANCE != LQ_NEVER)
        if (importance) {
            quant_rows<F, WEIGHTED>(dev, x, out, rows, cols / F::BLOCK, F::IMPORTANCE == LQ_BY_ROW,
                                importance);
            return;
        }
    quant_rows<F, PLAIN>(dev, x, out, 1, rows * cols / F::BLOCK, 0, NULL);
}

template <class F>
static void reround_blocks(lq_dev *dev, const float *x, void *blocks, int64_t n) {
    quant_rows<F, KEEP_SCALES>(dev, x, blocks, 1, n / F::BLOCK, 0, NULL);
}

/* ---- dequantizing ---------------------------------------------------------------------------- */

template <typename T> struct __align__(16) Run { T x[LQ_PER_THREAD]; };

template <class F, typename T>
static __global__ void dequant_kernel(const uint8_t *in, T *out, int64_t n) {
    for (int64_t i = lq_thread_first() * LQ_PER_THREAD; i < n;
         i += lq_thread_step() * LQ_PER_THREAD) {
        float x[LQ_PER_THREAD];
        Run<T> run;
        F::decode(in + i / F::BLOCK * F::BYTES, (int)(i % F::BLOCK), x);
        for (int k = 0; k < LQ_PER_THREAD; k++) run.x[k] = lq_from_float<T>(x[k]);
        *(Run<T> *)(out + i) = run;
    }
}

template <class F>
static void dequant_blocks(lq_dev *dev, const void *in, void *out, const lq_format *out_fmt,
                           int64_t n) {
    lq_by_activation(out_fmt, [&](auto type) {
        typedef decltype(type) T;
        if (n > 0)
            lq_launch(dev, dequant_kernel<F, T>, lq_blocks(n, LQ_BLOCK * LQ_PER_THREAD), LQ_BLOCK,
                      0, (const uint8_t *)in, (T *)out, n);
    });
}

/* out = d (code - offset) - m for 8 elements */
template <class F>
static __device__ void decode_linear(const uint8_t *b, int at, float d, float m, int offset,
                                     float *out) {
    for (int k = 0; k < LQ_PER_THREAD; k++)
        out[k] = d * (float)(code_of<F>(b, at + k) - offset) - m;
}

#endif
