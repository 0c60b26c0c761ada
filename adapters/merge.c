/* Effective weights by row tiles: dequantize, add s B A, scale rows, check, quantize. See
 * merge.h. */
#include "merge.h"

#include "exact.h"
#include "merge_parts.h"
#include "reround.h"
#include "saturation.h"

#include <assert.h>
#include <float.h>
#include <omp.h>
#include <string.h>

enum { TILE_FLOATS = 1 << 15 }; /* 128 KiB: stays in the L2 cache with A beside it */

float lq_format_max(const lq_format *fmt) {
    return fmt == &lq_f32 || fmt == &lq_bf16 ? FLT_MAX : 65504;
}

lq_status lq_merge_new(lq_merge **out, int capacity) {
    *out = NULL;
    lq_merge *merge = lq_alloc(sizeof *merge);
    if (!merge) return LQ_EMEM;
    merge->capacity = capacity;
    merge->tile_limit = TILE_FLOATS;
    merge->job = lq_alloc_array(capacity, sizeof *merge->job);
    if (!merge->job) {
        lq_merge_free(merge);
        return LQ_EMEM;
    }
    *out = merge;
    return LQ_OK;
}

void lq_merge_free(lq_merge *merge) {
    if (!merge) return;
    if (merge->device) lq_merge_device_free(merge);
    lq_free(merge->job);
    lq_free(merge->tile);
    lq_free(merge->sums);
    lq_free(merge->value);
    lq_free(merge->codes);
    lq_free(merge);
}

int64_t lq_merge_mat_rows(const lq_merge_job *job) { return job->rows / job->n_mats; }

/* No tile reaches into the next matrix of a stack. */
int64_t lq_merge_tile_rows(const lq_merge *merge, const lq_merge_job *job) {
    const int64_t limit = merge->tile_limit, rows = job->cols < limit ? limit / job->cols : 1;
    const int64_t mat = lq_merge_mat_rows(job);
    if (job->n_mats == 1) return rows;
    int64_t height = rows < mat ? rows : mat;
    while (mat % height) height--;
    return height;
}

void lq_merge_add(lq_merge *merge, lq_merge_job job) {
    assert(merge->n < merge->capacity && !merge->tile && job.cols % job.out_fmt->block == 0);
    const int64_t tile = lq_merge_tile_rows(merge, &job) * job.cols;
    if (tile > merge->tile_floats) merge->tile_floats = tile;
    merge->job[merge->n++] = job;
}

lq_status lq_merge_prepare(lq_merge *merge) {
    size_t bytes;
    if (merge->device) return lq_merge_device_prepare(merge);
    merge->n_threads = omp_get_max_threads();
    const size_t tile_bytes = (size_t)merge->tile_floats * sizeof(float);
    LQ_TRY(lq_mul_size(&bytes, tile_bytes, (size_t)merge->n_threads));
    merge->tile = lq_alloc_aligned(bytes);
    return merge->tile ? LQ_OK : LQ_EMEM;
}

/* ---- watching -------------------------------------------------------------------------------- */

static int64_t n_tiles(const lq_merge *merge, const lq_merge_job *job) {
    const int64_t height = lq_merge_tile_rows(merge, job);
    return (job->rows + height - 1) / height;
}

int64_t lq_merge_first_tile(const lq_merge *merge, int job) {
    int64_t n = 0;
    for (int i = 0; i < job; i++) n += n_tiles(merge, &merge->job[i]);
    return n;
}

lq_status lq_merge_watchable(lq_merge *merge) {
    const int64_t scratch = merge->tile_floats * merge->n_threads;
    if (merge->device) return lq_merge_device_watchable(merge);
    merge->sums = lq_alloc_array(lq_merge_first_tile(merge, merge->n), sizeof *merge->sums);
    merge->value = lq_alloc_array(scratch, sizeof *merge->value);
    merge->codes = lq_alloc_array(2 * scratch, sizeof *merge->codes);
    return merge->sums && merge->value && merge->codes ? LQ_OK : LQ_EMEM;
}

void lq_merge_watch(lq_merge *merge, bool on) {
    const int64_t tiles = lq_merge_first_tile(merge, merge->n);
    assert(merge->sums || merge->device);
    merge->watching = on;
    if (on && merge->device) lq_merge_device_watch(merge);
    else if (on) memset(merge->sums, 0, (size_t)tiles * sizeof *merge->sums);
}

bool lq_merge_watching(const lq_merge *merge) { return merge->watching; }

lq_watch_sums lq_merge_watched(const lq_merge *merge, int job) {
    lq_watch_sums total = {0};
    if (merge->device) return lq_merge_device_watched(merge, job);
    const lq_watch_sums *sums = merge->sums + lq_merge_first_tile(merge, job);
    for (int64_t i = 0; i < n_tiles(merge, &merge->job[job]); i++) lq_watch_add(&total, &sums[i]);
    return total;
}

/* ---- one tile -------------------------------------------------------------------------------- */

float lq_max_abs(const float *x, int64_t n) {
    enum { LANES = 16 };
    uint32_t top[LANES] = {0}; /* |x| orders as its bits do, NaN above everything */
    for (int64_t i = 0; i < n; i += LANES) {
        uint32_t bits[LANES] = {0};
        memcpy(bits, x + i, (n - i < LANES ? (size_t)(n - i) : LANES) * sizeof *bits);
        for (int j = 0; j < LANES; j++) {
            const uint32_t magnitude = bits[j] & 0x7fffffffu;
            top[j] = magnitude > top[j] ? magnitude : top[j];
        }
    }
    for (int j = 1; j < LANES; j++)
        if (top[j] > top[0]) top[0] = top[j];
    float result;
    memcpy(&result, &top[0], sizeof result);
    return result;
}

