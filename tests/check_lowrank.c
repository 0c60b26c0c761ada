/* lowrank.c: matrices of known singular vectors come back, in every shape; and init_error.c: an
 * adapter that starts as the correction of a quantized base makes its error smaller, weighted by
 * the activations where they are given. */
#include "adapter_fixture.h"
#include "imatrix.h"
#include "lowrank.h"
#include "test_util.h"

#include <math.h>
#include <string.h>

/* ---- a matrix made of known parts ------------------------------------------------------------ */

enum { MAX = 128 };

/* Element i of the k-th of n orthonormal cosines. */
static double cosine(int64_t i, int k, int64_t n) {
    const double pi = acos(-1.0);
    return sqrt((k ? 2.0 : 1.0) / (double)n) * cos(pi * ((double)i + 0.5) * k / (double)n);
}

static const struct { int rows, cols, parts, rank; double decay; } shapes[] = {
    {100, 60, 40, 8, 0.7},  {60, 100, 40, 8, 0.7}, {128, 128, 100, 16, 0.9}, {50, 30, 5, 5, 0.5},
    {50, 30, 5, 12, 0.5},   {9, 40, 9, 4, 0.6},    {40, 9, 9, 9, 0.6},       {5, 5, 3, 8, 0.5},
    {30, 20, 1, 1, 1},
};

static double part(int shape, int k) { return pow(shapes[shape].decay, k); }

static void make(float *e, int shape) {
    const int rows = shapes[shape].rows, cols = shapes[shape].cols;
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < cols; j++) {
            double sum = 0;
            for (int k = 0; k < shapes[shape].parts; k++)
                sum += part(shape, k) * cosine(i, k, rows) * cosine(j, k, cols);
            e[i * cols + j] = (float)sum;
        }
}

static double error_left(const float *e, const float *u, const float *v, int rows, int cols,
                         int rank) {
    double squares = 0;
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < cols; j++) {
            double left = (double)e[i * cols + j];
            for (int r = 0; r < rank; r++)
                left -= (double)u[i * rank + r] * (double)v[r * cols + j];
            squares += left * left;
        }
    return sqrt(squares);
}

/* The best that any matrix of that rank leaves is the parts beyond it. */
START_TEST(nearly_the_best) {
    static float e[MAX * MAX], u[MAX * 16], v[16 * MAX];
    const int rows = shapes[_i].rows, cols = shapes[_i].cols, rank = shapes[_i].rank;
    double best = 0;
    make(e, _i);
    for (int k = rank; k < shapes[_i].parts; k++) best += part(_i, k) * part(_i, k);
    ck_ok(lq_lowrank(u, v, e, rows, cols, rank, 2, 5));
    ck_assert_double_le(error_left(e, u, v, rows, cols, rank), 1.01 * sqrt(best) + 2e-6);
}
END_TEST

START_TEST(factors_share_the_singular_values) {
    static float e[MAX * MAX], u[MAX * 16], v[16 * MAX], again[MAX * 16];
    make(e, 0);
    ck_ok(lq_lowrank(u, v, e, 100, 60, 8, 2, 5));
    for (int r = 0; r < 8; r++) {
        double of_u = 0, of_v = 0;
        for (int i = 0; i < 100; i++) of_u += (double)u[i * 8 + r] * (double)u[i * 8 + r];
        for (int j = 0; j < 60; j++) of_v += (double)v[r * 60 + j] * (double)v[r * 60 + j];
        ck_assert_double_eq_tol(of_u, part(0, r), 1e-3 * part(0, r));
        ck_assert_double_eq_tol(of_v, part(0, r), 1e-3 * part(0, r));
    }
    ck_ok(lq_lowrank(again, v, e, 100, 60, 8, 2, 5));
    ck_assert_mem_eq(u, again, 100 * 8 * sizeof *u);
}
END_TEST

START_TEST(not_a_number_is_refused) {
    static float u[4 * 2], v[2 * 4];
    float e[16] = {0};
    e[5] = NAN;
    ck_assert_int_ne(lq_lowrank(u, v, e, 4, 4, 2, 2, 1), LQ_OK);
}
END_TEST

/* ---- a quantized base ------------------------------------------------------------------------ */

enum { COLS = 64 };

/* Columns matter very differently. */
static float importance(int64_t j) { return j % 8 ? 0.01f : 4; }

static lq_imatrix *make_imatrix(const lq_model *m) {
    lq_imatrix *im = NULL;
    ck_ok(lq_imatrix_new(&im, "a test", 1));
    for (int i = 0; i < m->n_weights; i++) {
        const lq_weight *w = &m->weight[i];
        lq_imatrix_entry *entry;
        if (!lq_weight_is_linear(w)) continue;
        ck_ok(lq_imatrix_add(&entry, im, w->name, w->cols, 1));
        entry->count[0] = 1;
        for (int64_t j = 0; j < w->cols; j++) entry->sum[j] = importance(j);
    }
    ck_ok(lq_imatrix_finish(im));
    return im;
}

