/* See scorer.h. Examples are laid end to end into batches of at least `rows` tokens where one is
 * longer. */
#include "scorer.h"

#include <math.h>

struct lq_scorer {
    const lq_dataset *data;
    lq_net net;
    lq_batch batch;
    int64_t *order;    /* 0, 1, 2, ...: what lq_batch_fill takes */
};

lq_status lq_scorer_new(lq_scorer **out, const lq_model *m, const lq_patch *patch,
                        const lq_dataset *d, int64_t rows) {
    lq_status status = LQ_OK;
    *out = NULL;
    lq_scorer *s = lq_alloc(sizeof *s);
    if (!s) return LQ_EMEM;
    s->data = d;
    int64_t longest = 1;
    for (int64_t i = 0; i < d->n; i++)
        if (d->example[i].n > longest) longest = d->example[i].n;
    const int64_t capacity = longest > rows ? longest : rows;
    const lq_net_options options = {
        .build = {.patch = patch, .loss = true, .n_ctx = m->n_ctx ? m->n_ctx : longest},
        .capacity = capacity};
    s->order = lq_alloc_array(d->n, sizeof *s->order);
    LQ_GOTO(status, s->order ? LQ_OK : LQ_EMEM);
    for (int64_t i = 0; i < d->n; i++) s->order[i] = i;
    LQ_GOTO(status, lq_batch_init(&s->batch, capacity));
    LQ_GOTO(status, lq_net_open(&s->net, m, &options));
    *out = s;
done:
    if (status != LQ_OK) lq_scorer_free(s);
    return status;
}

void lq_scorer_free(lq_scorer *s) {
    if (!s) return;
    lq_net_close(&s->net);
    lq_batch_clear(&s->batch);
    lq_free(s->order);
    lq_free(s);
}

lq_status lq_scorer_run(lq_scorer *s, lq_loss *out) {
    const lq_dataset *d = s->data;
    *out = (lq_loss){0};
    for (int64_t first = 0; first < d->n;) {
        int64_t n = 0, tokens = 0;
        while (first + n < d->n && tokens + d->example[first + n].n <= s->net.capacity)
            tokens += d->example[first + n++].n;
        lq_batch_fill(&s->batch, d, s->order + first, n);
        if (s->batch.n_labels > 0) {
            lq_net_load(&s->net, &s->batch);
            LQ_TRY(lq_tape_forward(s->net.tape, 0, 0));
            lq_net_add_loss(&s->net, &s->batch, out);
        }
        first += n;
    }
    if (!isfinite(out->nll))
        return lq_fail(LQ_ENONFINITE, "the loss over %lld labels is not finite",
                       (long long)out->labels);
    return LQ_OK;
}
