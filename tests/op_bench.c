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

extern const lq_kernels lq_cuda_weigh;   /* weigh.cu */
static const lq_kernels weigh_on_cpu = {.fwd = weigh_forward, .bwd = weigh_backward};

static const lq_op weigh_op = {
    .name = "weigh", .n_in = 2, .out_f32 = true, .bwd_reads = weigh_reads, .shape = weigh_shape,
    .kernel = {[LQ_CPU] = &weigh_on_cpu, LQ_CUDA_ROW(weigh)},
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
    const size_t bytes = (size_t)(item->rows * cols) * sizeof(float);
    ck_ok(b->dev->row->alloc(b->dev, (void **)&item->dev_data, bytes));
    ck_ok(b->dev->row->alloc(b->dev, (void **)&item->dev_grad, bytes));
    b->dev->row->copy(b->dev, item->dev_data, item->data, bytes);
    b->dev->row->fill(b->dev, item->dev_grad, 0, bytes);
    return lq_tape_param(b->tape, "param", rows ? 2 : 1, rows ? dim : dim + 1, item->dev_data,
                         item->dev_grad);
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
    int32_t *const ids = lq_alloc_array(b->capacity, sizeof *ids);
    ck_assert_ptr_nonnull(ids);
    for (int32_t t = 0; t < b->capacity; t++) ids[t] = t;
    lq_tape_write(b->tape, b->ids, ids);
    lq_free(ids);
    for (int i = 0; i < b->n_items; i++)
        if (b->item[i].input) lq_tape_write(b->tape, b->item[i].input, b->item[i].ints);
}

lq_status bench_open(op_bench *b, lq_dev *dev, const op_case *c, int64_t rows,
                     lq_tape_options options) {
    *b = (op_bench){.dev = dev, .c = c, .capacity = lq_max64(BENCH_CAPACITY, rows), .rows = rows};
    LQ_TRY(lq_tape_new(&b->tape, b->capacity));
    lq_tape_on(b->tape, dev);
    b->ids = lq_tape_input(b->tape, "ids", &lq_i32, 0);
    lq_tape_segment(b->tape, 0);
    b->out = c->build(b);
    lq_tape_segment(b->tape, -1);
    record_loss(b);
    LQ_TRY(lq_tape_compile(b->tape, &options));
    LQ_TRY(lq_tape_alloc(b->tape));
    lq_tape_set_rows(b->tape, rows);
    write_inputs(b);
    b->result = lq_alloc_array(bench_out_size(b), sizeof *b->result);
    return b->result ? LQ_OK : LQ_EMEM;
}

static lq_status fetch_out(op_bench *b) {
    const float *out;
    LQ_TRY(lq_tape_view(b->tape, b->out, 0, b->rows, &out));
    memcpy(b->result, out, (size_t)bench_out_size(b) * sizeof *out);
    return LQ_OK;
}

lq_status bench_run(op_bench *b, bool backward) {
    LQ_TRY(lq_tape_forward(b->tape, BENCH_KEY, 0));
    if (backward) LQ_TRY(lq_tape_backward(b->tape));
    for (int i = 0; backward && i < b->n_items; i++) {
        const bench_item *const item = &b->item[i];
        if (item->trained)
            b->dev->row->copy(b->dev, item->grad, item->dev_grad,
                              (size_t)(item->rows * item->cols) * sizeof(float));
    }
    return fetch_out(b);
}

void bench_close(op_bench *b) {
    lq_tape_free(b->tape);
    for (int i = 0; i < b->n_items; i++) {
        lq_dev_forget(b->dev, b->item[i].packed);
        lq_free(b->item[i].data);
        lq_free(b->item[i].grad);
        lq_free(b->item[i].packed);
        lq_free(b->item[i].ints);
        lq_free(b->item[i].v);
        b->dev->row->free(b->dev, b->item[i].dev_data);
        b->dev->row->free(b->dev, b->item[i].dev_grad);
    }
    lq_dev_forget(b->dev, b->weigh);
    lq_free(b->result);
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
