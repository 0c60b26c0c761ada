/* The CPU's row kernels behind one table: a plain C reference first, AVX2 and AVX-512 versions
 * chosen at run time from what CPU and OS offer. LOQUAT_CPU=ref|avx2|avx512 forces one (tests); an
 * unavailable choice falls back to the best available with a warning in the log.
 *
 * All pointers are F32 unless said; no alignment is needed; n may be 0. `+=` means it adds. */
#ifndef LOQUAT_CPU_H
#define LOQUAT_CPU_H

#include "base.h"

/* Instruction sets, slowest first. */
enum { LQ_LEVEL_REF, LQ_LEVEL_AVX2, LQ_LEVEL_AVX512, LQ_LEVELS };

/* A block of attention scores: a row for each of m keys, a column for each of n queries, so that
 * queries lie in the lanes of a vector. Rows are LQ_SCORE_QUERIES apart. Query i sees the keys
 * [begin[i], end[i]); both are 0 from n on. Columns from n on may be overwritten. */
enum { LQ_SCORE_QUERIES = 64 };
typedef struct lq_scores {
    float *s;
    int64_t m, n;
    int32_t begin[LQ_SCORE_QUERIES], end[LQ_SCORE_QUERIES];
} lq_scores;

/* How a row's heads turn: by the angles of n_pairs pairs, (x[2i], x[2i+1]) or, with neox,
 * (x[i], x[i+n_pairs]); sign -1 turns back. What follows the pairs in a head stays alone. */
typedef struct lq_rope_row {
    int64_t n_heads, head_dim, n_pairs;
    bool neox, adds;
    float sign;
} lq_rope_row;

typedef struct lq_cpu {
    const char *name;
    int level;   /* what tables outside this one, such as a format's (codec.h), are indexed by */
    float (*dot)(const float *a, const float *b, int64_t n);
    void (*axpy)(float *y, float alpha, const float *x, int64_t n);          /* y += alpha x */
    void (*scale)(float *y, float alpha, int64_t n);                         /* y *= alpha */
    void (*add)(float *y, const float *a, const float *b, int64_t n);        /* y = a + b */
    float (*max)(const float *x, int64_t n);                                 /* -inf when n is 0 */
    double (*sum_squares)(const float *x, int64_t n);                        /* in double */
    double (*dot3)(const float *a, const float *b, const float *c, int64_t n);  /* sum a b c */
    /* y = exp(x - shift), returns the sum; relative error of exp below 2e-7, or 0 for a subnormal
     * result; x - shift <= 0 is expected, -inf gives 0. y may be x. */
    double (*exp_sum)(float *y, const float *x, float shift, int64_t n);
    /* Online softmax of each column of s. max (n) is brought up to date and s becomes exp(s - max)
     * where visible, else 0; sum (n) is rescaled and added to; shrink (n) says by what: 0 for the
     * first visible scores, 1 when max stays. */
    void (*softmax)(const lq_scores *s, float *max, float *sum, float *shrink);
    /* Its backward: s becomes p = exp(s - lse), and dp, laid out as s, becomes ds =
     * p (dp - correction) scale (1 - (s inverse_cap)^2); both 0 where not visible. */
    void (*softmax_bwd)(const lq_scores *s, float *dp, const float *lse, const float *correction,
                        float scale, float inverse_cap);
    /* y = x * inv_rms * w */
    void (*rmsnorm)(float *y, const float *x, const float *w, float inv_rms, int64_t n);
    /* dx += inv_rms * (dy*w) + coefficient * x  */
    void (*rmsnorm_bwd)(float *dx, const float *x, const float *w, const float *dy, float inv_rms,
                        float coefficient, int64_t n);
    void (*silu_mul)(float *y, const float *gate, const float *up, int64_t n);
    /* dgate, dup += ; either may be NULL */
    void (*silu_mul_bwd)(float *dgate, float *dup, const float *gate, const float *up,
                         const float *dy, int64_t n);
    void (*gelu_mul)(float *y, const float *gate, const float *up, int64_t n);   /* tanh form */
    void (*gelu_mul_bwd)(float *dgate, float *dup, const float *gate, const float *up,
                         const float *dy, int64_t n);
    void (*tanh_cap)(float *y, const float *x, float cap, int64_t n);   /* y = cap tanh(x/cap) */
    /* Rotates the pairs of each head. y = or, with adds, y += . y may be x when not. */
    void (*rope)(float *y, const float *x, const float *cos, const float *sin,
                 const lq_rope_row *row);
    const struct lq_narrow_kernel *narrow;   /* attention with narrow heads (narrow.h); or NULL */
    const struct lq_gemm_kernel *gemm;       /* blocked products (gemm_kernel.h); or NULL */
} lq_cpu;

extern const lq_cpu lq_cpu_ref;       /* cpu_ref.c: what all others are tested against */
const lq_cpu *lq_cpu_kernels(void);   /* the chosen table; chosen once, thread-safe */
/* For tests: the tables that run on this machine, NULL-terminated; and to use one of them from now
 * on (NULL: back to the choice). */
const lq_cpu *const *lq_cpu_tables(void);
void lq_cpu_force(const lq_cpu *table);

#endif
