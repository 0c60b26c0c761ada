/* The fingerprint of a base's weights. See base_stamp.h. */
#include "base_stamp.h"

static const lq_format *format_of(const lq_model *m, const lq_patch *patch, int i) {
    return patch && patch[i].fmt ? patch[i].fmt : m->weight[i].fmt;
}

static void hash_weights(char (*hex)[LQ_SHA256_HEX], const lq_model *m, const lq_patch *patch) {
#pragma omp parallel for schedule(dynamic)
    for (int i = 0; i < m->n_weights; i++) {
        const lq_weight *w = &m->weight[i];
        const void *data = patch && patch[i].fmt ? patch[i].data : w->data;
        lq_sha256(hex[i], data, lq_format_bytes(format_of(m, patch, i), w->rows * w->cols));
    }
}

static void list_types(lq_str *types, const lq_model *m, const lq_patch *patch) {
    for (int f = 0; lq_formats[f]; f++) {
        int n = 0;
        for (int i = 0; i < m->n_weights; i++) n += format_of(m, patch, i) == lq_formats[f];
        if (n) lq_str_printf(types, "%s%s %d", types->n ? ", " : "", lq_formats[f]->name, n);
    }
}

lq_status lq_base_stamp_make(lq_base_stamp *out, const lq_model *m, const lq_patch *patch) {
    lq_str all = LQ_STR_INIT;
    lq_status status = LQ_OK;
    *out = (lq_base_stamp){"", LQ_STR_INIT};
    char(*hex)[LQ_SHA256_HEX] = lq_alloc_array(m->n_weights, sizeof *hex);
    LQ_GOTO(status, hex ? LQ_OK : LQ_EMEM);
    hash_weights(hex, m, patch);
    for (int i = 0; i < m->n_weights; i++)
        lq_str_printf(&all, "%s %s %s\n", m->weight[i].name, format_of(m, patch, i)->name, hex[i]);
    LQ_GOTO(status, lq_str_status(&all));
    lq_sha256(out->sha256, all.s, all.n);
    list_types(&out->types, m, patch);
    LQ_GOTO(status, lq_str_status(&out->types));
done:
    if (status != LQ_OK) lq_base_stamp_clear(out);
    lq_str_clear(&all);
    lq_free(hex);
    return status;
}

void lq_base_stamp_clear(lq_base_stamp *stamp) { lq_str_clear(&stamp->types); }
