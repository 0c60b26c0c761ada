/* See net.h. Batches reach the tape's device through two buffers in turn, and rows of losses leave
 * it through a few others, so that neither waits for the other side: not before lq_net_sum_loss. */
#include "net.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { N_INPUTS = 4, LOSS_SLOTS = 16 };

typedef struct slot { int64_t rows, labels; } slot;

struct lq_net_buffers {
    int32_t *input[2];       /* (N_INPUTS, capacity), pinned */
    void *read[2];           /* marks: where the device has read each */
    int turn;
    float *loss;             /* (LOSS_SLOTS, capacity, cols of out), pinned; NULL: no labels */
    slot slot[LOSS_SLOTS];
    int n_slots;             /* taken, not summed yet */
    lq_loss summed;          /* of slots that had to make room */
    void *own[2]; size_t own_bytes;   /* lq_net_buffer's, pinned */
    void *own_read[2];
    int own_turn;
};

static lq_status open_buffers(lq_net *net) {
    lq_dev *const dev = net->dev;
    const size_t rows = (size_t)net->capacity;
    net->buffers = lq_alloc(sizeof *net->buffers);
    if (!net->buffers) return LQ_EMEM;
    for (int i = 0; i < 2; i++)
        LQ_TRY(dev->row->alloc_pinned(dev, (void **)&net->buffers->input[i],
                                      N_INPUTS * rows * sizeof(int32_t)));
    if (!net->io.labels) return LQ_OK;
    return dev->row->alloc_pinned(dev, (void **)&net->buffers->loss,
                                  LOSS_SLOTS * rows * (size_t)lq_cols(net->io.out) *
                                      sizeof(float));
}

lq_status lq_net_open(lq_net *out, const lq_model *m, const lq_net_options *options) {
    const lq_tape_options compile = {.training = options->training,
                                     .checkpoint = options->checkpoint};
    lq_status status = LQ_OK;
    *out = (lq_net){.capacity = options->capacity,
                    .dev = options->dev ? options->dev : lq_dev_cpu()};
    LQ_GOTO(status, lq_tape_new(&out->tape, options->capacity));
    lq_tape_on(out->tape, out->dev);
    LQ_GOTO(status, lq_model_build(m, &options->build, out->tape, &out->io));
    LQ_GOTO(status, lq_tape_compile(out->tape, &compile));
    if (options->plan_only) goto done;
    LQ_GOTO(status, lq_tape_alloc(out->tape));
    LQ_GOTO(status, open_buffers(out));
done:
    if (status != LQ_OK) lq_net_close(out);
    return status;
}

static void close_buffers(lq_net *net) {
    struct lq_net_buffers *const b = net->buffers;
    if (!b) return;
    for (int i = 0; i < 2; i++) {
        net->dev->row->unmark(net->dev, b->read[i]);
        net->dev->row->free_pinned(net->dev, b->input[i]);
        net->dev->row->unmark(net->dev, b->own_read[i]);
        net->dev->row->free_pinned(net->dev, b->own[i]);
    }
    net->dev->row->free_pinned(net->dev, b->loss);
    lq_free(b);
}

void lq_net_close(lq_net *net) {
    lq_tape_free(net->tape);
    close_buffers(net);
    *net = (lq_net){0};
}

/* ---- inputs ---------------------------------------------------------------------------------- */

/* A buffer that the device has read. */
static int32_t *next_input(lq_net *net) {
    struct lq_net_buffers *const b = net->buffers;
    b->turn ^= 1;
    net->dev->row->reach(net->dev, b->read[b->turn]); /* an error comes out of the forward pass */
    return b->input[b->turn];
}

static void sent(const lq_net *net) {
    net->dev->row->mark(net->dev, &net->buffers->read[net->buffers->turn]);
}

static int32_t *send(const lq_net *net, const lq_tensor *input, int32_t *buffer) {
    lq_tape_write(net->tape, input, buffer);
    return buffer + net->capacity;
}

static int32_t *send_copy(const lq_net *net, const lq_tensor *input, int32_t *buffer,
                          const int32_t *values, int64_t n) {
    memcpy(buffer, values, (size_t)n * sizeof *values);
    return send(net, input, buffer);
}

