/* lq_tensor: format, shape, data, gradient. Contiguous and row-major; no strides, no views. */
#ifndef LOQUAT_TENSOR_H
#define LOQUAT_TENSOR_H

#include "format.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum lq_kind {
    LQ_WEIGHT,      /* frozen: someone else's data, never written through here; no gradient */
    LQ_PARAM,       /* trained; data and grad lie in the flat parameter span */
    LQ_GRADIENT,    /* of a parameter */
    LQ_INPUT,       /* written by the host before each run: ids, labels, positions */
    LQ_ACTIVATION   /* in the tape's arena, or the gradient of one */
} lq_kind;

typedef struct lq_tensor lq_tensor;
struct lq_tensor {
    const lq_format *fmt;
    lq_kind kind;
    int ndim;
    int64_t dim[4];      /* dim[ndim-1] is the row length (ggml's ne[0]). An input's or activation's
                            dim[0] is the number of rows (tokens) of the current run */
    void *data;
    const void *host;    /* an input's values, where the host can read them; else NULL */
    void *narrow;        /* a parameter's copy in the device's activation format, or NULL */
    lq_tensor *grad;     /* same shape; F32, or its activation's format; NULL: none flows here */
    const char *name;    /* for messages; borrowed from the tape; may be NULL */
    int first, last;     /* schedule entries: first write, last read (plan.h); -1: unset */
    size_t offset;       /* in the arena */
};

static inline int64_t lq_cols(const lq_tensor *t) { return t->dim[t->ndim - 1]; }

/* Product of all dimensions but the last. */
static inline int64_t lq_rows(const lq_tensor *t) {
    int64_t n = 1;
    for (int i = 0; i + 1 < t->ndim; i++) n *= t->dim[i];
    return n;
}

/* Of activations and their gradients: what lq_dev has chosen. */
static inline bool lq_is_activation_format(const lq_format *fmt) {
    return fmt == &lq_f32 || fmt == &lq_bf16;
}

static inline float *lq_data_f32(const lq_tensor *t) { return (float *)t->data; }
static inline float *lq_grad_f32(const lq_tensor *t) {
    return t->grad ? (float *)t->grad->data : NULL;
}
static inline const int32_t *lq_data_i32(const lq_tensor *t) { return (const int32_t *)t->data; }

#ifdef __cplusplus
}
#endif
#endif
