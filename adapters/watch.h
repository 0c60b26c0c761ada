/* Telemetry of quantized weights while they are rebuilt: how many codes changed, how many lie at
 * the ends of their range, how far Q(x) is from x. merge.c calls it per row tile. */
#ifndef LOQUAT_WATCH_H
#define LOQUAT_WATCH_H

#include "format.h"

typedef struct lq_watch_sums {
    int64_t codes;            /* 0: nothing counted, or a format without codes */
    int64_t changed;          /* others than before the rebuild */
    int64_t saturated;        /* at an end of the range */
    double error, norm;       /* sums of (Q(x) - x)^2 and x^2 */
} lq_watch_sums;

/* Scratch of one thread, each of a whole tile. */
typedef struct lq_watch_scratch { uint8_t *before, *after; float *value; } lq_watch_scratch;

/* Around the quantization of x (n) into `out`. */
void lq_watch_before(const lq_watch_scratch *s, const lq_format *fmt, const void *out, int64_t n);
void lq_watch_after(const lq_watch_scratch *s, const lq_format *fmt, const void *out,
                    const float *x, int64_t n, lq_watch_sums *sums);
void lq_watch_add(lq_watch_sums *sums, const lq_watch_sums *more);

double lq_watch_changed(const lq_watch_sums *s);     /* share; NaN without codes */
double lq_watch_saturated(const lq_watch_sums *s);   /* share; NaN without codes */
double lq_watch_distance(const lq_watch_sums *s);    /* |Q(x) - x| / |x|; NaN: nothing counted */

#endif