void lq_net_load(lq_net *net, const lq_batch *b) {
    assert(b->n_tokens > 0 && b->n_tokens <= net->capacity);
    lq_tape_set_rows(net->tape, b->n_tokens);
    int32_t *at = next_input(net);
    at = send_copy(net, net->io.ids, at, b->ids, b->n_tokens);
    at = send_copy(net, net->io.pos, at, b->pos, b->n_tokens);
    at = send_copy(net, net->io.starts, at, b->starts, b->n_tokens);
    if (net->io.labels) send_copy(net, net->io.labels, at, b->labels, b->n_tokens);
    sent(net);
}

void lq_net_load_ids(lq_net *net, const int32_t *ids, int64_t n, int64_t first) {
    assert(n > 0 && n <= net->capacity);
    lq_tape_set_rows(net->tape, n);
    int32_t *at = send_copy(net, net->io.ids, next_input(net), ids, n);
    for (int64_t t = 0; t < n; t++) at[t] = (int32_t)(first + t);
    at = send(net, net->io.pos, at);
    memset(at, 0, (size_t)n * sizeof *at);
    at = send(net, net->io.starts, at);
    for (int64_t t = 0; net->io.labels && t < n; t++) at[t] = -1;
    if (net->io.labels) send(net, net->io.labels, at);
    sent(net);
}

static lq_status alloc_own(lq_net *net, size_t bytes) {
    struct lq_net_buffers *const b = net->buffers;
    b->own_bytes = 0;
    for (int i = 0; i < 2; i++) {
        net->dev->row->free_pinned(net->dev, b->own[i]);
        LQ_TRY(net->dev->row->alloc_pinned(net->dev, &b->own[i], bytes));
        memset(b->own[i], 0, bytes);
    }
    b->own_bytes = bytes;
    return LQ_OK;
}

lq_status lq_net_buffer(lq_net *net, size_t bytes, void **out) {
    struct lq_net_buffers *const b = net->buffers;
    if (b->own_bytes != bytes) LQ_TRY(alloc_own(net, bytes));
    b->own_turn ^= 1;
    LQ_TRY(net->dev->row->reach(net->dev, b->own_read[b->own_turn]));
    *out = b->own[b->own_turn];
    return LQ_OK;
}

void lq_net_buffer_sent(lq_net *net) {
    struct lq_net_buffers *const b = net->buffers;
    net->dev->row->mark(net->dev, &b->own_read[b->own_turn]);
}

/* ---- losses ---------------------------------------------------------------------------------- */

double lq_loss_mean(const lq_loss *loss, double sum) {
    return loss->labels ? sum / (double)loss->labels : (double)NAN;
}

/* Masked rows are zero. */
static void sum_slot(const lq_net *net, int i, lq_loss *sum) {
    const int64_t cols = lq_cols(net->io.out);
    const bool distils = cols == LQ_KD_COLS;
    const float *row = net->buffers->loss + i * net->capacity * cols; /* (N,2), or (N,4) */
    for (int64_t t = 0; t < net->buffers->slot[i].rows; t++, row += cols) {
        sum->objective += (double)row[0];
        sum->nll += (double)row[distils ? 2 : 0];
        sum->kl += distils ? (double)row[3] : 0;
        sum->correct += row[1] > 0.5f;
    }
    sum->labels += net->buffers->slot[i].labels;
}

static lq_status sum_slots(const lq_net *net, lq_loss *sum) {
    if (net->buffers->n_slots) LQ_TRY(net->dev->row->wait(net->dev));
    for (int i = 0; i < net->buffers->n_slots; i++) sum_slot(net, i, sum);
    net->buffers->n_slots = 0;
    return LQ_OK;
}

lq_status lq_net_take_loss(lq_net *net, const lq_batch *b) {
    struct lq_net_buffers *const buffers = net->buffers;
    const int64_t cols = lq_cols(net->io.out);
    if (buffers->n_slots == LOSS_SLOTS) LQ_TRY(sum_slots(net, &buffers->summed));
    const int i = buffers->n_slots++;
    buffers->slot[i] = (slot){b->n_tokens, b->n_labels};
    net->dev->row->copy(net->dev, buffers->loss + i * net->capacity * cols, net->io.out->data,
                        (size_t)(b->n_tokens * cols) * sizeof(float));
    return LQ_OK;
}

lq_status lq_net_sum_loss(lq_net *net, lq_loss *out) {
    *out = net->buffers->summed;
    net->buffers->summed = (lq_loss){0};
    return sum_slots(net, out);
}
