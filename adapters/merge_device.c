/* Effective weights on a device: merge.c's steps, tile by tile, through the device's queue
 * (effective.h). Nothing waits: a bad number leaves its job's index in a word that is copied back,
 * and a later call finds it. */
#include "effective.h"
#include "merge_parts.h"

#include <assert.h>

enum { DEVICE_TILE = 1 << 22, NOTHING_BAD = INT32_MAX };   /* 16 MiB: stays in a GPU's L2 cache */

typedef struct source { const void *data; const float *importance; } source;   /* of a job */

struct lq_merge_device {
    lq_dev *dev;
    source *source;
    float *tile, *value;              /* a tile each; value: for watching */
    char *before;                     /* a tile's bytes */
    lq_watch_part *part, *fetched;    /* LQ_WATCH_PARTS of every tile; the host's copy */
    int32_t *bad, *seen;              /* the least bad job; its copy in pinned memory */
};

lq_status lq_merge_on(lq_merge *merge, lq_dev *dev) {
    assert(merge->n == 0 && !merge->device);
    if (!dev->row->effective) return LQ_OK;
    merge->device = lq_alloc(sizeof *merge->device);
    if (!merge->device) return LQ_EMEM;
    merge->device->dev = dev;
    merge->tile_limit = DEVICE_TILE;
    return LQ_OK;
}

void lq_merge_device_free(lq_merge *merge) {
    lq_merge_device *const d = merge->device;
    const lq_device_row *const row = d->dev->row;
    row->free(d->dev, d->tile);
    row->free(d->dev, d->value);
    row->free(d->dev, d->before);
    row->free(d->dev, d->part);
    row->free(d->dev, d->bad);
    row->free_pinned(d->dev, d->seen);
    lq_free(d->fetched);
    lq_free(d->source);
    lq_free(d);
}

/* ---- before the first run -------------------------------------------------------------------- */

static lq_status check_job(const lq_dev *dev, const lq_merge_job *job) {
    const lq_effective *const e = dev->row->effective;
    const char *what = e->refuses(job->fmt, false);
    if (what)
        return lq_fail(LQ_EUNSUPPORTED, "%s: %s on device '%s': %s", job->name, job->fmt->label,
                       dev->row->name, what);
    what = job->out ? e->refuses(job->out_fmt, true) : NULL;
    if (what)
        return lq_fail(LQ_EUNSUPPORTED, "%s: %s on device '%s': %s", job->name,
                       job->out_fmt->label, dev->row->name, what);
    return LQ_OK;
}

static lq_status find_source(lq_dev *dev, const lq_merge_job *job, source *out) {
    const void *importance = NULL;
    LQ_TRY(check_job(dev, job));
    LQ_TRY(lq_dev_resident(dev, &out->data, job->data,
                           lq_format_bytes(job->fmt, job->rows * job->cols)));
    if (job->importance)
        LQ_TRY(lq_dev_resident(dev, &importance, job->importance,
                               (size_t)(job->n_mats * job->cols) * sizeof(float)));
    out->importance = importance;
    return LQ_OK;
}

static size_t tile_bytes(const lq_merge *merge) {
    return (size_t)merge->tile_floats * sizeof(float);
}

lq_status lq_merge_device_prepare(lq_merge *merge) {
    lq_merge_device *const d = merge->device;
    const lq_device_row *const row = d->dev->row;
    d->source = lq_alloc_array(merge->n, sizeof *d->source);
    if (!d->source) return LQ_EMEM;
    for (int i = 0; i < merge->n; i++)
        LQ_TRY(find_source(d->dev, &merge->job[i], &d->source[i]));
    LQ_TRY(row->alloc(d->dev, (void **)&d->tile, tile_bytes(merge)));
    LQ_TRY(row->alloc(d->dev, (void **)&d->bad, sizeof *d->bad));
    LQ_TRY(row->alloc_pinned(d->dev, (void **)&d->seen, sizeof *d->seen));
    *d->seen = NOTHING_BAD;
    row->copy(d->dev, d->bad, d->seen, sizeof *d->bad);
    return LQ_OK;
}

/* ---- runs ------------------------------------------------------------------------------------ */

/* Rows [row, row + n) of job i's result, in F32, into the tile; checked. */
static void effective_rows(const lq_merge *merge, int i, int64_t row, int64_t n) {
    const lq_merge_device *const d = merge->device;
    const lq_effective *const e = d->dev->row->effective;
    const lq_merge_job *const job = &merge->job[i];
    const int64_t at = row * job->cols, mat = row / lq_merge_mat_rows(job);
    const bool scaled = job->m || job->norm;
    const lq_tile_guard guard = {lq_format_max(job->out_fmt), i, d->bad}, none = {0};
    const lq_format *fmt = job->fmt;
    const void *w = (const char *)d->source[i].data + lq_format_bytes(job->fmt, at);
    if (job->a0) {
        e->sum(d->dev, d->tile, fmt, w, -job->scale, job->b0 + row * job->rank,
               job->a0 + mat * job->rank * job->cols, n, job->cols, job->rank, none);
        fmt = &lq_f32;
        w = d->tile;
    }
    e->sum(d->dev, d->tile, fmt, w, job->scale, job->a ? job->b + row * job->rank : NULL,
           job->a ? job->a + mat * job->rank * job->cols : NULL, n, job->cols,
           job->a ? job->rank : 0, scaled ? none : guard);
    if (scaled)
        e->scale_rows(d->dev, d->tile, job->m ? job->m + row : NULL,
                      job->norm ? job->norm + row : NULL, n, job->cols, guard);
}

