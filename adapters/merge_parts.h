/* What merge.c and its twin for devices share. */
#ifndef LOQUAT_MERGE_PARTS_H
#define LOQUAT_MERGE_PARTS_H

#include "merge.h"

typedef struct lq_merge_device lq_merge_device;

struct lq_merge {
    lq_merge_job *job;
    int n, capacity;
    int64_t tile_limit;    /* elements that a tile of several rows may have */
    int64_t tile_floats;   /* of the largest tile */
    lq_merge_device *device;  /* NULL: on the CPU, and the following */
    int n_threads;
    float *tile;           /* n_threads tiles */
    bool watching;
    lq_watch_sums *sums;   /* of every tile of every job; NULL: not watchable */
    float *value;          /* n_threads tiles: what watching compares */
    uint8_t *codes;        /* 2 n_threads tiles */
};

int64_t lq_merge_mat_rows(const lq_merge_job *job);
int64_t lq_merge_tile_rows(const lq_merge *merge, const lq_merge_job *job);
/* The number, among all tiles of all jobs, of a job's first. */
int64_t lq_merge_first_tile(const lq_merge *merge, int job);
lq_status lq_merge_bad(const lq_merge_job *job);   /* the error */

/* ---- merge_device.c: as merge.h's functions ---- */
void lq_merge_device_free(lq_merge *merge);
lq_status lq_merge_device_prepare(lq_merge *merge);
lq_status lq_merge_device_watchable(lq_merge *merge);
lq_status lq_merge_device_run(const lq_merge *merge, bool keep_scales);
lq_status lq_merge_device_settle(const lq_merge *merge);
void lq_merge_device_watch(const lq_merge *merge);   /* from 0 on */
lq_watch_sums lq_merge_device_watched(const lq_merge *merge, int job);

#endif
