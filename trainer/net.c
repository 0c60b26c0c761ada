/* See net.h. */
#include "net.h"

#include <assert.h>
#include <math.h>
#include <string.h>

lq_status lq_net_open(lq_net *out, const lq_model *m, const lq_net_options *options) {
    const lq_tape_options compile = {.training = options->training,
                                     .checkpoint = options->checkpoint};
    lq_status status = LQ_OK;
    *out = (lq_net){.capacity = options->capacity};
    LQ_GOTO(status, lq_tape_new(&out->tape, options->capacity));
    LQ_GOTO(status, lq_model_build(m, &options->build, out->tape, &out->io));
    LQ_GOTO(status, lq_tape_compile(out->tape, &compile));
    if (!options->plan_only) LQ_GOTO(status, lq_tape_alloc(out->tape));
done:
    if (status != LQ_OK) lq_net_close(out);
    return status;
}

void lq_net_close(lq_net *net) {
    lq_tape_free(net->tape);
    *net = (lq_net){0};
}

static void copy_ids(lq_tensor *input, const int32_t *values, int64_t n) {
    memcpy(input->data, values, (size_t)n * sizeof *values);
}

void lq_net_load(lq_net *net, const lq_batch *b) {
    assert(b->n_tokens > 0 && b->n_tokens <= net->capacity);
    lq_tape_set_rows(net->tape, b->n_tokens);
    copy_ids(net->io.ids, b->ids, b->n_tokens);
    copy_ids(net->io.pos, b->pos, b->n_tokens);
    copy_ids(net->io.starts, b->starts, b->n_tokens);
    if (net->io.labels) copy_ids(net->io.labels, b->labels, b->n_tokens);
}

void lq_net_load_ids(lq_net *net, const int32_t *ids, int64_t n, int64_t first) {
    assert(n > 0 && n <= net->capacity);
    lq_tape_set_rows(net->tape, n);
    copy_ids(net->io.ids, ids, n);
    int32_t *pos = net->io.pos->data, *starts = net->io.starts->data;
    for (int64_t t = 0; t < n; t++) {
        pos[t] = (int32_t)(first + t);
        starts[t] = 0;
    }
}

double lq_loss_mean(const lq_loss *loss, double sum) {
    return loss->labels ? sum / (double)loss->labels : (double)NAN;
}

void lq_net_add_loss(const lq_net *net, const lq_batch *b, lq_loss *sum) {
    const int64_t cols = lq_cols(net->io.out);
    const bool distils = cols == LQ_KD_COLS;
    const float *row = lq_data_f32(net->io.out); /* (N,2), or (N,4) of kd_head */
    for (int64_t t = 0; t < b->n_tokens; t++, row += cols) {
        if (b->labels[t] < 0) continue;
        sum->objective += (double)row[0];
        sum->nll += (double)row[distils ? 2 : 0];
        sum->kl += distils ? (double)row[3] : 0;
        sum->correct += row[1] > 0.5f;
        sum->labels++;
    }
}
