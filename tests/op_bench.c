/* See op_bench.h. */
#include "op_bench.h"

#include "random.h"
#include "test_util.h"

#include <string.h>

/* ---- an op of our own: out = x * c, so that every element counts differently ---------------- */

static lq_status weigh_shape(lq_node *node) {
    node->out->ndim = 2;
    memcpy(node->out->dim, node->in[0]->dim, sizeof node->out->dim);
    return LQ_OK;
}

static unsigned weigh_reads(const lq_node *node) {
    (void)node;
    return LQ_IN(1);
}

static void weigh_forward(const lq_node *node, const lq_run *run) {
    (void)run;
    const int64_t n = lq_rows(node->out) * lq_cols(node->out);
    for (int64_t i = 0; i < n; i++)
        lq_data_f32(node->out)[i] = lq_data_f32(node->in[0])[i] * lq_data_f32(node->in[1])[i];
}

static void weigh_backward(const lq_node *node, const lq_run *run) {
    (void)run;
    const int64_t n = lq_rows(node->out) * lq_cols(node->out);
    for (int64_t i = 0; i < n; i++)
        lq_grad_f32(node->in[0])[i] += lq_grad_f32(node->out)[i] * lq_data_f32(node->in[1])[i];
}

static const lq_op weigh_op = {
    .name = "weigh", .n_in = 2, .bwd_reads = weigh_reads, .shape = weigh_shape,
    .kernel = {[LQ_CPU] = {weigh_forward, weigh_backward}},
};

/* ---- items ---------------------------------------------------------------------------------- */

static bench_item *add_item(op_bench *b, int64_t rows, int64_t cols) {
    ck_assert_int_lt(b->n_items, BENCH_MAX_ITEMS);
    const uint64_t key = lq_random_key(BENCH_KEY, (uint64_t)b->n_items);
    const double spread = b->c->spread > 0 ? b->c->spread : 1;
    bench_item *const item = &b->item[b->n_items++];
    item->rows = rows ? rows : 1;
    item->cols = cols;
    const int64_t n = item->rows * cols;
    item->data = lq_alloc_array(n, sizeof *item->data);
    item->grad = lq_alloc_array(n, sizeof *item->grad);
    item->v = lq_alloc_array(n, sizeof *item->v);
    ck_assert(item->data && item->grad && item->v);
    test_fill(item->data, n, key);
    for (int64_t i = 0; i < n; i++) item->data[i] *= (float)spread;
    return item;
}

static void set_values(bench_item *item) {
    for (int64_t i = 0; i < item->rows * item->cols; i++) item->v[i] = (double)item->data[i];
}

lq_tensor *bench_param(op_bench *b, int64_t rows, int64_t cols) {
    bench_item *const item = add_item(b, rows, cols);
    item->trained = true;
    set_values(item);
    const int64_t dim[] = {rows, cols};
    return lq_tape_param(b->tape, "param", rows ? 2 : 1, rows ? dim : dim + 1, item->data,
                         item->grad);
}

lq_tensor *bench_rows(op_bench *b, int64_t cols) {
    lq_tensor *const table = bench_param(b, b->capacity, cols);
    return lq_embed(b->tape, b->ids, table, NULL, (lq_embed_attr){.scale = 1});
}

lq_tensor *bench_weight(op_bench *b, const lq_format *fmt, int64_t rows, int64_t cols) {
    bench_item *const item = add_item(b, rows, cols);
    const int64_t n = item->rows * cols;
    item->packed = lq_alloc(lq_format_bytes(fmt, n));
    ck_assert_ptr_nonnull(item->packed);
    fmt->quant(item->data, item->packed, n, NULL);
    fmt->dequant(item->packed, item->data, n);
    set_values(item);
    const int64_t dim[] = {rows, cols};
    return lq_tape_weight(b->tape, "weight", fmt, rows ? 2 : 1, rows ? dim : dim + 1, item->packed);
}

lq_tensor *bench_ints(op_bench *b, int32_t (*value)(int64_t t)) {
    ck_assert_int_lt(b->n_items, BENCH_MAX_ITEMS);
    bench_item *const item = &b->item[b->n_items++];
    item->ints = lq_alloc_array(b->capacity, sizeof *item->ints);
    ck_assert_ptr_nonnull(item->ints);
    for (int64_t t = 0; t < b->capacity; t++) item->ints[t] = value(t);
    item->input = lq_tape_input(b->tape, "ints", &lq_i32, 0);
    return item->input;
}

/* ---- runs ----------------------------------------------------------------------------------- */

static void record_loss(op_bench *b) {
    lq_tape_output(b->tape, b->out);
    if (b->c->is_loss) return;
    const int64_t n = b->capacity * lq_cols(b->out);
    b->weigh = lq_alloc_array(n, sizeof *b->weigh);
    ck_assert_ptr_nonnull(b->weigh);
    test_fill(b->weigh, n, BENCH_KEY + 1);
    lq_tensor *const c = lq_tape_weight(b->tape, "weigh", &lq_f32, 2,
                                        (const int64_t[]){b->capacity, lq_cols(b->out)}, b->weigh);
    lq_tape_output(b->tape,
                   lq_tape_record(b->tape, &weigh_op, NULL, 2, (lq_tensor *[]){b->out, c}));
}

static void write_inputs(op_bench *b) {
    for (int64_t t = 0; t < b->rows; t++) ((int32_t *)b->ids->data)[t] = (int32_t)t;
    for (int i = 0; i < b->n_items; i++)
        if (b->item[i].input)
            memcpy(b->item[i].input->data, b->item[i].ints, (size_t)b->rows * sizeof(int32_t));
}

lq_status bench_open(op_bench *b, const op_case *c, int64_t rows, lq_tape_options options) {
    *b = (op_bench){.c = c, .capacity = BENCH_CAPACITY, .rows = rows};
    LQ_TRY(lq_tape_new(&b->tape, b->capacity));
    b->ids = lq_tape_input(b->tape, "ids", &lq_i32, 0);
    lq_tape_segment(b->tape, 0);
    b->out = c->build(b);
    lq_tape_segment(b->tape, -1);
    record_loss(b);
    LQ_TRY(lq_tape_compile(b->tape, &options));
    LQ_TRY(lq_tape_alloc(b->tape));
    lq_tape_set_rows(b->tape, rows);
    write_inputs(b);
    return LQ_OK;
}

void bench_close(op_bench *b) {
    lq_tape_free(b->tape);
    for (int i = 0; i < b->n_items; i++) {
        lq_free(b->item[i].data);
        lq_free(b->item[i].grad);
        lq_free(b->item[i].packed);
        lq_free(b->item[i].ints);
        lq_free(b->item[i].v);
    }
    lq_free(b->weigh);
}

int64_t bench_out_size(const op_bench *b) { return b->rows * lq_cols(b->out); }

double bench_loss(const op_bench *b, double *out) {
    b->c->reference(b, out);
    double loss = 0;
    for (int64_t i = 0; i < bench_out_size(b); i++) {
        const double weight = b->weigh ? (double)b->weigh[i] : i % lq_cols(b->out) == 0;
        loss += weight * out[i];
    }
    return loss;
}
