/* See example_scores.h. One example is one sequence. */
#include "example_scores.h"

#include <math.h>

lq_status lq_session_dataset(lq_dataset *out, const loquat_model *s, const char *path) {
    const lq_data_source source = {.path = path, .weight = 1};
    const lq_data_options options = {
        .sequence_len = s->model->hp.n_ctx_train,
        .excess = LQ_EXCESS_RAISE,
        .chat_template = s->chat_template,
        .chat_template_source = s->template_source,
    };
    if (!s->model->tokenizer)
        return lq_fail(LQ_EUNSUPPORTED, "%s: has no tokenizer", lq_gguf_path(s->model->file));
    return lq_dataset_load(out, &source, 1, s->model->tokenizer, &options);
}

int64_t lq_trained_tokens(const lq_dataset *d, const lq_example *e) {
    int64_t n = 0;
    for (int64_t t = 1; t < e->n; t++) n += d->mask[e->first + t] != 0;
    return n;
}

typedef struct scan {
    loquat_model *s, *reference;
    lq_divergence *divergence;
    float *log_p;              /* (V): the reference's; NULL without one */
} scan;

static lq_status score(const scan *c, const int32_t *ids, const uint8_t *mask, int64_t n,
                       double *nll) {
    const int64_t V = c->s->model->hp.n_vocab;
    const float *logits, *base = NULL; /* (n,V) */
    *nll = 0;
    LQ_TRY(lq_session_forward(c->s, ids, n, &logits));
    if (c->reference) LQ_TRY(lq_session_forward(c->reference, ids, n, &base));
    for (int64_t t = 0; t + 1 < n; t++) {
        if (!mask[t + 1]) continue;
        const float *row = logits + t * V;
        const double lse = lq_log_sum_exp(row, V);
        *nll += lse - (double)row[ids[t + 1]];
        if (!base) continue;
        lq_log_softmax(base + t * V, c->log_p, V);
        lq_divergence_add(c->divergence, c->log_p, row, lse, V, ids[t + 1]);
    }
    return isfinite(*nll) ? LQ_OK : lq_fail(LQ_ENONFINITE, "the loss is not finite");
}

lq_status lq_score_examples(loquat_model *s, loquat_model *reference, const lq_dataset *d,
                            double *nll, lq_divergence *divergence) {
    scan c = {.s = s, .reference = reference, .divergence = divergence};
    lq_status status = LQ_OK;
    if (reference) {
        c.log_p = lq_alloc_array(s->model->hp.n_vocab, sizeof *c.log_p);
        if (!c.log_p) return LQ_EMEM;
    }
    for (int64_t i = 0; i < d->n && status == LQ_OK; i++) {
        const lq_example *e = &d->example[i];
        double one;
        status = score(&c, d->ids + e->first, d->mask + e->first, e->n, &one);
        if (status != LQ_OK) lq_fail_context(status, "record %lld: ", (long long)e->line);
        if (nll) nll[i] = one;
    }
    lq_free(c.log_p);
    return status;
}
