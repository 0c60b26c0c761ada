/* The scan for NaN and infinity. Packed formats show a bad scale in every number of its block. */
#include "model_parts.h"

#include <math.h>
#include <string.h>

enum { CHUNK = 4096 };   /* a multiple of every block */

static int64_t first_nonfinite(const float *x, int64_t n) {
    uint32_t bad = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bad |= (bits & 0x7f800000) == 0x7f800000;
    }
    if (!bad) return -1;
    int64_t i = 0;
    while (isfinite(x[i])) i++;
    return i;
}

static lq_status check_weight(const lq_weight *w) {
    float expanded[CHUNK];
    const int64_t total = w->rows * w->cols;
    for (int64_t at = 0; at < total; at += CHUNK) {
        const int64_t n = total - at < CHUNK ? total - at : CHUNK;
        const char *p = (const char *)w->data + lq_format_bytes(w->fmt, at);
        const float *x = (const float *)(const void *)p;
        if (w->fmt != &lq_f32) {
            w->fmt->dequant(p, expanded, n);
            x = expanded;
        }
        const int64_t i = first_nonfinite(x, n);
        if (i >= 0)
            return lq_fail(LQ_ENONFINITE, "%s has %s at row %lld, column %lld", w->name,
                           isnan(x[i]) ? "a NaN" : "an infinity", (long long)((at + i) / w->cols),
                           (long long)((at + i) % w->cols));
    }
    return LQ_OK;
}

lq_status lq_model_check_finite(const lq_model *m) {
    for (int i = 0; i < m->n_weights; i++) LQ_TRY(check_weight(&m->weight[i]));
    return LQ_OK;
}
