/* The best approximation of a matrix by one of low rank, by a randomized singular value
 * decomposition (Halko, Martinsson, Tropp, arXiv 0909.4061). */
#ifndef LOQUAT_LOWRANK_H
#define LOQUAT_LOWRANK_H

#include "base.h"

/* e (rows,cols) ~ u v: u (rows,rank), v (rank,cols), each with half of the singular values (their
 * square roots), the largest first. e is not kept. rank may exceed the matrix's: what is beyond is
 * zero. Power iterations sharpen it where singular values fall slowly: 2 do for what is nearly of
 * low rank. Small matrices are decomposed exactly. The same key gives the same bits. */
lq_status lq_lowrank(float *u, float *v, const float *e, int64_t rows, int64_t cols, int rank,
                     int iterations, uint64_t key);

#endif