/* |(W - Q(W) - s B A) diag(c)|^2 of the first adapted matrix; with `adapter` false without it. */
static double error_of(const lq_adapter *a, bool adapter, bool weighted) {
    const lq_adapted *item = &a->item[0];
    const lq_weight *w = &a->model->weight[item->weight];
    const lq_patch *p = &a->patch[item->weight];
    float row[COLS], rounded[COLS];
    double sum = 0;
    ck_assert_int_eq(w->cols, COLS);
    for (int64_t i = 0; i < w->rows; i++) {
        w->fmt->dequant((const char *)w->data + lq_format_bytes(w->fmt, i * COLS), row, COLS);
        p->fmt->dequant((const char *)p->data + lq_format_bytes(p->fmt, i * COLS), rounded, COLS);
        for (int64_t j = 0; j < COLS; j++) {
            double e = (double)row[j] - (double)rounded[j];
            for (int r = 0; adapter && r < item->rank; r++)
                e -= (double)item->scale * (double)p->b[i * item->rank + r] *
                     (double)p->a[r * COLS + j];
            sum += e * e * (weighted ? (double)importance(j) : 1);
        }
    }
    return sum;
}

static lq_adapter *corrected(const lq_model *m, const char *init, const lq_imatrix *im) {
    lq_adapter_options o = fixture_options(LQ_QAT_SEPARATE, &lq_q4_0);
    lq_mix_request types = *o.types;
    lq_adapter *a = NULL;
    types.imatrix = im;
    o.types = &types;
    o.init = init;
    o.r = 8;
    ck_ok(lq_adapter_new(&a, m, &o, false));
    return a;
}

START_TEST(correction_of_the_base) {
    lq_model *m = fixture_model(FIXTURE_UNTIED);
    lq_imatrix *im = make_imatrix(m);
    lq_adapter *plain = corrected(m, "default", im), *loftq = corrected(m, "loftq", im),
               *qera = corrected(m, "qera", im);
    const double before = error_of(plain, true, false), weighted = error_of(plain, true, true);
    ck_assert_double_eq(before, error_of(loftq, false, false)); /* Q(W) is the same */
    ck_assert_mem_eq(plain->packed, qera->packed, plain->packed_bytes);
    const double of_loftq = error_of(loftq, true, false);
    const double weighted_qera = error_of(qera, true, true);
    ck_assert_msg(of_loftq < 0.8 * before, "%g to %g", before, of_loftq);
    ck_assert_msg(weighted_qera < 0.3 * weighted, "%g to %g", weighted, weighted_qera);
    ck_assert_double_lt(weighted_qera, error_of(loftq, true, true));
    ck_assert_double_lt(of_loftq, error_of(qera, true, false));
    lq_adapter_free(plain);
    lq_adapter_free(loftq);
    lq_adapter_free(qera);
    lq_imatrix_free(im);
    lq_model_close(m);
}
END_TEST

/* A weight that quantization leaves as it is has nothing to correct and still can learn. */
START_TEST(exact_weights_keep_their_start) {
    lq_model *m = fixture_model(FIXTURE_UNTIED);
    lq_adapter_options o = fixture_options(LQ_QAT_SEPARATE, &lq_f32);
    lq_adapter *plain = NULL, *loftq = NULL;
    ck_ok(lq_adapter_new(&plain, m, &o, false));
    o.init = "loftq";
    ck_ok(lq_adapter_new(&loftq, m, &o, false));
    const lq_adapted *item = &plain->item[0];
    ck_assert_mem_eq(plain->param + item->a, loftq->param + item->a,
                     (size_t)(item->rank * COLS) * sizeof(float));
    lq_adapter_free(plain);
    lq_adapter_free(loftq);
    lq_model_close(m);
}
END_TEST

static lq_status start_corrected(void *ctx) {
    static const char *const only_q[] = {"blk.1.attn_q", NULL};
    lq_adapter_options o = fixture_options(LQ_QAT_SEPARATE, &lq_q4_0);
    lq_adapter *a = NULL;
    o.init = "loftq";
    o.targets = only_q;
    const lq_status status = lq_adapter_new(&a, ctx, &o, false);
    lq_adapter_free(a);
    return status;
}

START_TEST(allocation_failures) {
    lq_model *m = fixture_model(FIXTURE_TIED);
    test_alloc_failures(start_corrected, m);
    lq_model_close(m);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("lowrank");
    TCase *tc = tcase_create("lowrank");
    tcase_add_loop_test(tc, nearly_the_best, 0, LQ_ARRAY_LEN(shapes));
    tcase_add_test(tc, factors_share_the_singular_values);
    tcase_add_test(tc, not_a_number_is_refused);
    tcase_add_test(tc, correction_of_the_base);
    tcase_add_test(tc, exact_weights_keep_their_start);
    tcase_add_test(tc, allocation_failures);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