static void merge_tile(const lq_merge *merge, int i, int64_t row, int64_t n, bool keep_scales,
                       lq_watch_part *part) {
    const lq_merge_device *const d = merge->device;
    const lq_effective *const e = d->dev->row->effective;
    const lq_merge_job *const job = &merge->job[i];
    const int64_t at = row * job->cols, count = n * job->cols;
    effective_rows(merge, i, row, n);
    if (!job->out) return;
    char *const out = (char *)job->out + lq_format_bytes(job->out_fmt, at);
    const float *const importance = d->source[i].importance;
    if (part) d->dev->row->copy(d->dev, d->before, out, lq_format_bytes(job->out_fmt, count));
    e->quant(d->dev, job->out_fmt, d->tile, out, n, job->cols,
             importance ? importance + row / lq_merge_mat_rows(job) * job->cols : NULL,
             keep_scales);
    if (part) e->watch(d->dev, job->out_fmt, d->before, out, d->tile, d->value, count, part);
    if (job->clipped)
        e->saturation(d->dev, job->out_fmt, d->tile, out, count, job->clipped + at / 32);
}

static lq_status found_bad(const lq_merge *merge) {
    const int32_t bad = *(const volatile int32_t *)merge->device->seen;
    return bad == NOTHING_BAD ? LQ_OK : lq_merge_bad(&merge->job[bad]);
}

lq_status lq_merge_device_run(const lq_merge *merge, bool keep_scales) {
    const lq_merge_device *const d = merge->device;
    lq_watch_part *part = merge->watching ? d->part : NULL;
    LQ_TRY(found_bad(merge));
    for (int i = 0; i < merge->n; i++) {
        const lq_merge_job *const job = &merge->job[i];
        const int64_t height = lq_merge_tile_rows(merge, job);
        for (int64_t row = 0; row < job->rows; row += height) {
            const int64_t left = job->rows - row;
            merge_tile(merge, i, row, left < height ? left : height, keep_scales, part);
            if (part) part += LQ_WATCH_PARTS;
        }
    }
    d->dev->row->copy(d->dev, d->seen, d->bad, sizeof *d->bad);
    return d->dev->row->check(d->dev);
}

lq_status lq_merge_device_settle(const lq_merge *merge) {
    LQ_TRY(merge->device->dev->row->wait(merge->device->dev));
    return found_bad(merge);
}

/* ---- watching -------------------------------------------------------------------------------- */

static size_t part_bytes(int64_t tiles) {
    return (size_t)(tiles * LQ_WATCH_PARTS) * sizeof(lq_watch_part);
}

lq_status lq_merge_device_watchable(lq_merge *merge) {
    lq_merge_device *const d = merge->device;
    const lq_device_row *const row = d->dev->row;
    const size_t bytes = part_bytes(lq_merge_first_tile(merge, merge->n));
    LQ_TRY(row->alloc(d->dev, (void **)&d->value, tile_bytes(merge)));
    LQ_TRY(row->alloc(d->dev, (void **)&d->before, tile_bytes(merge)));
    LQ_TRY(row->alloc(d->dev, (void **)&d->part, bytes));
    d->fetched = lq_alloc(bytes);
    return d->fetched ? LQ_OK : LQ_EMEM;
}

void lq_merge_device_watch(const lq_merge *merge) {
    const lq_merge_device *const d = merge->device;
    d->dev->row->fill(d->dev, d->part, 0, part_bytes(lq_merge_first_tile(merge, merge->n)));
}

lq_watch_sums lq_merge_device_watched(const lq_merge *merge, int job) {
    const lq_merge_device *const d = merge->device;
    const int64_t first = lq_merge_first_tile(merge, job) * LQ_WATCH_PARTS;
    const int64_t end = lq_merge_first_tile(merge, job + 1) * LQ_WATCH_PARTS;
    lq_watch_sums total = {0};
    d->dev->row->copy(d->dev, d->fetched, d->part + first,
                      (size_t)(end - first) * sizeof *d->part);
    if (d->dev->row->wait(d->dev) != LQ_OK) return total; /* the next run says so */
    for (int64_t i = 0; i < end - first; i++) {
        const lq_watch_part *const p = &d->fetched[i];
        const lq_watch_sums part = {p->codes, p->changed, p->saturated, p->error, p->norm};
        lq_watch_add(&total, &part);
    }
    return total;
}
