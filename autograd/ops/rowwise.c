/* See rowwise.h. */
#include "rowwise.h"

lq_status lq_check_matrix(const lq_tensor *t, const char *what) {
    if (t && lq_is_activation_format(t->fmt) && t->ndim == 2) return LQ_OK;
    if (!t) return lq_fail(LQ_ESHAPE, "%s is missing", what);
    return lq_fail(LQ_ESHAPE, "%s has %d dimensions of %s, wanted a matrix of f32", what, t->ndim,
                   t->fmt->name);
}

lq_status lq_check_vector(const lq_tensor *t, const char *what, const lq_format *fmt, int64_t n) {
    if (!t) return lq_fail(LQ_ESHAPE, "%s is missing", what);
    if (t->fmt == fmt && t->ndim == 1 && t->dim[0] == n) return LQ_OK;
    return lq_fail(LQ_ESHAPE, "%s is %s with %d dimensions, the first %lld; wanted %s (%lld)", what,
                   t->fmt->name, t->ndim, (long long)t->dim[0], fmt->name, (long long)n);
}

lq_status lq_check_same(const lq_tensor *a, const char *what_a, const lq_tensor *b,
                        const char *what_b) {
    LQ_TRY(lq_check_matrix(a, what_a));
    LQ_TRY(lq_check_matrix(b, what_b));
    if (a->dim[0] == b->dim[0] && a->dim[1] == b->dim[1]) return LQ_OK;
    return lq_fail(LQ_ESHAPE, "%s is (%lld,%lld), %s is (%lld,%lld); wanted the same shape", what_a,
                   (long long)a->dim[0], (long long)a->dim[1], what_b, (long long)b->dim[0],
                   (long long)b->dim[1]);
}

void lq_set_matrix(lq_tensor *t, int64_t rows, int64_t cols) {
    t->fmt = &lq_f32;
    t->ndim = 2;
    t->dim[0] = rows;
    t->dim[1] = cols;
}
