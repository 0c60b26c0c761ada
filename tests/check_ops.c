/* Every op, every case, every CPU table, several row counts: forward against the double-precision
 * reference, gradients against central differences of the reference, element by element with their
 * signs and along the gradient itself; recomputation, inference and a second run give the same
 * bits. */
#include "cpu.h"
#include "op_cases.h"
#include "test_device.h"
#include "test_util.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const int64_t row_counts[] = {1, 2, 7, BENCH_CAPACITY};
static const lq_tape_options train = {.training = true};
static const lq_tape_options train_again = {.training = true, .checkpoint = true};

/* ---- what the reference says ---------------------------------------------------------------- */

typedef struct expected {
    float *out;
    float *grad[BENCH_MAX_ITEMS];
    double largest_out, largest_grad;   /* over all items: one item's gradient may be all zero */
} expected;

static double largest(const float *x, int64_t n) {
    double most = 0;
    for (int64_t i = 0; i < n; i++) most = fmax(most, fabs((double)x[i]));
    return most;
}

static double slope(op_bench *b, double *x, double *out) {
    const double at = *x, h = 1e-5 * fmax(1, fabs(at));
    *x = at + h;
    const double above = bench_loss(b, out);
    *x = at - h;
    const double below = bench_loss(b, out);
    *x = at;
    return (above - below) / (2 * h);
}

static void expect(op_bench *b, expected *e) {
    const int64_t n = bench_out_size(b);
    double *const out = lq_alloc_array(n, sizeof *out);
    e->out = lq_alloc_array(n, sizeof *e->out);
    ck_assert(out && e->out);
    for (int i = 0; i < b->n_items; i++) {
        const bench_item *const item = &b->item[i];
        if (!item->trained) continue;
        e->grad[i] = lq_alloc_array(item->rows * item->cols, sizeof *e->grad[i]);
        ck_assert_ptr_nonnull(e->grad[i]);
        for (int64_t j = 0; j < item->rows * item->cols; j++)
            e->grad[i][j] = (float)slope(b, &item->v[j], out);
        e->largest_grad = fmax(e->largest_grad, largest(e->grad[i], item->rows * item->cols));
    }
    b->c->reference(b, out);
    for (int64_t i = 0; i < n; i++) e->out[i] = (float)out[i];
    e->largest_out = largest(e->out, n);
    lq_free(out);
}

static void expected_clear(expected *e) {
    lq_free(e->out);
    for (int i = 0; i < BENCH_MAX_ITEMS; i++) lq_free(e->grad[i]);
}

/* ---- comparing ------------------------------------------------------------------------------ */

/* BF16 has 8 bits; the factors stand for what an op does one after the other. */
static double tolerance_of(const op_bench *b) {
    const double own = b->c->tolerance > 0 ? b->c->tolerance : 3e-6;
    return b->dev->activation == &lq_bf16 ? fmax(own, 8 * 0x1p-8)
           : b->dev->id == LQ_CPU         ? own : 2 * own;
}

static void close_to(const char *what, const op_bench *b, const float *got, const float *want,
                     int64_t n, double scale) {
    const double tolerance = tolerance_of(b);
    test_close(what, got, want, n, tolerance * scale + 1e-9, tolerance);
}

/* The reference's slope along the op's gradient g, all of it at once, is |g|^2. */
static void check_direction(const char *what, op_bench *b) {
    double *const out = lq_alloc_array(bench_out_size(b), sizeof *out);
    ck_assert_ptr_nonnull(out);
    double square = 0, loss[2];
    for (int side = 0; side < 2; side++) {
        square = 0;
        for (int i = 0; i < b->n_items; i++) {
            const bench_item *const item = &b->item[i];
            for (int64_t j = 0; item->trained && j < item->rows * item->cols; j++) {
                const double g = (double)item->grad[j];
                item->v[j] = (double)item->data[j] + (side ? -1e-5 : 1e-5) * g;
                square += g * g;
            }
        }
        loss[side] = bench_loss(b, out);
    }
    const double along = (loss[0] - loss[1]) / 2e-5, tolerance = fmax(1e-4, tolerance_of(b));
    ck_assert_msg(square > 0, "%s: no gradient at all", what);
    ck_assert_msg(fabs(along - square) <= tolerance * square,
                  "%s: slope along the gradient %g, wanted %g", what, along, square);
    lq_free(out);
}

