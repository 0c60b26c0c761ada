/* Parameters on a device that keeps activations in BF16: each has a copy in it (lq_tensor.narrow)
 * that products read, made again at the start of every forward pass. Parameters that are neighbours
 * in memory, as an adapter's are, are converted together. */
#include "tape_parts.h"

#include <stdlib.h>

static int by_data(const void *pa, const void *pb) {
    const lq_tensor *const a = *(lq_tensor *const *)pa, *const b = *(lq_tensor *const *)pb;
    return a->data < b->data ? -1 : a->data > b->data;
}

static int64_t elements(const lq_tensor *t) { return lq_rows(t) * lq_cols(t); }

static bool is_param(const lq_tensor *t) { return t->kind == LQ_PARAM && t->data; }

size_t lq_tape_narrow_bytes(const lq_tape *tape) {
    size_t bytes = 0;
    if (tape->run.dev->activation == &lq_f32) return 0;
    for (int64_t i = 0; i < tape->n_tensors; i++)
        if (tape->tensor[i]->kind == LQ_PARAM)
            bytes += lq_format_bytes(tape->run.dev->activation, elements(tape->tensor[i]));
    return bytes;
}

/* Extends the last span, or begins one, by a parameter whose copy is at `to`. */
static void add_span(lq_tape *tape, const lq_tensor *t, void *to) {
    lq_narrow_span *const last = tape->n_narrow ? &tape->narrow[tape->n_narrow - 1] : NULL;
    if (last && last->from + last->n == lq_data_f32(t)) last->n += elements(t);
    else tape->narrow[tape->n_narrow++] = (lq_narrow_span){lq_data_f32(t), to, elements(t)};
}

/* A parameter may be recorded more than once: then its tensors share one copy. */
static void place(lq_tape *tape, lq_tensor **sorted, int64_t n) {
    char *at = tape->narrow_block;
    for (int64_t i = 0; i < n; i++) {
        if (i > 0 && sorted[i]->data == sorted[i - 1]->data) {
            sorted[i]->narrow = sorted[i - 1]->narrow;
            continue;
        }
        sorted[i]->narrow = at;
        add_span(tape, sorted[i], at);
        at += lq_format_bytes(tape->run.dev->activation, elements(sorted[i]));
    }
}

lq_status lq_tape_alloc_narrow(lq_tape *tape) {
    lq_dev *const dev = tape->run.dev;
    const size_t bytes = lq_tape_narrow_bytes(tape);
    if (!bytes) return LQ_OK;
    lq_tensor **const sorted = lq_alloc_array(tape->n_tensors, sizeof *sorted);
    lq_status status = sorted ? LQ_OK : LQ_EMEM;
    int64_t n = 0;
    if (status != LQ_OK) goto done;
    for (int64_t i = 0; i < tape->n_tensors; i++)
        if (is_param(tape->tensor[i])) sorted[n++] = tape->tensor[i];
    qsort(sorted, (size_t)n, sizeof *sorted, by_data);
    tape->narrow = lq_alloc_array(n, sizeof *tape->narrow);
    if (!tape->narrow) status = LQ_EMEM;
    else status = dev->row->alloc(dev, &tape->narrow_block, bytes);
    if (status == LQ_OK) place(tape, sorted, n);
done:
    lq_free(sorted);
    return status;
}

void lq_tape_narrow(const lq_tape *tape) {
    lq_dev *const dev = tape->run.dev;
    for (int64_t i = 0; i < tape->n_narrow; i++)
        dev->row->convert(dev, tape->narrow[i].to, tape->narrow[i].from, &lq_f32,
                          tape->narrow[i].n);
}
