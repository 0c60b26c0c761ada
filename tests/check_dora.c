/* DoRA: one layer against PEFT's numbers (conformance/dora_values.py); effective weights against a
 * naive loop, bit for bit; what it starts as; what it is refused for. */
#include "adapter_fixture.h"
#include "export.h"
#include "merge.h"
#include "node_util.h"
#include "test_util.h"

#include "reference/dora_values.h"

#include <math.h>
#include <string.h>

/* ---- one layer, as PEFT computes it ---------------------------------------------------------- */

enum { N = 3, D = 8, O = 5, R = 2 };
static const float scale = 1.5f;

static void wave(float *out, int n, double start) {
    for (int i = 0; i < n; i++) out[i] = (float)(1.5 * sin(0.7 * i + start));
}

enum { X, W, BIAS, A, B, ROUNDED, M, NORM };   /* inputs of lora_linear */

static const struct { int in; lq_kind kind; int rows, cols; bool trained; double start;
} inputs[] = {
    {X, LQ_ACTIVATION, N, D, true, 0.1}, {W, LQ_WEIGHT, O, D, false, 0.2},
    {BIAS, LQ_WEIGHT, O, 0, false, 0.3}, {A, LQ_PARAM, R, D, true, 0.4},
    {B, LQ_PARAM, O, R, true, 0.5},      {M, LQ_PARAM, O, 0, true, 0.6},
    {NORM, LQ_WEIGHT, O, 0, false, 0},
};

/* The norms; `merged` also puts the merged weight in W's place. */
static void merge_weight(test_node *t, bool merged) {
    float out[O * D];
    lq_tensor *const *in = t->node.in;
    const lq_merge_job job = {
        .name = "w", .fmt = &lq_f32, .data = in[W]->data, .rows = O, .cols = D, .n_mats = 1,
        .rank = R, .scale = scale, .a = lq_data_f32(in[A]), .b = lq_data_f32(in[B]),
        .m = lq_data_f32(in[M]), .norm = in[NORM]->data, .out_fmt = &lq_f32,
        .out = merged ? out : NULL};
    lq_merge *merge = NULL;
    ck_ok(lq_merge_new(&merge, 1));
    lq_merge_add(merge, job);
    ck_ok(lq_merge_prepare(merge));
    ck_ok(lq_merge_run(merge));
    lq_merge_free(merge);
    if (merged) memcpy(in[W]->data, out, sizeof out);
}

/* Merged without rounding, the straight-through gradients are the true ones. */
START_TEST(a_layer_is_pefts) {
    const lq_lora_attr attr = {.scale = scale, .merged = _i == 1};
    const lq_run run = {.training = true};
    test_node t = {.n_tensors = 0};
    for (int i = 0; i < LQ_ARRAY_LEN(inputs); i++) {
        const int rows = inputs[i].rows, cols = inputs[i].cols;
        lq_tensor *x = test_node_input(&t, inputs[i].in, inputs[i].kind, rows, cols,
                                       inputs[i].trained);
        wave(x->data, cols ? rows * cols : rows, inputs[i].start);
    }
    merge_weight(&t, attr.merged);
    test_node_ready(&t, &lq_op_lora_linear, &attr);
    wave(t.node.out->grad->data, N * O, 0.7);
    test_node_forward(&t, &run);
    test_node_backward(&t, &run);
    test_close("out", lq_data_f32(t.node.out), peft_out, N * O, 1e-5, 1e-5);
    test_close("dx", lq_grad_f32(t.node.in[X]), peft_dx, N * D, 1e-5, 1e-5);
    test_close("dA", lq_grad_f32(t.node.in[A]), peft_da, R * D, 1e-5, 1e-5);
    test_close("dB", lq_grad_f32(t.node.in[B]), peft_db, O * R, 1e-5, 1e-5);
    test_close("dm", lq_grad_f32(t.node.in[M]), peft_dm, O, 1e-5, 1e-5);
    test_node_clear(&t);
}
END_TEST