static void check_against(lq_dev *dev, const op_case *c, int64_t rows, const expected *want,
                          const char *table) {
    char what[128];
    op_bench b;
    ck_ok(bench_open(&b, dev, c, rows, train));
    ck_ok(bench_run(&b, true));
    snprintf(what, sizeof what, "%s %s, %lld rows, %s, out", c->op, c->name, (long long)rows,
             table);
    close_to(what, &b, b.result, want->out, bench_out_size(&b), want->largest_out);
    for (int i = 0; i < b.n_items; i++) {
        const bench_item *const item = &b.item[i];
        if (!item->trained) continue;
        snprintf(what, sizeof what, "%s %s, %lld rows, %s, gradient of item %d", c->op, c->name,
                 (long long)rows, table, i);
        close_to(what, &b, item->grad, want->grad[i], item->rows * item->cols,
                 want->largest_grad);
    }
    snprintf(what, sizeof what, "%s %s, %lld rows, %s", c->op, c->name, (long long)rows, table);
    check_direction(what, &b);
    bench_close(&b);
}

/* ---- the same bits -------------------------------------------------------------------------- */

static void same_bits(const op_case *c, const op_bench *a, const op_bench *b, bool gradients) {
    ck_assert_msg(!memcmp(a->result, b->result, (size_t)bench_out_size(a) * sizeof(float)),
                  "%s %s: the outputs differ", c->op, c->name);
    for (int i = 0; gradients && i < a->n_items; i++) {
        if (!a->item[i].trained) continue;
        const size_t bytes = (size_t)(a->item[i].rows * a->item[i].cols) * sizeof(float);
        ck_assert_msg(!memcmp(a->item[i].grad, b->item[i].grad, bytes),
                      "%s %s: gradients of item %d differ", c->op, c->name, i);
    }
}

static void check_same_bits(lq_dev *dev, const op_case *c, int64_t rows) {
    op_bench first, second, again, inference;
    ck_ok(bench_open(&first, dev, c, rows, train));
    ck_ok(bench_open(&second, dev, c, rows, train));
    ck_ok(bench_open(&again, dev, c, rows, train_again));
    ck_ok(bench_open(&inference, dev, c, rows, (lq_tape_options){0}));
    ck_ok(bench_run(&first, true));
    test_reverse_device(true);   /* an emulated one runs its threads in the other order */
    ck_ok(bench_run(&second, true));
    test_reverse_device(false);
    ck_ok(bench_run(&again, true));
    ck_ok(bench_run(&inference, false));
    same_bits(c, &first, &second, true);
    same_bits(c, &first, &again, true);
    if (!c->random) same_bits(c, &first, &inference, false);
    bench_close(&first);
    bench_close(&second);
    bench_close(&again);
    bench_close(&inference);
}

/* ---- tests ---------------------------------------------------------------------------------- */

static int n_cases(void) {
    int n = 0;
    while (op_cases[n].op) n++;
    return n;
}

START_TEST(every_op_has_a_case) {
    for (int i = 0; lq_op_table[i]; i++) {
        bool found = false;
        for (int k = 0; op_cases[k].op; k++) found |= !strcmp(op_cases[k].op, lq_op_table[i]->name);
        ck_assert_msg(found, "op '%s' has no case in op_cases.c", lq_op_table[i]->name);
    }
}
END_TEST

static void check_device(lq_dev *dev, const op_case *c, int64_t rows, const expected *want,
                         const char *name) {
    check_against(dev, c, rows, want, name);
    check_same_bits(dev, c, rows);
}

static void check_cpu(const op_case *c, int64_t rows, const expected *want) {
    for (const lq_cpu *const *table = lq_cpu_tables(); *table; table++) {
        lq_cpu_force(*table);
        check_device(lq_dev_cpu(), c, rows, want, (*table)->name);
    }
    lq_cpu_force(NULL);
}

static void check_gpu(const op_case *c, int64_t rows, const expected *want, bool bf16) {
    lq_dev *dev = NULL;
    if (lq_dev_open(&dev, "cuda", bf16) != LQ_OK) return; /* a build or a machine without one */
    if (c->cpu_only) {
        op_bench b;
        ck_fails(bench_open(&b, dev, c, rows, train), LQ_EUNSUPPORTED, "device cuda");
        bench_close(&b);
    } else {
        check_device(dev, c, rows, want, bf16 ? "cuda bf16" : "cuda");
    }
    lq_dev_close(dev);
}

START_TEST(case_is_right) {
    const op_case *const c = &op_cases[_i];
    for (int r = 0; r < LQ_ARRAY_LEN(row_counts); r++) {
        expected want = {0};
        op_bench b;
        ck_ok(bench_open(&b, lq_dev_cpu(), c, row_counts[r], train));
        expect(&b, &want);
        bench_close(&b);
        if (!test_device_is_emulated()) check_cpu(c, row_counts[r], &want); /* check_ops has it */
        check_gpu(c, row_counts[r], &want, false);
        check_gpu(c, row_counts[r], &want, true);
        expected_clear(&want);
    }
}
END_TEST

int main(void) {
    Suite *const suite = suite_create("ops");
    TCase *const tcase = tcase_create("ops");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, every_op_has_a_case);
    tcase_add_loop_test(tcase, case_is_right, 0, n_cases());
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
