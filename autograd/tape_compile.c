/* Compiling a tape: the flat schedule, what lives when, and where in the arena.
 *
 * The forward pass runs all nodes in order. The backward pass runs those whose output has a
 * gradient that something downstream added to, in reverse; the first to add to a gradient writes
 * it, or it is cleared right before. With checkpointing a segment's nodes are cloned in front of
 * its backward entries and those read the clones, so neither kernels nor the planner know of it. A
 * clone shares gradients, attr and id with its original. */
#include "plan.h"
#include "tape_parts.h"

#include <assert.h>
#include <string.h>

/* ---- schedule ------------------------------------------------------------------------------- */

static lq_status push(lq_tape *tape, lq_entry_kind kind, lq_node *node, lq_tensor *tensor) {
    LQ_TRY(lq_reserve((void **)&tape->entry, &tape->cap_entries, tape->n_entries + 1,
                      sizeof *tape->entry));
    const lq_kernels *const kernels = node ? node->op->kernel[tape->run.dev->id] : NULL;
    if (node && !kernels)
        return lq_fail(LQ_EUNSUPPORTED, "%s: not on device '%s'", node->op->name,
                       tape->run.dev->row->name);
    if (kernels && kernels->accepts && kind == LQ_ENTRY_FORWARD) {
        const lq_status status = kernels->accepts(node);
        if (status != LQ_OK) return lq_fail_context(status, "%s: ", node->op->name);
    }
    const size_t scratch = kernels && kernels->scratch
                               ? kernels->scratch(node, kind == LQ_ENTRY_BACKWARD) : 0;
    if (scratch > tape->scratch_bytes) tape->scratch_bytes = scratch;
    tape->entry[tape->n_entries++] = (lq_entry){kind, node, tensor, scratch};
    return LQ_OK;
}

/* The gradient that backward of `node` adds to for input i, or NULL. */
static lq_tensor *input_grad(const lq_node *node, int i) {
    return node->in[i] && !(node->op->nograd & LQ_IN(i)) ? node->in[i]->grad : NULL;
}

/* Can backward write the gradient of input i? Not if another input has the same one. */
static bool can_write(const lq_tape *tape, const lq_node *node, int i) {
    const lq_kernels *const kernels = node->op->kernel[tape->run.dev->id];
    for (int k = 0; k < node->op->n_in; k++)
        if (k != i && input_grad(node, k) == node->in[i]->grad) return false;
    return kernels && kernels->writes & LQ_IN(i);
}

static lq_status push_backward(lq_tape *tape, lq_node *node) {
    if (!node->out->grad) return LQ_OK;
    for (int i = 0; i < node->op->n_in; i++) {
        lq_tensor *const grad = input_grad(node, i);
        if (!grad || grad->kind != LQ_ACTIVATION || grad->first >= 0) continue;
        grad->first = (int)tape->n_entries; /* marks it as written or cleared */
        if (can_write(tape, node, i)) node->fresh |= LQ_IN(i);
        else LQ_TRY(push(tape, LQ_ENTRY_ZERO, NULL, grad));
    }
    return push(tape, LQ_ENTRY_BACKWARD, node, NULL);
}

/* Drops the gradients that nothing on the way to the loss adds to; all of them when there is no
 * loss. Afterwards a node runs backward exactly if its output has a gradient. */
static void prune_gradients(lq_tape *tape) {
    if (tape->loss) tape->loss->grad->first = 0; /* here: reached */
    for (int64_t n = tape->n_nodes - 1; n >= 0; n--) {
        lq_tensor *const out = tape->node[n]->out;
        if (!out->grad || out->grad->first < 0) {
            out->grad = NULL;
            continue;
        }
        out->grad->first = -1;
        for (int i = 0; i < tape->node[n]->op->n_in; i++) {
            lq_tensor *const grad = input_grad(tape->node[n], i);
            if (grad) grad->first = 0;
        }
    }
}

/* ---- checkpointing -------------------------------------------------------------------------- */

static lq_tensor *clone_tensor(lq_tape *tape, const lq_tensor *t) {
    lq_tensor *const c = lq_tape_add_tensor(tape, LQ_ACTIVATION, NULL);
    if (!c) return NULL;
    c->fmt = t->fmt;
    c->ndim = t->ndim;
    memcpy(c->dim, t->dim, sizeof c->dim);
    c->grad = t->grad;
    return c;
}

