/* Naive references in double precision: the formulas of ops.h, one loop per index. Slow on purpose;
 * nothing is shared with the kernels. Shapes as in ops.h; N rows. */
#ifndef LOQUAT_REF_H
#define LOQUAT_REF_H

#include "ops.h"

/* out (N,D) = scale * w[ids] */
void ref_embed(double *out, const int32_t *ids, const double *w, double scale, int64_t n,
               int64_t d);
/* out (N,D), w (d) */
void ref_rmsnorm(double *out, const double *x, const double *w, double eps, int64_t n, int64_t cols,
                 int64_t d);
/* out (N,D), bias may be NULL */
void ref_layernorm(double *out, const double *x, const double *w, const double *bias, double eps,
                   int64_t n, int64_t d);
/* out (N,O) = x (N,D) w^T (O,D) + bias (O) or NULL */
void ref_linear(double *out, const double *x, const double *w, const double *bias, int64_t n,
                int64_t d, int64_t o);
/* out (N,cols); factors may be NULL */
void ref_rope(double *out, const double *x, const int32_t *pos, const double *factors,
              lq_rope_attr attr, int64_t n, int64_t cols);
/* out, q (N,H*d), k, v (N,K*d) */
void ref_attention(double *out, const double *q, const double *k, const double *v,
                   const int32_t *starts, lq_attention_attr attr, int64_t n);
/* up may be NULL */
void ref_glu(double *out, const double *gate, const double *up, lq_act act, int64_t n);
void ref_softcap(double *out, const double *x, double cap, int64_t n);
/* out (N,2), h (N,D), w (V,D) */
void ref_ce_head(double *out, const double *h, const double *w, const int32_t *labels,
                 double softcap, int64_t n, int64_t d, int64_t vocab);
/* out (N,4) with a teacher of hidden states th (N,dt) and head tw (V,dt). */
void ref_kd_head(double *out, const double *h, const double *w, const int32_t *labels,
                 const double *th, const double *tw, lq_kd_head_attr attr, int64_t n, int64_t d,
                 int64_t dt, int64_t vocab);
/* The buckets of a teacher's row: sums the shares of all tokens beyond its K most likely into the
 * last; id (K), p (K+1). */
void ref_top_buckets(const double *logits, double temperature, int64_t vocab, int64_t K,
                     int32_t *id, double *p);
/* The same out with such buckets: id (N,K), log_p (N,K+1). */
void ref_kd_head_top(double *out, const double *h, const double *w, const int32_t *labels,
                     const int32_t *id, const double *log_p, lq_kd_head_attr attr, int64_t n,
                     int64_t d, int64_t vocab);

#endif
