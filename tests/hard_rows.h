/* Numbers that are hard to quantize: a generator for each kind. */
#ifndef LOQUAT_HARD_ROWS_H
#define LOQUAT_HARD_ROWS_H

#include <stdbool.h>

enum { HARD = 8192, HARD_KINDS = 14 };

void hard_fill(float *x, int kind);                       /* x (HARD) */
/* Equal bits, or both NaN (code 0 times an infinite scale). */
bool hard_same(const float *a, const float *b, int n);

#endif
