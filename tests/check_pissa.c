/* init_lora_weights: pissa: what is taken is PEFT's (conformance/pissa_values.py); effective
 * weights of all modes against a naive loop, bit for bit; what files say beside the whole base;
 * refusals. */
#include "adapter_fixture.h"
#include "export.h"
#include "export_peft.h"
#include "lowrank.h"
#include "test_util.h"

#include "reference/pissa_values.h"

#include <math.h>
#include <string.h>

static const lq_lineage lineage = {.version = "0"};

static lq_adapter_options options(lq_qat_mode mode) {
    lq_adapter_options o = fixture_options(mode, &lq_q4_0);
    o.init = "pissa";
    return o;
}

static lq_adapter *started(const lq_model *m, lq_qat_mode mode) {
    const lq_adapter_options o = options(mode);
    lq_adapter *a = NULL;
    ck_ok(lq_adapter_new(&a, m, &o, false));
    return a;
}

/* With numbers whose products are exact, so that naive loops give the same bits. */
static lq_adapter *filled(const lq_model *m, lq_qat_mode mode) {
    lq_adapter *a = started(m, mode);
    float *taken = lq_alloc_array(a->n_params, sizeof *taken);
    fixture_fill(a);
    for (int64_t i = 0; i < a->n_params; i++) taken[i] = a->param[a->n_params - 1 - i];
    ck_ok(lq_adapter_take(a, taken));
    lq_free(taken);
    ck_ok(lq_adapter_rebuild(a));
    return a;
}

static double product(const lq_patch *p, const float *b, const float *a, int64_t cols, int64_t row,
                      int64_t col) {
    double sum = 0;
    for (int r = 0; r < p->rank; r++)
        sum += (double)b[row * p->rank + r] * (double)a[r * cols + col];
    return (double)p->scale * sum;
}

/* ---- the start ------------------------------------------------------------------------------- */

START_TEST(takes_what_peft_takes) {
    enum { ROWS = 13, COLS = 9, R = 3 };
    float w[ROWS * COLS], u[ROWS * R], v[R * COLS], got[ROWS * COLS];
    for (int i = 0; i < ROWS * COLS; i++) w[i] = (float)sin(0.37 * i * i + 0.2);
    ck_ok(lq_lowrank(u, v, w, ROWS, COLS, R, 16, 1));
    for (int i = 0; i < ROWS * COLS; i++) {
        double sum = 0;
        for (int r = 0; r < R; r++)
            sum += (double)u[i / COLS * R + r] * (double)v[r * COLS + i % COLS];
        got[i] = (float)sum;
    }
    test_close("s B A", got, peft_taken, ROWS * COLS, 1e-5, 1e-5);
}
END_TEST

/* The largest part of a decomposition has nothing in common with what is left: B^T rest = 0. */
START_TEST(rest_is_orthogonal) {
    lq_model *m = fixture_model(FIXTURE_UNTIED);
    lq_adapter *a = started(m, LQ_QAT_NONE);
    ck_assert_mem_eq(a->param, a->taken, (size_t)a->n_params * sizeof *a->param);
    for (int i = 0; i < a->n_items; i++) {
        const lq_weight *w = &m->weight[a->item[i].weight];
        const lq_patch *p = &a->patch[a->item[i].weight];
        float *x = lq_alloc_array(w->rows * w->cols, sizeof *x);
        w->fmt->dequant(w->data, x, w->rows * w->cols);
        for (int64_t j = 0; j < w->cols; j++)
            for (int r = 0; r < p->rank; r++) {
                double dot = 0;
                for (int64_t o = 0; o < w->rows; o++)
                    dot += (double)p->b[o * p->rank + r] *
                           ((double)x[o * w->cols + j] - product(p, p->b, p->a, w->cols, o, j));
                ck_assert_double_eq_tol(dot, 0, 2e-5);
            }
        lq_free(x);
    }
    lq_adapter_free(a);
    lq_model_close(m);
}
END_TEST

