/* The merged tile loop against a naive one, bit for bit; thread independence; what it refuses. */
#include "merge.h"

#include "test_util.h"

#include <math.h>
#include <omp.h>
#include <string.h>

static const lq_format *const in_formats[] = {&lq_f32, &lq_f16, &lq_bf16, &lq_q8_0, &lq_q4_0};
static const struct { int64_t rows, cols; int rank; } shapes[] = {
    {1, 32, 1}, {5, 64, 0}, {7, 96, 3}, {515, 128, 4}, {3, 32768 + 64, 2}, /* wider than a tile */
};

enum { N_FORMATS = LQ_ARRAY_LEN(in_formats), N_SHAPES = LQ_ARRAY_LEN(shapes) };

/* Multiples of 1/8 in [-1, 1]: sums of their products are exact in float, in any order, also with
 * the values that a block format makes of them (a scale of 11 bits times a code). */
static void fill_exact(float *x, int64_t n, uint64_t key) {
    test_fill(x, n, key);
    for (int64_t i = 0; i < n; i++) x[i] = rintf(x[i] * 8) / 8;
}

typedef struct setup {
    float *w, *a, *b;
    void *data;              /* W in the input format */
    void *out, *want;
    lq_merge_job job;
} setup;

static void setup_init(setup *s, const lq_format *in, const lq_format *out, int shape) {
    const int64_t rows = shapes[shape].rows, cols = shapes[shape].cols, rank = shapes[shape].rank;
    const int64_t n = rows * cols;
    s->w = lq_alloc_array(n, sizeof *s->w);
    s->a = lq_alloc_array(rank * cols, sizeof *s->a);
    s->b = lq_alloc_array(rank * rows, sizeof *s->b);
    s->data = lq_alloc(lq_format_bytes(in, n));
    s->out = lq_alloc(lq_format_bytes(out, n));
    s->want = lq_alloc(lq_format_bytes(out, n));
    fill_exact(s->w, n, 1);
    fill_exact(s->a, rank * cols, 2);
    fill_exact(s->b, rank * rows, 3);
    in->quant(s->w, s->data, n, NULL);
    in->dequant(s->data, s->w, n);
    s->job = (lq_merge_job){.name = "blk.0.attn_q.weight", .fmt = in, .data = s->data,
                            .n_mats = 1, .rows = rows,
                            .cols = cols, .rank = (int)rank, .scale = 0.5f, .a = s->a, .b = s->b,
                            .out_fmt = out, .out = s->out};
}

static void setup_clear(setup *s) {
    lq_free(s->w);
    lq_free(s->a);
    lq_free(s->b);
    lq_free(s->data);
    lq_free(s->out);
    lq_free(s->want);
}

static void naive(const setup *s) {
    const lq_merge_job *j = &s->job;
    float *row = lq_alloc_array(j->cols, sizeof *row);
    for (int64_t o = 0; o < j->rows; o++) {
        for (int64_t d = 0; d < j->cols; d++) {
            double sum = 0;
            for (int r = 0; r < j->rank; r++)
                sum += (double)j->b[o * j->rank + r] * (double)j->a[r * j->cols + d];
            row[d] = s->w[o * j->cols + d];
            if (j->rank) row[d] = (float)((double)row[d] + (double)j->scale * sum); /* keeps -0 */
        }
        j->out_fmt->quant(row, (char *)s->want + lq_format_bytes(j->out_fmt, o * j->cols), j->cols,
                          NULL);
    }
    lq_free(row);
}

static lq_status run_job(const lq_merge_job *job) {
    lq_merge *merge = NULL;
    lq_status status = lq_merge_new(&merge, 1);
    if (status == LQ_OK) lq_merge_add(merge, *job);
    if (status == LQ_OK) status = lq_merge_prepare(merge);
    if (status == LQ_OK) status = lq_merge_run(merge);
    lq_merge_free(merge);
    return status;
}

START_TEST(as_the_naive_loop) {
    const lq_format *in = in_formats[_i / N_FORMATS], *out = in_formats[_i % N_FORMATS];
    for (int shape = 0; shape < N_SHAPES; shape++) {
        setup s;
        setup_init(&s, in, out, shape);
        ck_ok(run_job(&s.job));
        naive(&s);
        ck_assert_msg(memcmp(s.out, s.want, lq_format_bytes(out, s.job.rows * s.job.cols)) == 0,
                      "%s to %s, shape %d", in->name, out->name, shape);
        setup_clear(&s);
    }
}
END_TEST

/* Counted twice: the first run makes codes out of zeros, the second finds them as they are. */
START_TEST(watching_counts) {
    const lq_format *out = in_formats[_i];
    setup s;
    lq_merge *merge = NULL;
    lq_watch_sums sums;
    float *value;
    setup_init(&s, &lq_f32, out, 3);
    const int64_t n = s.job.rows * s.job.cols;
    double error = 0, norm = 0;
    value = lq_alloc_array(n, sizeof *value);
    test_fill(s.w, n, 7);
    memcpy(s.data, s.w, (size_t)n * sizeof *s.w);
    s.job.rank = 0;
    ck_ok(lq_merge_new(&merge, 1));
    lq_merge_add(merge, s.job);
    ck_ok(lq_merge_prepare(merge));
    ck_ok(lq_merge_watchable(merge));
    ck_ok(lq_merge_run(merge));
    ck_assert_double_eq(lq_merge_watched(merge, 0).norm, 0);
    lq_merge_watch(merge, true);
    ck_ok(lq_merge_run(merge));
    sums = lq_merge_watched(merge, 0);
    ck_assert_int_eq(sums.changed, 0);
    ck_assert_int_eq(sums.codes, out->block > 1 ? n : 0);
    out->dequant(s.out, value, n);
    for (int64_t i = 0; i < n; i++) {
        error += pow((double)value[i] - (double)s.w[i], 2);
        norm += pow((double)s.w[i], 2);
    }
    ck_assert_double_eq_tol(lq_watch_distance(&sums), sqrt(error / norm), 1e-9);
    memset(s.data, 0, (size_t)n * sizeof *s.w);
    ck_ok(lq_merge_run(merge));
    sums = lq_merge_watched(merge, 0);
    ck_assert_int_ge(sums.changed, sums.codes * 7 / 8);
    lq_merge_free(merge);
    lq_free(value);
    setup_clear(&s);
}
END_TEST

