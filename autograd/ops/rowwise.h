/* What the ops that work row by row share. */
#ifndef LOQUAT_ROWWISE_H
#define LOQUAT_ROWWISE_H

#include "op.h"

/* Fewer elements than this are not worth waking other threads for. */
enum { LQ_PARALLEL_ELEMENTS = 1 << 15 };

/* Columns per thread's turn where a sum over rows has to keep one order whatever the number of
 * threads. */
enum { LQ_COLUMN_CHUNK = 64 };

/* LQ_ESHAPE unless t is an F32 matrix (N, D). */
lq_status lq_check_matrix(const lq_tensor *t, const char *what);
/* LQ_ESHAPE unless t is a vector of n elements of format fmt. */
lq_status lq_check_vector(const lq_tensor *t, const char *what, const lq_format *fmt, int64_t n);
/* LQ_ESHAPE unless both are F32 matrices of one shape. */
lq_status lq_check_same(const lq_tensor *a, const char *what_a, const lq_tensor *b,
                        const char *what_b);
/* Shapes t as an F32 (rows, cols). */
void lq_set_matrix(lq_tensor *t, int64_t rows, int64_t cols);

#endif