/* Nothing changes at first but for rounding. */
START_TEST(starts_as_the_base) {
    lq_model *m = fixture_model(FIXTURE_UNTIED);
    lq_adapter *a = started(m, LQ_QAT_NONE);
    const int i = a->item[0].weight;
    const int64_t n = m->weight[i].rows * m->weight[i].cols;
    ck_ok(lq_export_merged(a, test_path("start.gguf"), fixture_types(&lq_f32), &lineage));
    lq_gguf *g = fixture_gguf(test_path("start.gguf"));
    const lq_gguf_tensor *t = lq_gguf_find_tensor(g, m->weight[i].name);
    float *want = lq_alloc_array(n, sizeof *want);
    m->weight[i].fmt->dequant(m->weight[i].data, want, n);
    test_close("W", t->data, want, n, 1e-6, 1e-6);
    lq_free(want);
    lq_gguf_close(g);
    lq_adapter_free(a);
    lq_model_close(m);
}
END_TEST

/* ---- effective weights ----------------------------------------------------------------------- */

/* Q(W - s B0 A0), plus s B A if `with_adapter`, by naive loops that round as merge.c does. */
static void *naive(const lq_adapter *a, int i, const lq_format *fmt, bool with_adapter) {
    const lq_weight *w = &a->model->weight[i];
    const lq_patch *p = &a->patch[i];
    const int64_t n = w->rows * w->cols;
    float *x = lq_alloc_array(n, sizeof *x);
    void *out = lq_alloc(lq_format_bytes(fmt, n));
    w->fmt->dequant(w->data, x, n);
    for (int64_t k = 0; k < n; k++) {
        const int64_t row = k / w->cols, col = k % w->cols;
        x[k] = (float)((double)x[k] - product(p, p->b0, p->a0, w->cols, row, col));
        if (with_adapter)
            x[k] = (float)((double)x[k] + product(p, p->b, p->a, w->cols, row, col));
    }
    fmt->quant(x, out, n, NULL);
    lq_free(x);
    return out;
}

START_TEST(effective_weights_are_the_naive_ones) {
    lq_model *m = fixture_model(FIXTURE_UNTIED);
    lq_adapter *a = filled(m, _i ? LQ_QAT_MERGED : LQ_QAT_SEPARATE);
    for (int i = 0; i < a->n_items; i++) {
        const lq_weight *w = &m->weight[a->item[i].weight];
        const lq_patch *p = &a->patch[a->item[i].weight];
        void *want = naive(a, a->item[i].weight, p->fmt, _i == 1);
        ck_assert_msg(memcmp(p->data, want, lq_format_bytes(p->fmt, w->rows * w->cols)) == 0, "%s",
                      w->name);
        lq_free(want);
    }
    lq_adapter_free(a);
    lq_model_close(m);
}
END_TEST

START_TEST(plain_is_exported_whole) {
    lq_model *m = fixture_model(FIXTURE_UNTIED);
    lq_adapter *a = filled(m, LQ_QAT_NONE);
    ck_ok(lq_export_merged(a, test_path("whole.gguf"), fixture_types(&lq_q4_0), &lineage));
    lq_gguf *g = fixture_gguf(test_path("whole.gguf"));
    for (int i = 0; i < a->n_items; i++) {
        const lq_weight *w = &m->weight[a->item[i].weight];
        const lq_gguf_tensor *t = lq_gguf_find_tensor(g, w->name);
        void *want = naive(a, a->item[i].weight, t->fmt, true);
        ck_assert_mem_eq(t->data, want, t->bytes);
        lq_free(want);
    }
    lq_gguf_close(g);
    lq_adapter_free(a);
    lq_model_close(m);
}
END_TEST

/* ---- adapter files --------------------------------------------------------------------------- */