/* With importance weights one call is one row. */
static void quantize(const lq_merge_job *job, int64_t row, int64_t n, const float *tile,
                     bool keep_scales) {
    const int64_t count = job->importance ? job->cols : n * job->cols;
    const size_t bytes = lq_format_bytes(job->out_fmt, count);
    char *out = (char *)job->out + lq_format_bytes(job->out_fmt, row * job->cols);
    if (keep_scales && lq_can_reround(job->out_fmt)) {
        lq_reround(job->out_fmt, tile, out, n * job->cols);
        return;
    }
    if (!job->importance) {
        job->out_fmt->quant(tile, out, count, NULL);
        return;
    }
    for (int64_t i = 0; i < n; i++, out += bytes, tile += count)
        job->out_fmt->quant(tile, out, count,
                            job->importance + (row + i) / lq_merge_mat_rows(job) * job->cols);
}

/* Rows of tile become m / length of them; a row of zeros stays what it is. */
static void scale_rows(const lq_merge_job *job, int64_t row, int64_t n, float *tile) {
    for (int64_t i = 0; i < n; i++) {
        float *const x = tile + i * job->cols;
        const float norm = lq_exact_length(x, job->cols);
        const float factor = job->m && norm > 0 ? job->m[row + i] / norm : 1;
        if (job->norm) job->norm[row + i] = norm;
        for (int64_t j = 0; j < job->cols; j++) x[j] *= factor;
    }
}

static void quantize_watched(const lq_merge *merge, const lq_merge_job *job, int64_t row, int64_t n,
                             const float *tile, bool keep_scales, lq_watch_sums *sums) {
    const int64_t count = n * job->cols, at = merge->tile_floats * omp_get_thread_num();
    const char *out = (char *)job->out + lq_format_bytes(job->out_fmt, row * job->cols);
    const lq_watch_scratch scratch = {merge->codes + 2 * at,
                                      merge->codes + 2 * at + merge->tile_floats,
                                      merge->value + at};
    lq_watch_before(&scratch, job->out_fmt, out, count);
    quantize(job, row, n, tile, keep_scales);
    *sums = (lq_watch_sums){0};
    lq_watch_after(&scratch, job->out_fmt, out, tile, count, sums);
}

/* Rows [row, row + n) plus scale * b a. */
static void add_product(const lq_merge_job *job, int64_t row, int64_t n, float *tile, float scale,
                        const float *a, const float *b) {
    const int64_t mat = row / lq_merge_mat_rows(job);
    if (!a || !job->rank) return;
    lq_exact_add_product(tile, scale, b + row * job->rank, a + mat * job->rank * job->cols, n,
                         job->cols, job->rank);
}

/* Rows [row, row + n) of the job's result, in F32. False: a value that no file should hold. */
static bool effective_rows(const lq_merge_job *job, int64_t row, int64_t n, float *tile) {
    const int64_t at = row * job->cols, count = n * job->cols;
    job->fmt->dequant((const char *)job->data + lq_format_bytes(job->fmt, at), tile, count);
    add_product(job, row, n, tile, -job->scale, job->a0, job->b0);
    add_product(job, row, n, tile, job->scale, job->a, job->b);
    if (job->m || job->norm) scale_rows(job, row, n, tile);
    return lq_max_abs(tile, count) <= lq_format_max(job->out_fmt);
}

static void note_clipped(const lq_merge_job *job, int64_t row, int64_t n, const float *tile) {
    const int64_t at = row * job->cols;
    lq_saturation(job->out_fmt, tile, (char *)job->out + lq_format_bytes(job->out_fmt, at),
                  n * job->cols, job->clipped + at / LQ_CLIP_BITS);
}

static bool merge_tile(const lq_merge *merge, int i, int64_t row, bool keep_scales) {
    const lq_merge_job *job = &merge->job[i];
    const int64_t height = lq_merge_tile_rows(merge, job);
    const int64_t n = job->rows - row < height ? job->rows - row : height;
    float *tile = merge->tile + merge->tile_floats * omp_get_thread_num();
    if (!effective_rows(job, row, n, tile)) return false;
    if (!job->out) return true;
    if (merge->watching)
        quantize_watched(merge, job, row, n, tile, keep_scales,
                         &merge->sums[lq_merge_first_tile(merge, i) + row / height]);
    else quantize(job, row, n, tile, keep_scales);
    if (job->clipped) note_clipped(job, row, n, tile);
    return true;
}

lq_status lq_merge_bad(const lq_merge_job *job) {
    return lq_fail(LQ_ENONFINITE,
                   "%s: the effective weight has a NaN or a value beyond what %s holds", job->name,
                   job->out_fmt->label);
}

static lq_status run(const lq_merge *merge, bool keep_scales) {
    int bad = merge->n;
#pragma omp parallel num_threads(merge->n_threads) reduction(min : bad)
    for (int i = 0; i < merge->n; i++) {
        const lq_merge_job *job = &merge->job[i];
        const int64_t height = lq_merge_tile_rows(merge, job);
#pragma omp for schedule(dynamic) nowait
        for (int64_t row = 0; row < job->rows; row += height)
            if (!merge_tile(merge, i, row, keep_scales) && i < bad) bad = i;
    }
    return bad == merge->n ? LQ_OK : lq_merge_bad(&merge->job[bad]);
}

lq_status lq_merge_run(const lq_merge *merge) {
    return merge->device ? lq_merge_device_run(merge, false) : run(merge, false);
}

lq_status lq_merge_reround(const lq_merge *merge) {
    return merge->device ? lq_merge_device_run(merge, true) : run(merge, true);
}

lq_status lq_merge_settle(const lq_merge *merge) {
    return merge->device ? lq_merge_device_settle(merge) : LQ_OK;
}