/* Several jobs in one run, arbitrary numbers: the same bytes whatever the number of threads. */
START_TEST(thread_count_changes_nothing) {
    setup s;
    setup_init(&s, &lq_f32, &lq_q4_0, 3);
    const int64_t n = s.job.rows * s.job.cols;
    test_fill(s.w, n, 7);
    memcpy(s.data, s.w, (size_t)n * sizeof *s.w);
    test_fill(s.a, s.job.rank * s.job.cols, 8);
    test_fill(s.b, s.job.rank * s.job.rows, 9);
    omp_set_num_threads(1);
    ck_ok(run_job(&s.job));
    memcpy(s.want, s.out, lq_format_bytes(&lq_q4_0, n));
    memset(s.out, 0, lq_format_bytes(&lq_q4_0, n));
    omp_set_num_threads(3);
    ck_ok(run_job(&s.job));
    ck_assert_mem_eq(s.out, s.want, lq_format_bytes(&lq_q4_0, n));
    setup_clear(&s);
}
END_TEST

/* Two matrices of one job have weights of their own, and every call of the quantizer is one row. */
START_TEST(importance_goes_with_the_matrix) {
    setup s;
    setup_init(&s, &lq_f32, &lq_q4_0, 3);
    lq_merge_job *j = &s.job;
    float *weights = lq_alloc_array(2 * j->cols, sizeof *weights);
    test_fill(weights, 2 * j->cols, 4);
    for (int64_t i = 0; i < 2 * j->cols; i++) weights[i] = weights[i] * weights[i];
    test_fill(s.data, j->rows * j->cols, 5);
    j->rank = 0;
    j->importance = weights;
    j->rows -= j->rows % 2;
    j->n_mats = 2;
    ck_ok(run_job(j));
    for (int64_t r = 0; r < j->rows; r++)
        lq_q4_0.quant((const float *)s.data + r * j->cols,
                      (char *)s.want + lq_format_bytes(&lq_q4_0, r * j->cols), j->cols,
                      weights + (r < j->rows / 2 ? 0 : j->cols));
    ck_assert_mem_eq(s.out, s.want, lq_format_bytes(&lq_q4_0, j->rows * j->cols));
    lq_free(weights);
    setup_clear(&s);
}
END_TEST

static const struct { float value; const lq_format *out; bool refused; } limits[] = {
    {NAN, &lq_f32, true},      {INFINITY, &lq_f32, true}, {-INFINITY, &lq_q4_0, true},
    {1e6f, &lq_f16, true},     {1e6f, &lq_q8_0, true},    {1e6f, &lq_f32, false},
    {65504, &lq_f16, false},   {1e6f, &lq_bf16, false},
};

START_TEST(refuses_what_the_format_cannot_hold) {
    setup s;
    setup_init(&s, &lq_f32, limits[_i].out, 2);
    ((float *)s.data)[s.job.rows * s.job.cols - 1] = limits[_i].value;
    s.job.rank = 0;
    if (limits[_i].refused) ck_fails(run_job(&s.job), LQ_ENONFINITE, "blk.0.attn_q.weight");
    else ck_ok(run_job(&s.job));
    setup_clear(&s);
}
END_TEST

START_TEST(max_abs) {
    float x[37];
    for (int n = 0; n <= 37; n++) {
        for (int at = 0; at < n; at++) {
            test_fill(x, n, 5);
            x[at] = -3;
            ck_assert_float_eq(lq_max_abs(x, n), 3);
            x[at] = NAN;
            ck_assert(isnan(lq_max_abs(x, n)));
        }
        if (n == 0) ck_assert_float_eq(lq_max_abs(x, n), 0);
    }
    x[0] = INFINITY;
    ck_assert(isinf(lq_max_abs(x, 1)));
}
END_TEST

static lq_status run_ctx(void *ctx) { return run_job(ctx); }

START_TEST(allocation_failures) {
    setup s;
    setup_init(&s, &lq_f32, &lq_q4_0, 1);
    test_alloc_failures(run_ctx, &s.job);
    setup_clear(&s);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("merge");
    TCase *tc = tcase_create("merge");
    tcase_add_loop_test(tc, as_the_naive_loop, 0, N_FORMATS * N_FORMATS);
    tcase_add_loop_test(tc, watching_counts, 0, N_FORMATS);
    tcase_add_test(tc, thread_count_changes_nothing);
    tcase_add_loop_test(tc, refuses_what_the_format_cannot_hold, 0, LQ_ARRAY_LEN(limits));
    tcase_add_test(tc, importance_goes_with_the_matrix);
    tcase_add_test(tc, max_abs);
    tcase_add_test(tc, allocation_failures);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
