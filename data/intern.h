/* Interned strings: text to number in order of arrival, and back. Open addressing, linear probing.
 */
#ifndef LOQUAT_INTERN_H
#define LOQUAT_INTERN_H

#include "base.h"

typedef struct lq_intern {
    char *text;        /* all strings, a NUL behind each */
    int64_t *start;    /* n + 1 offsets into text */
    int32_t *slot;     /* 2^bits numbers, -1: free */
    int64_t cap_text, cap_start;
    int32_t n;
    int bits;
} lq_intern;

void lq_intern_clear(lq_intern *t);
/* The number of s[0..n), a new one if it is not there yet. */
lq_status lq_intern_add(lq_intern *t, const char *s, size_t n, int32_t *number);
/* -1: not there. */
int32_t lq_intern_find(const lq_intern *t, const char *s, size_t n);
const char *lq_intern_text(const lq_intern *t, int32_t number, size_t *n);

#endif
