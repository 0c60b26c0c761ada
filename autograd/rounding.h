/* How a runtime rounds numbers that it does not keep in F32: what llama.cpp on x86-64 (AVX2 and
 * later) turns activations into before a product, and keys and values in its cache. */
#ifndef LOQUAT_ROUNDING_H
#define LOQUAT_ROUNDING_H

#include "format.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lq_rounding lq_rounding;
struct lq_rounding {
    const lq_format *fmt;
    int block;
    /* y = x stored and read back, for n elements (a multiple of block); y may be x. */
    void (*round)(const lq_rounding *self, const float *x, float *y, int64_t n);
};

/* Of the activations in a product with a weight of that format; NULL: they stay F32. */
const lq_rounding *lq_activation_rounding(const lq_format *weight);

/* Of a key/value cache of a type by name; *out NULL: F32. LQ_ECONFIG, saying `what`, lists the
 * types. */
lq_status lq_cache_rounding(const lq_rounding **out, const char *what, const char *type);

#ifdef __cplusplus
}
#endif
#endif