/* Beside the whole base: s (B A - B0 A0), of twice the rank. */
START_TEST(adapter_file_fits_the_base) {
    lq_model *m = fixture_model(FIXTURE_UNTIED);
    lq_adapter *a = filled(m, LQ_QAT_NONE), *read = NULL;
    const lq_lora_file file = {test_path("difference.gguf"), 1};
    ck_ok(lq_export_lora(a, file.path, &lq_f32, &lineage));
    ck_ok(lq_adapter_load(&read, m, &file, 1));
    ck_assert_int_eq(read->n_items, a->n_items);
    for (int i = 0; i < a->n_items; i++) {
        const lq_weight *w = &m->weight[a->item[i].weight];
        const lq_patch *p = &a->patch[a->item[i].weight], *q = &read->patch[a->item[i].weight];
        ck_assert_int_eq(q->rank, 2 * p->rank);
        for (int64_t k = 0; k < w->rows * w->cols; k++) {
            const int64_t row = k / w->cols, col = k % w->cols;
            const double want = product(p, p->b, p->a, w->cols, row, col) -
                                product(p, p->b0, p->a0, w->cols, row, col);
            ck_assert_double_eq_tol(product(q, q->b, q->a, w->cols, row, col), want, 1e-5);
        }
    }
    lq_adapter_free(read);
    lq_adapter_free(a);
    lq_model_close(m);
}
END_TEST

/* Separate: its base is exported, too, and lacks what was taken. */
START_TEST(adapter_beside_its_own_base) {
    lq_model *m = fixture_model(FIXTURE_UNTIED), *base = NULL;
    lq_adapter *a = filled(m, LQ_QAT_SEPARATE), *read = NULL;
    const lq_lora_file file = {test_path("own.gguf"), 1};
    ck_ok(lq_export_lora(a, file.path, &lq_f32, &lineage));
    ck_ok(lq_export_base(a, test_path("base.gguf"), NULL, &lineage));
    ck_ok(lq_model_open(&base, test_path("base.gguf"), true));
    ck_ok(lq_adapter_load(&read, base, &file, 1));
    const int i = a->item[0].weight;
    ck_assert_int_eq(read->patch[i].rank, a->patch[i].rank);
    ck_assert_mem_eq(base->weight[i].data, a->patch[i].data,
                     lq_format_bytes(a->patch[i].fmt, base->weight[i].rows * base->weight[i].cols));
    lq_adapter_free(read);
    lq_model_close(base);
    ck_fails(lq_export_peft(a, test_path("peft"), &lq_f32, "base"), LQ_EUNSUPPORTED,
             "the adapter fits only the exported base");
    lq_adapter_free(a);
    lq_model_close(m);
}
END_TEST

/* ---- refusals and failures ------------------------------------------------------------------- */

START_TEST(refused) {
    lq_model *m = fixture_model(FIXTURE_UNTIED);
    lq_adapter_options o = options(LQ_QAT_NONE);
    lq_adapter *a = NULL;
    o.use_dora = true;
    ck_fails(lq_adapter_new(&a, m, &o, false), LQ_EUNSUPPORTED, "not possible with use_dora");
    a = started(m, LQ_QAT_NONE);
    ck_fails(lq_adapter_init_from(a, "some.gguf"), LQ_ECONFIG, "a start of its own");
    lq_adapter_free(a);
    lq_model_close(m);
}
END_TEST

static lq_status whole_life(void *ctx) {
    static const char *const targets[] = {"blk.1.attn_q", NULL};
    for (int mode = 0; mode < 3; mode++) {
        lq_adapter_options o = options((lq_qat_mode)mode);
        lq_adapter *a = NULL;
        o.targets = targets;
        lq_status status = lq_adapter_new(&a, ctx, &o, false);
        if (status == LQ_OK) status = lq_adapter_take(a, a->param);
        if (status == LQ_OK && mode != LQ_QAT_MERGED)
            status = lq_export_lora(a, test_path("life.gguf"), &lq_f32, &lineage);
        lq_adapter_free(a);
        LQ_TRY(status);
    }
    return LQ_OK;
}

START_TEST(allocation_failures) {
    lq_model *m = fixture_model(FIXTURE_TIED);
    test_alloc_failures(whole_life, m);
    lq_model_close(m);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("pissa");
    TCase *tc = tcase_create("pissa");
    tcase_add_test(tc, takes_what_peft_takes);
    tcase_add_test(tc, rest_is_orthogonal);
    tcase_add_test(tc, starts_as_the_base);
    tcase_add_loop_test(tc, effective_weights_are_the_naive_ones, 0, 2);
    tcase_add_test(tc, plain_is_exported_whole);
    tcase_add_test(tc, adapter_file_fits_the_base);
    tcase_add_test(tc, adapter_beside_its_own_base);
    tcase_add_test(tc, refused);
    tcase_add_test(tc, allocation_failures);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
