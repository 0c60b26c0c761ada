/* What a device other than the CPU does for a tile of rows of an effective weight; the order of the
 * steps is adapters/merge.c's. All of it is queued. Pointers are the device's memory. */
#ifndef LOQUAT_EFFECTIVE_H
#define LOQUAT_EFFECTIVE_H

#include "device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* *bad becomes `index` if that is less and a number is NaN or beyond limit. bad NULL: not asked. */
typedef struct lq_tile_guard {
    float limit;
    int32_t index, *bad;
} lq_tile_guard;

enum { LQ_WATCH_PARTS = 64 };   /* parts of a tile's telemetry, to be added up in order */

typedef struct lq_watch_part {
    int64_t codes, changed, saturated;   /* codes: elements that have one */
    double error, norm;
} lq_watch_part;

typedef struct lq_effective {
    /* NULL if fmt can be read, and also written if `write`; else what is wrong with it. */
    const char *(*refuses)(const lq_format *fmt, bool write);
    /* tile (rows,cols), F32, = w (rows,cols) of fmt + scale b (rows,rank) a (rank,cols) */
    void (*sum)(lq_dev *dev, float *tile, const lq_format *fmt, const void *w, float scale,
                const float *b, const float *a, int64_t rows, int64_t cols, int rank,
                lq_tile_guard guard);
    /* Rows of the tile become m (rows) / their length, which norm receives; a row of zeros stays.
     * m NULL: they stay; norm NULL: not asked. */
    void (*scale_rows)(lq_dev *dev, float *tile, const float *m, float *norm, int64_t rows,
                       int64_t cols, lq_tile_guard guard);
    /* keep_scales: as lq_reround, where fmt can. importance (cols): NULL: none. */
    void (*quant)(lq_dev *dev, const lq_format *fmt, const float *tile, void *out, int64_t rows,
                  int64_t cols, const float *importance, bool keep_scales);
    /* As lq_saturation. */
    void (*saturation)(lq_dev *dev, const lq_format *fmt, const float *x, const void *blocks,
                       int64_t n, uint32_t *mask);
    /* x (n) became `after` where `before` was; value: scratch (n). part: LQ_WATCH_PARTS. */
    void (*watch)(lq_dev *dev, const lq_format *fmt, const void *before, const void *after,
                  const float *x, float *value, int64_t n, lq_watch_part *part);
} lq_effective;

extern const lq_effective lq_cuda_effective;

#ifdef __cplusplus
}
#endif
#endif
