/* Kernels on groups: 16 or 32 numbers that share a scale. The searches below are those of ggml's
 * quantizers. Their sums are F32, in order of the elements: that order is part of the formats'
 * definition, so the vector versions go across groups (one lane is one group) and every version
 * computes the same bits. Numbers for a search are therefore transposed: element i of group g is
 * x[i * LQ_GROUPS + g]. "Nearest" is lq_nearest_int's. */
#ifndef LOQUAT_GROUPS_H
#define LOQUAT_GROUPS_H

#include "affine_rule.h"

#include <stdint.h>

enum { LQ_GROUPS = 16, LQ_GROUP_MAX = 32 };

typedef struct lq_columns {
    float x[LQ_GROUP_MAX * LQ_GROUPS];   /* numbers */
    float w[LQ_GROUP_MAX * LQ_GROUPS];   /* weights of their squared errors */
    int size;                            /* elements of a group */
    int groups;                          /* in use; the others hold zeros */
} lq_columns;

/* Where a search ended, per group. The codes it found are nearest((x - base) * inverse) + offset,
 * limited; with inverse 0 they are 0. */
typedef struct lq_fit {
    float scale[LQ_GROUPS], min[LQ_GROUPS];       /* x is about scale * code - min */
    float inverse[LQ_GROUPS], base[LQ_GROUPS];
} lq_fit;

typedef struct lq_group_kernels {
    /* Least-squares scale of codes -half..half-1 among 19 candidate grids; min and base are 0. */
    void (*fit_signed)(const lq_columns *c, int half, lq_fit *fit);
    /* The same with the weights x^2 and by up to five sweeps over the codes. codes are the codes
     * plus half, where the group is not all below 1e-15, which gives 0; transposed as x. */
    void (*fit_sweeping)(const lq_columns *c, int half, lq_fit *fit, float *codes);
    /* Scale and minimum (not above 0; fit holds its negative) by weighted least squares. */
    void (*fit_affine)(const lq_columns *c, const lq_affine_rule *rule, lq_fit *fit);
    /* codes = nearest((x + shift) / d) limited to low..high, minus low; n is a multiple of 16. */
    void (*round)(const float *x, int n, float shift, float d, int low, int high, uint8_t *codes);
    /* codes = trunc((x - base) * inverse + offset), at most top; 0 where that is no number. n is a
     * multiple of 16. */
    void (*truncate)(const float *x, int n, float base, float inverse, float offset, int top,
                     uint8_t *codes);
    /* The least and the largest of n numbers, a multiple of 16; of equal zeros either. */
    void (*range)(const float *x, int n, float *low, float *high);
    /* The largest magnitude of n numbers, a multiple of 16; NaN does not count. */
    float (*largest)(const float *x, int n);
    /* y = d nearest(x inverse), |x inverse| below 2^22; n is a multiple of 16; y may be x. */
    void (*snap)(const float *x, int n, float inverse, float d, float *y);
    /* codes = 0, 1, 2 for -1, 0, 1: x inverse, of magnitude at most 1, rounded half away from zero;
     * NaN counts as 0. n is a multiple of 16. */
    void (*trits)(const float *x, int n, float inverse, uint8_t *codes);
    /* Each byte is a fraction in 256ths; its first digits in base 3, minus 1, times d: digit k of
     * byte i is out[k * n + i]. n is a multiple of 16. */
    void (*expand_trits)(const uint8_t *bytes, int n, int digits, float d, float *out);
    /* out = d (code - offset) - m for groups of `size` (a multiple of 16), d and m per group. */
    void (*expand)(const uint8_t *codes, int groups, int size, int offset, const float *d,
                   const float *m, float *out);
} lq_group_kernels;

/* Those of the CPU table in use. */
const lq_group_kernels *lq_groups(void);

extern const lq_group_kernels lq_groups_ref, lq_groups_avx2, lq_groups_avx512;

#endif