static const struct { const lq_lora_attr attr; bool no_norm; const char *message; } bad[] = {
    {{.scale = 1}, true, "wanted a magnitude and a norm for each of 5 rows"},
    {{.scale = 1, .dropout = 0.5f}, false, "neither with dropout nor with clipping"},
};

START_TEST(bad_layers) {
    test_node t = {.n_tensors = 0};
    for (int i = 0; i < LQ_ARRAY_LEN(inputs); i++)
        test_node_input(&t, inputs[i].in, inputs[i].kind, inputs[i].rows, inputs[i].cols, false);
    if (bad[_i].no_norm) t.node.in[NORM] = NULL;
    t.node.attr = &bad[_i].attr;
    lq_tensor out = {0}, saved = {0};
    t.node.out = &out;
    t.node.saved = &saved;
    ck_assert_int_ne(lq_op_lora_linear.shape(&t.node), LQ_OK);
    ck_assert_msg(test_contains(lq_error(), bad[_i].message), "%s", lq_error());
    test_node_clear(&t);
}
END_TEST

/* ---- whole adapters -------------------------------------------------------------------------- */

static lq_adapter_options options(lq_qat_mode mode) {
    lq_adapter_options o = fixture_options(mode, &lq_q4_0);
    o.use_dora = true;
    return o;
}

/* Row `row` of W + s B A, in exact numbers, then scaled to its magnitude as merge.c does. */
static void naive_row(float *out, const lq_adapter *a, int weight, int64_t row) {
    const lq_weight *w = &a->model->weight[weight];
    const lq_patch *p = &a->patch[weight];
    double square = 0;
    w->fmt->dequant((const char *)w->data + lq_format_bytes(w->fmt, row * w->cols), out, w->cols);
    for (int64_t j = 0; j < w->cols; j++) {
        double sum = 0;
        for (int r = 0; r < p->rank; r++)
            sum += (double)p->b[row * p->rank + r] * (double)p->a[r * w->cols + j];
        out[j] = (float)((double)out[j] + (double)p->scale * sum);
        square += (double)out[j] * (double)out[j];
    }
    const float norm = (float)sqrt(square);
    ck_assert_float_eq(p->norm[row], norm);
    for (int64_t j = 0; j < w->cols; j++) out[j] *= p->m[row] / norm;
}

START_TEST(merged_weights_are_the_naive_ones) {
    lq_model *m = fixture_model(FIXTURE_UNTIED);
    lq_adapter *a = fixture_filled(m, options(LQ_QAT_MERGED));
    for (int i = 0; i < a->n_items; i++) {
        const int weight = a->item[i].weight;
        const lq_weight *w = &m->weight[weight];
        const lq_patch *p = &a->patch[weight];
        const size_t bytes = lq_format_bytes(p->fmt, w->cols);
        float *row = lq_alloc_array(w->cols, sizeof *row);
        char *want = lq_alloc(bytes);
        for (int64_t r = 0; r < w->rows; r++) {
            naive_row(row, a, weight, r);
            p->fmt->quant(row, want, w->cols, NULL);
            ck_assert_msg(memcmp(want, (const char *)p->data + (size_t)r * bytes, bytes) == 0,
                          "%s, row %lld", w->name, (long long)r);
        }
        lq_free(want);
        lq_free(row);
    }
    lq_adapter_free(a);
    lq_model_close(m);
}
END_TEST

