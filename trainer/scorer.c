/* See scorer.h. Examples are laid end to end into batches of at least `rows` tokens where one is
 * longer. */
#include "scorer.h"

#include <math.h>

struct lq_scorer {
    const lq_dataset *data;
    lq_teacher *teacher;   /* NULL: none */
    lq_net net;
    lq_batch batch;
};

int64_t lq_scorer_capacity(const lq_dataset *d, int64_t rows) {
    int64_t capacity = rows;
    for (int64_t i = 0; i < d->n; i++)
        if (d->example[i].n > capacity) capacity = d->example[i].n;
    return capacity;
}

lq_status lq_scorer_new(lq_scorer **out, lq_dev *dev, const lq_model *m, const lq_patch *patch,
                        const lq_dataset *d, int64_t rows, lq_teacher *teacher) {
    lq_status status = LQ_OK;
    *out = NULL;
    lq_scorer *s = lq_alloc(sizeof *s);
    if (!s) return LQ_EMEM;
    s->data = d;
    s->teacher = teacher;
    const int64_t longest = lq_scorer_capacity(d, 1), capacity = longest > rows ? longest : rows;
    const lq_net_options options = {
        .build = {.patch = patch, .loss = true, .n_ctx = m->n_ctx ? m->n_ctx : longest,
                  .distil = lq_teacher_distil(teacher)},
        .capacity = capacity,
        .dev = dev};
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
    lq_free(s);
}

lq_status lq_scorer_run(lq_scorer *s, lq_loss *out) {
    const lq_dataset *d = s->data;
    for (int64_t next = 0; next < d->n;) {
        next = lq_batch_fill_from(&s->batch, d, next);
        if (s->batch.n_labels == 0) continue;
        lq_net_load(&s->net, &s->batch);
        if (s->teacher) LQ_TRY(lq_teacher_load(s->teacher, &s->batch, &s->net));
        LQ_TRY(lq_tape_forward(s->net.tape, 0, 0));
        LQ_TRY(lq_net_take_loss(&s->net, &s->batch));
    }
    LQ_TRY(lq_net_sum_loss(&s->net, out));
    if (!isfinite(out->nll))
        return lq_fail(LQ_ENONFINITE, "the loss over %lld labels is not finite",
                       (long long)out->labels);
    return LQ_OK;
}
