/* W + s B A (- s B0 A0) in any format, with DoRA's magnitudes m / ||row|| times that, row tile by
 * row tile and in parallel: the one place where effective weights are computed, for the forward
 * pass and for files alike. */
#ifndef LOQUAT_MERGE_H
#define LOQUAT_MERGE_H

#include "device.h"
#include "model.h"
#include "watch.h"

typedef struct lq_merge_job {
    const char *name;        /* of the weight, for messages */
    const lq_format *fmt;    /* of `data` */
    const void *data;        /* W (rows, cols) */
    int64_t rows, cols;
    int64_t n_mats;          /* matrices stacked along the rows, each with its own A and B */
    int rank;
    float scale;
    const float *a, *b;      /* A (n_mats * rank, cols), B (rows, rank); NULL: none */
    const float *a0, *b0;    /* the same of what is subtracted; NULL: nothing */
    const float *m;          /* (rows): what the rows are scaled to the length of; NULL: nothing */
    float *norm;             /* (rows): receives their lengths before; NULL: not asked */
    const lq_format *out_fmt;
    void *out;               /* (rows, cols); NULL: only the lengths are wanted */
    const float *importance; /* (n_mats, cols): the quantizer's weights; NULL: none */
    uint32_t *clipped;       /* (rows, cols / 32): receives what out_fmt clips; NULL: not asked */
} lq_merge_job;

typedef struct lq_merge lq_merge;

lq_status lq_merge_new(lq_merge **out, int capacity);
void lq_merge_free(lq_merge *merge);
/* Before the first add: the work is the device's. Then a, b, a0, b0, m, norm, out and clipped of a
 * job are its memory, runs are queued, and what would be a run's LQ_ENONFINITE comes out of a later
 * run or of lq_merge_settle. */
lq_status lq_merge_on(lq_merge *merge, lq_dev *dev);
/* At most `capacity` times. */
void lq_merge_add(lq_merge *merge, lq_merge_job job);
/* Once, after the last add: the tiles that threads work in. */
lq_status lq_merge_prepare(lq_merge *merge);
/* Runs all jobs; allocates nothing; the bytes do not depend on the number of threads. LQ_ENONFINITE
 * names a weight with a NaN or a value beyond its format's range (F16's for blocks: their scales).
 */
lq_status lq_merge_run(const lq_merge *merge);
/* The same, but formats that can (reround.h) keep the scales that they have in `out`. */
lq_status lq_merge_reround(const lq_merge *merge);

/* On a device: waits for the runs so far and returns what they came to. */
lq_status lq_merge_settle(const lq_merge *merge);

/* After prepare: the memory for watching, which is off at first. */
lq_status lq_merge_watchable(lq_merge *merge);
/* While on, every run also counts what became of each job's codes; switching on begins at 0. */
void lq_merge_watch(lq_merge *merge, bool on);
bool lq_merge_watching(const lq_merge *merge);
/* Of the job added as number `job`; the sum does not depend on the number of threads. */
lq_watch_sums lq_merge_watched(const lq_merge *merge, int job);

/* The largest value that every format of this kind holds: F16's for blocks, whose scales are F16.
 */
float lq_format_max(const lq_format *fmt);
/* The largest |x|; NaN if any is NaN. */
float lq_max_abs(const float *x, int64_t n);

#endif
