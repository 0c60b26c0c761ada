/* Running a compiled tape: its arena, the rows in use, forward and backward. Nothing here allocates
 * but lq_tape_alloc. */
#include "redzone.h"
#include "tape_parts.h"

#include <assert.h>
#include <string.h>

enum { ALIGN = 64, ZERO_PIECE = 1 << 16 };

/* Not cleared by hand: pages that a run with few rows never touches are never backed by memory. */
lq_status lq_tape_alloc(lq_tape *tape) {
    assert(tape->local && !tape->arena);
    tape->block = lq_alloc(tape->arena_bytes + ALIGN);
    if (!tape->block) return LQ_EMEM;
    const size_t past = (uintptr_t)tape->block % ALIGN;
    tape->arena = (char *)tape->block + (past ? ALIGN - past : 0);
    for (int64_t i = 0; i < tape->n_residents; i++) {
        lq_tensor *const t = tape->local[i].tensor;
        t->data = tape->arena + t->offset;
    }
    tape->run.scratch = tape->arena + tape->scratch_offset;
    return LQ_OK;
}

/* With AddressSanitizer: only what is alive during this entry may be touched, and scratch is NaN. */
static void guard(const lq_tape *tape, int64_t at) {
    const size_t scratch = at < tape->n_entries ? tape->entry[at].scratch : 0;
    if (!lq_redzone_bytes()) return;
    lq_redzone_close(tape->arena, tape->arena_bytes);
    for (int64_t i = 0; i < tape->n_residents; i++) {
        const lq_tensor *const t = tape->local[i].tensor;
        if (t->first <= at && at <= t->last) lq_redzone_open(t->data, lq_tensor_bytes(t));
    }
    lq_redzone_open(tape->run.scratch, scratch);
    if (scratch) memset(tape->run.scratch, 0xff, scratch);
}

void lq_tape_set_rows(lq_tape *tape, int64_t rows) {
    assert(rows >= 1 && rows <= tape->max_rows);
    for (int64_t i = 0; i < tape->n_locals; i++)
        if (tape->local[i].by_rows) tape->local[i].tensor->dim[0] = rows;
    if (tape->arena) guard(tape, 0); /* the host may write the inputs' rows */
}

/* In pieces, so that each thread brings its share into its own cache. */
static void zero(void *p, size_t bytes) {
#pragma omp parallel for schedule(static) if (bytes >= 4 * ZERO_PIECE)
    for (size_t at = 0; at < bytes; at += ZERO_PIECE)
        memset((char *)p + at, 0, bytes - at < ZERO_PIECE ? bytes - at : ZERO_PIECE);
}

static void run_entries(const lq_tape *tape, int64_t first, int64_t end) {
    for (int64_t at = first; at < end; at++) {
        const lq_entry *const entry = &tape->entry[at];
        guard(tape, at);
        switch (entry->kind) {
        case LQ_ENTRY_FORWARD:
            entry->node->op->kernel[LQ_CPU].fwd(entry->node, &tape->run);
            if (tape->observer && at < tape->n_forward)
                tape->observer(tape->observer_ctx, entry->node);
            break;
        case LQ_ENTRY_BACKWARD: entry->node->op->kernel[LQ_CPU].bwd(entry->node, &tape->run); break;
        case LQ_ENTRY_ZERO: zero(entry->tensor->data, lq_tensor_bytes(entry->tensor)); break;
        }
    }
    guard(tape, end);
}

void lq_tape_observe(lq_tape *tape, lq_observer_fn fn, void *ctx) {
    tape->observer = fn;
    tape->observer_ctx = ctx;
}

lq_status lq_tape_forward(lq_tape *tape, uint64_t key, int64_t n_past) {
    assert(tape->arena);
    tape->run.key = key;
    tape->run.n_past = n_past;
    run_entries(tape, 0, tape->n_forward);
    return LQ_OK;
}

lq_status lq_tape_backward(lq_tape *tape) {
    assert(tape->arena && tape->loss);
    guard(tape, tape->n_forward);
    float *const seed = lq_grad_f32(tape->loss);
    const int64_t n = lq_rows(tape->loss) * lq_cols(tape->loss);
    for (int64_t i = 0; i < n; i++) seed[i] = 1;
    run_entries(tape, tape->n_forward, tape->n_entries);
    return LQ_OK;
}
