/* Running a compiled tape: its arena, the rows in use, forward and backward. Nothing here allocates
 * but lq_tape_alloc. */
#include "redzone.h"
#include "tape_parts.h"

#include <assert.h>
#include <string.h>

enum { ALIGN = 64 };

/* Does a node read t other than in a product; does one read it there? */
static void find_uses(const lq_tape *tape, const lq_tensor *t, bool *plain, bool *product) {
    *plain = *product = false;
    for (int64_t i = 0; i < tape->n_nodes; i++)
        for (int k = 0; k < tape->node[i]->op->n_in; k++) {
            if (tape->node[i]->in[k] != t) continue;
            if (lq_products(tape->node[i]) & LQ_IN(k)) *product = true;
            else *plain = true;
        }
}

/* Wider than activations: products read a copy in their format, made once, and often nothing else
 * does. A packed weight stays as it is. */
static lq_status place_weight(lq_tape *tape, lq_tensor *t) {
    lq_dev *const dev = tape->run.dev;
    const bool wide = dev->activation == &lq_bf16 && (t->fmt == &lq_f32 || t->fmt == &lq_f16) &&
                      !dev->row->owns(dev, t->data);
    bool plain = true, product = false;
    const void *data;
    if (wide) find_uses(tape, t, &plain, &product);
    if (product) {
        LQ_TRY(lq_dev_resident_as(dev, &data, t->data, t->fmt, lq_rows(t) * lq_cols(t)));
        t->narrow = (void *)data;
    }
    if (!plain && product) return LQ_OK;
    LQ_TRY(lq_dev_resident(dev, &data, t->data, lq_tensor_bytes(t)));
    t->data = (void *)data;
    return LQ_OK;
}

static lq_status place_weights(lq_tape *tape) {
    for (int64_t i = 0; i < tape->n_tensors; i++) {
        lq_tensor *const t = tape->tensor[i];
        if (t->kind != LQ_WEIGHT || !t->data) continue;
        const lq_status status = place_weight(tape, t);
        if (status != LQ_OK)
            return lq_fail_context(status, "weight %s: ", t->name ? t->name : "without a name");
    }
    return LQ_OK;
}

static lq_status alloc_arena(lq_tape *tape) {
    lq_dev *const dev = tape->run.dev;
    const lq_status status = dev->row->alloc(dev, &tape->block, tape->arena_bytes + ALIGN);
    if (status == LQ_OK) return LQ_OK;
    return lq_fail_context(status, "activations of %lld rows: ", (long long)tape->max_rows);
}

/* The inputs' `host`. */
static lq_status place_inputs(lq_tape *tape) {
    const bool in_reach = tape->run.dev == lq_dev_cpu();
    size_t bytes = 0;
    for (int64_t i = 0; i < tape->n_residents; i++) {
        const lq_tensor *const t = tape->local[i].tensor;
        if (t->kind == LQ_INPUT && !in_reach) bytes += lq_align64(lq_tensor_bytes(t));
    }
    if (bytes && !(tape->inputs = lq_alloc(bytes))) return LQ_EMEM;
    char *at = tape->inputs;
    for (int64_t i = 0; i < tape->n_residents; i++) {
        lq_tensor *const t = tape->local[i].tensor;
        if (t->kind != LQ_INPUT) continue;
        t->host = in_reach ? t->data : at;
        if (!in_reach) at += lq_align64(lq_tensor_bytes(t));
    }
    return LQ_OK;
}

/* Not cleared by hand: pages that a run with few rows never touches are never backed by memory. */
lq_status lq_tape_alloc(lq_tape *tape) {
    assert(tape->local && !tape->arena);
    LQ_TRY(place_weights(tape));
    LQ_TRY(lq_tape_alloc_narrow(tape));
    LQ_TRY(alloc_arena(tape));
    const size_t past = (uintptr_t)tape->block % ALIGN;
    tape->arena = (char *)tape->block + (past ? ALIGN - past : 0);
    for (int64_t i = 0; i < tape->n_residents; i++) {
        lq_tensor *const t = tape->local[i].tensor;
        t->data = tape->arena + t->offset;
    }
    tape->run.scratch = tape->arena + tape->scratch_offset;
    return place_inputs(tape);
}

/* With AddressSanitizer, where kernels run when they are called: only what is alive during this
 * entry may be touched. */
static void guard(const lq_tape *tape, int64_t at) {
    if (!lq_redzone_bytes() || tape->run.dev->id != LQ_CPU) return;
    lq_redzone_close(tape->arena, tape->arena_bytes);
    for (int64_t i = 0; i < tape->n_residents; i++) {
        const lq_tensor *const t = tape->local[i].tensor;
        if (t->first <= at && at <= t->last) lq_redzone_open(t->data, lq_tensor_bytes(t));
    }
    if (at < tape->n_entries) lq_redzone_open(tape->run.scratch, tape->entry[at].scratch);
}

