/* See expert_load.h. An expert has a token where its share of it is not 0. */
#include "expert_load.h"

#include <string.h>

static int64_t size_of(const lq_model *m) { return m->hp.n_layer * m->hp.n_expert; }

lq_status lq_expert_load_new(int64_t **out, const lq_model *m) {
    *out = NULL;
    if (!m->hp.n_expert) return LQ_OK;
    *out = lq_alloc_array(size_of(m), sizeof **out);
    if (!*out) return LQ_EMEM;
    lq_expert_load_reset(*out, m);
    return LQ_OK;
}

void lq_expert_load_reset(int64_t *load, const lq_model *m) {
    if (load) memset(load, 0, (size_t)size_of(m) * sizeof *load);
}

lq_status lq_expert_load_add(int64_t *load, const lq_model *m, const lq_net *net) {
    const int64_t E = m->hp.n_expert;
    if (!load) return LQ_OK;
    for (int64_t layer = 0; layer < m->hp.n_layer; layer++) {
        const int64_t rows = net->io.shares[layer]->dim[0];
        const float *shares; /* (N,E) */
        LQ_TRY(lq_tape_view(net->tape, net->io.shares[layer], 0, rows, &shares));
        for (int64_t i = 0; i < rows * E; i++) load[layer * E + i % E] += shares[i] != 0;
    }
    return LQ_OK;
}

void lq_expert_load_log(const int64_t *load, const lq_model *m) {
    const int64_t E = m->hp.n_expert;
    for (int64_t layer = 0; load && layer < m->hp.n_layer; layer++) {
        lq_str line = LQ_STR_INIT;
        for (int64_t e = 0; e < E; e++)
            lq_str_printf(&line, " %lld", (long long)load[layer * E + e]);
        lq_log(LQ_LOG_DEBUG, "tokens of layer %lld's experts:%s", (long long)layer,
               lq_str_text(&line));
        lq_str_clear(&line);
    }
}

void lq_expert_load_print(lq_str *out, const int64_t *load, const lq_model *m) {
    const int64_t E = m->hp.n_expert;
    if (!load) return;
    for (int64_t i = 0; i < size_of(m); i++)
        lq_str_printf(out, "%s%lld%s",
                      i == 0 ? ", \"expert_load\": [[" : i % E == 0 ? ", [" : ", ",
                      (long long)load[i], i % E == E - 1 ? "]" : "");
    lq_str_puts(out, "]");
}
