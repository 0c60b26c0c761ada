/* Importance matrices in memory: making, checking, finding. See imatrix.h; imatrix_file.c reads and
 * writes. */
#include "imatrix.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

lq_status lq_imatrix_new(lq_imatrix **out, const char *dataset, uint32_t chunk_size) {
    lq_imatrix *im = lq_alloc(sizeof *im);
    *out = im;
    if (!im) return LQ_EMEM;
    im->chunk_size = chunk_size;
    im->dataset = lq_strdup(dataset);
    if (im->dataset) return LQ_OK;
    lq_imatrix_free(im);
    *out = NULL;
    return LQ_EMEM;
}

void lq_imatrix_free(lq_imatrix *im) {
    if (!im) return;
    for (int64_t i = 0; i < im->n; i++) {
        lq_free(im->entry[i].name);
        lq_free(im->entry[i].sum);
        lq_free(im->entry[i].count);
        lq_free(im->entry[i].mean);
    }
    lq_free(im->entry);
    lq_free(im->path);
    lq_free(im->dataset);
    lq_free(im);
}

lq_status lq_imatrix_add(lq_imatrix_entry **out, lq_imatrix *im, const char *name, int64_t n,
                         int64_t n_counts) {
    assert(n > 0 && n_counts > 0 && n % n_counts == 0);
    LQ_TRY(lq_reserve((void **)&im->entry, &im->capacity, im->n + 1, sizeof *im->entry));
    lq_imatrix_entry *e = &im->entry[im->n++];
    *e = (lq_imatrix_entry){.name = lq_strdup(name), .n = n, .n_counts = n_counts};
    e->sum = lq_alloc_array(n, sizeof *e->sum);
    e->count = lq_alloc_array(n_counts, sizeof *e->count);
    e->mean = lq_alloc_array(n, sizeof *e->mean);
    *out = e;
    return e->name && e->sum && e->count && e->mean ? LQ_OK : LQ_EMEM;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const lq_imatrix_entry *)a)->name, ((const lq_imatrix_entry *)b)->name);
}

static lq_status check_entry(const lq_imatrix_entry *e) {
    for (int64_t i = 0; i < e->n_counts; i++)
        if (!(e->count[i] >= 0) || !isfinite(e->count[i]))
            return lq_fail(LQ_ENONFINITE, "%s: count %lld is %g, wanted a number from 0", e->name,
                           (long long)i, (double)e->count[i]);
    for (int64_t i = 0; i < e->n; i++)
        if (!(e->sum[i] >= 0) || !isfinite(e->sum[i]))
            return lq_fail(LQ_ENONFINITE,
                           "%s: the importance of column %lld is %g, wanted a number from 0",
                           e->name, (long long)i, (double)e->sum[i]);
    return LQ_OK;
}

static void set_means(lq_imatrix_entry *e) {
    const int64_t cols = e->n / e->n_counts;
    for (int64_t i = 0; i < e->n; i++) {
        const float count = rintf(e->count[i / cols]);
        e->mean[i] = count > 0 ? e->sum[i] / count : 1;
    }
}

lq_status lq_imatrix_finish(lq_imatrix *im) {
    qsort(im->entry, (size_t)im->n, sizeof *im->entry, by_name);
    for (int64_t i = 0; i < im->n; i++) {
        if (i > 0 && by_name(&im->entry[i - 1], &im->entry[i]) == 0)
            return lq_fail(LQ_EFORMAT, "%s is there twice", im->entry[i].name);
        LQ_TRY(check_entry(&im->entry[i]));
        set_means(&im->entry[i]);
    }
    return LQ_OK;
}

/* NULL: none. */
static const lq_imatrix_entry *find(const lq_imatrix *im, const char *name) {
    const lq_imatrix_entry key = {.name = (char *)name};
    return im->n ? bsearch(&key, im->entry, (size_t)im->n, sizeof *im->entry, by_name) : NULL;
}

lq_status lq_imatrix_weights(const float **out, const lq_imatrix *im, const char *name, int64_t n) {
    const lq_imatrix_entry *e = im ? find(im, name) : NULL;
    *out = NULL;
    if (!e) return LQ_OK;
    if (e->n != n)
        return lq_fail(LQ_ESHAPE,
                       "%s: the importance matrix has %lld columns, the tensor %lld: it was made "
                       "for another model",
                       name, (long long)e->n, (long long)n);
    *out = e->mean;
    return LQ_OK;
}