/* Appends a clone of `node` to the tape; its inputs are still the original's. */
static lq_status clone_node(lq_tape *tape, const lq_node *node) {
    LQ_TRY(lq_reserve((void **)&tape->clone, &tape->cap_clones, tape->n_clones + 1,
                      sizeof *tape->clone));
    lq_node *const c = lq_alloc(sizeof *c);
    if (!c) return LQ_EMEM;
    tape->clone[tape->n_clones++] = c;
    *c = *node;
    c->out = clone_tensor(tape, node->out);
    if (!c->out) return LQ_EMEM;
    if (node->saved && !(c->saved = clone_tensor(tape, node->saved))) return LQ_EMEM;
    return LQ_OK;
}

/* Makes the last of n clones read its predecessors instead of their originals. */
static void read_clones(lq_node *const *original, lq_node *const *clone, int64_t n) {
    lq_node *const node = clone[n - 1];
    for (int k = 0; k < node->op->n_in; k++)
        for (int64_t i = 0; i < n - 1; i++)
            if (node->in[k] == original[i]->out) node->in[k] = clone[i]->out;
}

/* Does clone i have to run again? If its backward reads its own results, or if a later clone's
 * backward, or its repeated forward, reads its output. `again` is known for all later ones. */
static bool must_run_again(lq_node *const *clone, int64_t n, int64_t i, const bool *again) {
    const lq_node *const node = clone[i];
    if (node->out->grad && (node->saved || lq_bwd_reads(node) & LQ_OUT)) return true;
    for (int64_t j = i + 1; j < n; j++) {
        const unsigned reads = clone[j]->out->grad ? lq_bwd_reads(clone[j]) : 0;
        for (int k = 0; k < clone[j]->op->n_in; k++)
            if (clone[j]->in[k] == node->out && (again[j] || reads & LQ_IN(k))) return true;
    }
    return false;
}

static lq_status push_clones(lq_tape *tape, lq_node *const *clone, int64_t n) {
    bool *const again = lq_alloc_array(n, sizeof *again);
    lq_status status = again ? LQ_OK : LQ_EMEM;
    if (status != LQ_OK) goto done;
    for (int64_t i = n - 1; i >= 0; i--) again[i] = must_run_again(clone, n, i, again);
    for (int64_t i = 0; i < n; i++)
        if (again[i]) LQ_GOTO(status, push(tape, LQ_ENTRY_FORWARD, clone[i], NULL));
    for (int64_t i = n - 1; i >= 0; i--) LQ_GOTO(status, push_backward(tape, clone[i]));
done:
    lq_free(again);
    return status;
}

/* The backward pass of nodes [first, first + n), which are one segment, through clones. */
static lq_status backward_segment(lq_tape *tape, int64_t first, int64_t n) {
    const int64_t clone_at = tape->n_clones;
    for (int64_t i = 0; i < n; i++) {
        LQ_TRY(clone_node(tape, tape->node[first + i]));
        read_clones(tape->node + first, tape->clone + clone_at, i + 1);
    }
    return push_clones(tape, tape->clone + clone_at, n);
}

/* The nodes of a segment are neighbours; returns the first of those that end with node `last`. */
static int64_t segment_start(const lq_tape *tape, int64_t last) {
    int64_t first = last;
    while (first > 0 && tape->node[first - 1]->segment == tape->node[last]->segment) first--;
    return first;
}

static lq_status schedule(lq_tape *tape, const lq_tape_options *options) {
    prune_gradients(tape);
    for (int64_t i = 0; i < tape->n_nodes; i++)
        LQ_TRY(push(tape, LQ_ENTRY_FORWARD, tape->node[i], NULL));
    tape->n_forward = tape->n_entries;
    if (!options->training) return LQ_OK;
    tape->loss->grad->first = (int)tape->n_entries; /* lq_tape_backward fills it with 1 */
    for (int64_t i = tape->n_nodes - 1; i >= 0; i--) {
        if (!options->checkpoint || tape->node[i]->segment < 0) {
            LQ_TRY(push_backward(tape, tape->node[i]));
            continue;
        }
        const int64_t first = segment_start(tape, i);
        LQ_TRY(backward_segment(tape, first, i - first + 1));
        i = first;
    }
    return LQ_OK;
}

/* ---- lifetimes ------------------------------------------------------------------------------ */

static void use_at(lq_tensor *t, int entry) {
    if (!t) return;
    if (t->first < 0) t->first = entry;
    if (t->last < entry) t->last = entry;
}

