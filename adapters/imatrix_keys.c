/* See imatrix_keys.h. */
#include "imatrix_keys.h"

#include <stdio.h>

static lq_imatrix_key text_key(const char *key, const char *text) {
    lq_imatrix_key k = {.key = key, .is_text = true};
    snprintf(k.text, sizeof k.text, "%s", text);
    return k;
}

static lq_imatrix_key number_key(const char *key, uint32_t number) {
    return (lq_imatrix_key){.key = key, .number = number};
}

int lq_imatrix_keys(lq_imatrix_key out[LQ_N_IMATRIX_KEYS], const lq_imatrix *im) {
    int n = 0;
    if (!im) return 0;
    if (im->path) out[n++] = text_key("quantize.imatrix.file", im->path);
    if (*im->dataset) out[n++] = text_key("quantize.imatrix.dataset", im->dataset);
    out[n++] = number_key("quantize.imatrix.entries_count", (uint32_t)im->n);
    if (im->n_chunks) out[n++] = number_key("quantize.imatrix.chunks_count", im->n_chunks);
    return n;
}