/* At first nothing changes: magnitudes are the rows' own lengths. */
START_TEST(starts_as_the_base) {
    lq_model *m = fixture_model(FIXTURE_UNTIED);
    const lq_adapter_options o = options(_i ? LQ_QAT_MERGED : LQ_QAT_NONE);
    lq_adapter *a = NULL;
    ck_ok(lq_adapter_new(&a, m, &o, false));
    ck_ok(lq_adapter_train(a));
    int64_t magnitudes = 0;
    for (int i = 0; i < a->n_items; i++) {
        const int weight = a->item[i].weight;
        const lq_weight *w = &m->weight[weight];
        const lq_patch *p = &a->patch[weight];
        magnitudes += w->rows;
        ck_assert_ptr_eq(p->dm, a->grad + a->item[i].m);
        ck_assert_mem_eq(p->m, p->norm, (size_t)w->rows * sizeof *p->m);
        if (!_i) continue;
        void *want = fixture_effective(a, weight, p->fmt, false);
        ck_assert_mem_eq(p->data, want, lq_format_bytes(p->fmt, w->rows * w->cols));
        lq_free(want);
    }
    ck_assert_int_eq(a->item[0].m, a->n_params - magnitudes);
    lq_adapter_free(a);
    lq_model_close(m);
}
END_TEST

/* Plain: a rebuild renews the lengths, and no more. */
START_TEST(lengths_follow_the_parameters) {
    lq_model *m = fixture_model(FIXTURE_UNTIED);
    lq_adapter *a = fixture_filled(m, options(LQ_QAT_NONE));
    const int weight = a->item[1].weight;
    float *row = lq_alloc_array(m->weight[weight].cols, sizeof *row);
    for (int64_t r = 0; r < m->weight[weight].rows; r++) naive_row(row, a, weight, r);
    lq_free(row);
    lq_adapter_free(a);
    lq_model_close(m);
}
END_TEST

static const struct { lq_qat_mode mode; float dropout; bool clipped; const char *message;
} refusals[] = {
    {LQ_QAT_SEPARATE, 0, false, "use_dora is not possible with qat.mode separate"},
    {LQ_QAT_NONE, 0.1f, false, "with use_dora base and adapter are scaled together"},
    {LQ_QAT_MERGED, 0, true, "qat.ste: clipped is not possible with use_dora"},
};

START_TEST(refused) {
    lq_model *m = fixture_model(FIXTURE_UNTIED);
    lq_adapter_options o = options(refusals[_i].mode);
    lq_adapter *a = NULL;
    o.dropout = refusals[_i].dropout;
    o.clipped = refusals[_i].clipped;
    ck_assert_int_ne(lq_adapter_new(&a, m, &o, false), LQ_OK);
    ck_assert_msg(test_contains(lq_error(), refusals[_i].message), "%s", lq_error());
    lq_model_close(m);
}
END_TEST

START_TEST(no_adapter_gguf) {
    const lq_lineage lineage = {.version = "0"};
    lq_model *m = fixture_model(FIXTURE_UNTIED);
    lq_adapter *a = fixture_filled(m, options(LQ_QAT_NONE));
    ck_fails(lq_export_lora(a, test_path("no.gguf"), &lq_f32, &lineage), LQ_EUNSUPPORTED,
             "which llama.cpp's --lora does not do");
    lq_adapter_free(a);
    lq_model_close(m);
}
END_TEST

static lq_status whole_life(void *ctx) {
    static const char *const targets[] = {"q_proj", NULL};
    for (int mode = 0; mode < 2; mode++) {
        lq_adapter_options o = options(mode ? LQ_QAT_MERGED : LQ_QAT_NONE);
        o.targets = targets;
        lq_adapter *a = NULL;
        lq_status status = lq_adapter_new(&a, ctx, &o, false);
        if (status == LQ_OK) status = lq_adapter_train(a);
        if (status == LQ_OK) status = lq_adapter_rebuild(a);
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
    Suite *suite = suite_create("dora");
    TCase *tc = tcase_create("dora");
    tcase_add_loop_test(tc, a_layer_is_pefts, 0, 2);
    tcase_add_loop_test(tc, bad_layers, 0, LQ_ARRAY_LEN(bad));
    tcase_add_test(tc, merged_weights_are_the_naive_ones);
    tcase_add_loop_test(tc, starts_as_the_base, 0, 2);
    tcase_add_test(tc, lengths_follow_the_parameters);
    tcase_add_loop_test(tc, refused, 0, LQ_ARRAY_LEN(refusals));
    tcase_add_test(tc, no_adapter_gguf);
    tcase_add_test(tc, allocation_failures);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