/* With AddressSanitizer, everywhere: what nothing has been written to before this entry is NaN. */
static void spoil(const lq_tape *tape, int64_t at) {
    lq_dev *const dev = tape->run.dev;
    const lq_tensor *const seed = tape->loss ? tape->loss->grad : NULL;
    if (!lq_redzone_bytes()) return;
    for (int64_t i = 0; i < tape->n_residents; i++) {
        const lq_tensor *const t = tape->local[i].tensor;
        if (t->first == at && t->kind == LQ_ACTIVATION && t != seed)
            dev->row->fill(dev, t->data, 0xff, lq_tensor_bytes(t));
    }
    dev->row->fill(dev, tape->run.scratch, 0xff, tape->entry[at].scratch);
}

void lq_tape_set_rows(lq_tape *tape, int64_t rows) {
    assert(rows >= 1 && rows <= tape->max_rows);
    for (int64_t i = 0; i < tape->n_locals; i++)
        if (tape->local[i].by_rows) tape->local[i].tensor->dim[0] = rows;
    if (tape->arena) guard(tape, 0); /* the host may write the inputs' rows */
}

static void run_entries(const lq_tape *tape, int64_t first, int64_t end) {
    lq_dev *const dev = tape->run.dev;
    for (int64_t at = first; at < end; at++) {
        const lq_entry *const entry = &tape->entry[at];
        guard(tape, at);
        spoil(tape, at);
        switch (entry->kind) {
        case LQ_ENTRY_FORWARD:
            entry->node->op->kernel[dev->id]->fwd(entry->node, &tape->run);
            if (tape->observer && at < tape->n_forward)
                tape->observer(tape->observer_ctx, entry->node);
            break;
        case LQ_ENTRY_BACKWARD:
            entry->node->op->kernel[dev->id]->bwd(entry->node, &tape->run);
            break;
        case LQ_ENTRY_ZERO:
            dev->row->fill(dev, entry->tensor->data, 0, lq_tensor_bytes(entry->tensor));
            break;
        }
    }
    guard(tape, end);
}

void lq_tape_write(lq_tape *tape, const lq_tensor *input, const void *from) {
    assert(input->kind == LQ_INPUT);
    if (tape->inputs) memcpy((void *)input->host, from, lq_tensor_bytes(input));
    tape->run.dev->row->copy(tape->run.dev, input->data, from, lq_tensor_bytes(input));
}

/* A copy, for devices whose memory the host does not see: raw elements at the buffer's end, which
 * become F32 from its start. */
static lq_status copy_rows(lq_tape *tape, const lq_tensor *t, int64_t at, int64_t n) {
    lq_dev *const dev = tape->run.dev;
    const size_t bytes = lq_format_bytes(t->fmt, n), room = (size_t)n * sizeof(float);
    LQ_TRY(lq_reserve((void **)&tape->view, &tape->cap_view, n, sizeof *tape->view));
    char *const raw = (char *)tape->view + room - bytes;
    dev->row->copy(dev, raw, (const char *)t->data + lq_format_bytes(t->fmt, at), bytes);
    LQ_TRY(dev->row->wait(dev));
    for (int64_t i = 0; t->fmt == &lq_bf16 && i < n; i++) {
        uint16_t half;
        memcpy(&half, raw + i * (int64_t)sizeof half, sizeof half);
        tape->view[i] = lq_f32_from_bf16(half);
    }
    return LQ_OK;
}

lq_status lq_tape_view(lq_tape *tape, const lq_tensor *output, int64_t first, int64_t n,
                       const float **out) {
    const int64_t cols = lq_cols(output);
    assert(first >= 0 && first + n <= lq_rows(output) && lq_is_activation_format(output->fmt));
    *out = lq_data_f32(output) + first * cols;
    if (tape->run.dev->id == LQ_CPU) return LQ_OK;
    *out = NULL;
    LQ_TRY(copy_rows(tape, output, first * cols, n * cols));
    *out = tape->view;
    return LQ_OK;
}

const lq_format *lq_tape_activation(const lq_tape *tape) { return tape->run.dev->activation; }

void lq_tape_observe(lq_tape *tape, lq_observer_fn fn, void *ctx) {
    tape->observer = fn;
    tape->observer_ctx = ctx;
}

lq_status lq_tape_forward(lq_tape *tape, uint64_t key, int64_t n_past) {
    assert(tape->arena);
    tape->run.key = key;
    tape->run.n_past = n_past;
    lq_tape_narrow(tape);
    run_entries(tape, 0, tape->n_forward);
    return tape->run.dev->row->check(tape->run.dev);
}

lq_status lq_tape_backward(lq_tape *tape) {
    assert(tape->arena && tape->loss);
    guard(tape, tape->n_forward);
    lq_dev *const dev = tape->run.dev;
    dev->row->fill_f32(dev, lq_grad_f32(tape->loss), 1, lq_rows(tape->loss) * lq_cols(tape->loss));
    run_entries(tape, tape->n_forward, tape->n_entries);
    return dev->row->check(dev);
}