static void use_by_kernel(const lq_entry *entry, int at) {
    const lq_node *const node = entry->node;
    const bool backward = entry->kind == LQ_ENTRY_BACKWARD;
    const unsigned reads = backward ? lq_bwd_reads(node) : ~0u;
    for (int i = 0; i < node->op->n_in; i++) {
        if (node->in[i] && reads & LQ_IN(i)) use_at(node->in[i], at);
        if (backward) use_at(input_grad(node, i), at);
    }
    if (reads & LQ_OUT) use_at(node->out, at);
    if (backward) use_at(node->out->grad, at);
    use_at(node->saved, at);
}

static void find_lifetimes(lq_tape *tape) {
    for (int at = 0; at < (int)tape->n_entries; at++) {
        const lq_entry *const entry = &tape->entry[at];
        if (entry->kind == LQ_ENTRY_ZERO) use_at(entry->tensor, at);
        else use_by_kernel(entry, at);
    }
    for (int64_t i = 0; i < tape->n_outputs; i++) use_at(tape->output[i], (int)tape->n_entries);
}

/* ---- places --------------------------------------------------------------------------------- */

static lq_status checked_bytes(size_t *out, const lq_tensor *t) {
    *out = (size_t)t->fmt->bytes;
    for (int i = 0; i < t->ndim; i++) LQ_TRY(lq_mul_size(out, *out, (size_t)t->dim[i]));
    *out = *out / (size_t)t->fmt->block;
    return LQ_OK;
}

static void add_locals(lq_tape *tape, bool in_arena) {
    for (int64_t i = 0; i < tape->n_tensors; i++) {
        lq_tensor *const t = tape->tensor[i];
        if (t->kind != LQ_INPUT && t->kind != LQ_ACTIVATION) continue;
        if ((t->first >= 0) != in_arena) continue;
        tape->local[tape->n_locals++] = (lq_local){t, t->dim[0] == tape->max_rows};
    }
}

/* The arena holds the inputs, always, so that the host can write them, and what the schedule uses.
 * The output of a clone that does not run again is a local without memory. A local has as many rows
 * as the run unless its first dimension is not the capacity. */
static lq_status find_locals(lq_tape *tape) {
    tape->local = lq_alloc_array(tape->n_tensors, sizeof *tape->local);
    if (!tape->local) return LQ_EMEM;
    for (int64_t i = 0; i < tape->n_tensors; i++) {
        lq_tensor *const t = tape->tensor[i];
        if (t->kind != LQ_INPUT) continue;
        t->first = 0;
        t->last = (int)tape->n_entries;
    }
    add_locals(tape, true);
    tape->n_residents = tape->n_locals;
    add_locals(tape, false);
    return LQ_OK;
}

static lq_status place(lq_tape *tape) {
    LQ_TRY(find_locals(tape));
    const int64_t n = tape->n_residents;
    lq_plan_item *const item = lq_alloc_array(n + 1, sizeof *item);
    lq_status status = item ? LQ_OK : LQ_EMEM;
    if (status != LQ_OK) goto done;
    for (int64_t i = 0; i < n; i++) {
        const lq_tensor *const t = tape->local[i].tensor;
        item[i] = (lq_plan_item){.first = t->first, .last = t->last};
        LQ_GOTO(status, checked_bytes(&item[i].bytes, t));
    }
    item[n] = (lq_plan_item){.bytes = tape->scratch_bytes, .first = 0,
                             .last = (int)tape->n_entries};
    LQ_GOTO(status, lq_plan(&tape->arena_bytes, item, n + 1));
    for (int64_t i = 0; i < n; i++) tape->local[i].tensor->offset = item[i].offset;
    tape->scratch_offset = item[n].offset;
done:
    lq_free(item);
    return status;
}

static lq_status find_loss(lq_tape *tape) {
    if (!tape->n_outputs) return lq_fail(LQ_EVALUE, "a training tape needs an output, the loss");
    tape->loss = tape->output[tape->n_outputs - 1];
    if (!tape->loss->grad || tape->loss->kind != LQ_ACTIVATION)
        return lq_fail(LQ_EVALUE, "nothing to train: the loss depends on no parameter");
    return LQ_OK;
}

lq_status lq_tape_compile(lq_tape *tape, const lq_tape_options *options) {
    assert(!tape->local);
    if (tape->status != LQ_OK)
        return tape->error ? lq_fail(tape->status, "%s", tape->error)
                           : lq_fail(tape->status, "%s", lq_status_text(tape->status));
    tape->run.training = options->training;
    if (options->training) LQ_TRY(find_loss(tape));
    LQ_TRY(schedule(tape, options));
    find_lifetimes(tape);
    return place(tape);
}

size_t lq_tape_arena_bytes(const lq_tape *tape) {
    return tape->arena_bytes + lq_tape_narrow_bytes(tape);
}
