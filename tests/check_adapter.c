/* Layout, initialisation, effective weights of both QAT modes, full, planning, and every refusal.
 */
#include "adapter.h"

#include "adapter_fixture.h"
#include "test_util.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static int find(const lq_model *m, const char *name) {
    const int i = lq_model_find_name(m, name);
    ck_assert_msg(i >= 0, "the fixture has no %s", name);
    return i;
}

static const lq_adapted *item_of(const lq_adapter *a, const char *name) {
    const int i = find(a->model, name);
    for (int k = 0; k < a->n_items; k++)
        if (a->item[k].weight == i) return &a->item[k];
    return NULL;
}

/* ---- layout ---------------------------------------------------------------------------------- */

START_TEST(layout) {
    lq_model *m = fixture_model(FIXTURE_UNTIED);
    lq_adapter_options o = fixture_options(LQ_QAT_NONE, NULL);
    const lq_pattern ranks[] = {{"q_proj", 2}}, alphas[] = {{"blk.1.*", 6}};
    lq_adapter *a = NULL;
    o.rank_pattern = ranks;
    o.alpha_pattern = alphas;
    o.n_rank_pattern = o.n_alpha_pattern = 1;
    ck_ok(lq_adapter_new(&a, m, &o, false));
    ck_ok(lq_adapter_train(a));
    int64_t at = 0;
    for (int i = 0; i < a->n_items; i++) {
        ck_assert_int_eq(a->item[i].a, at);
        at += a->item[i].rank * m->weight[a->item[i].weight].cols;
    }
    for (int i = 0; i < a->n_items; i++) {
        const lq_adapted *item = &a->item[i];
        const lq_patch *p = &a->patch[item->weight];
        ck_assert_int_eq(item->b, at);
        at += item->rank * m->weight[item->weight].rows;
        ck_assert(p->a == a->param + item->a && p->b == a->param + item->b && !p->fmt &&
                  !p->merged);
        ck_assert(p->da == a->grad + item->a && p->db == a->grad + item->b &&
                  p->rank == item->rank);
    }
    ck_assert_int_eq(at, a->n_params);
    ck_assert_int_eq(item_of(a, "blk.0.attn_q.weight")->rank, 2);
    ck_assert_float_eq(item_of(a, "blk.0.attn_q.weight")->scale, 4);   /* 8 / 2 */
    ck_assert_float_eq(item_of(a, "blk.1.attn_q.weight")->scale, 3);   /* 6 / 2 */
    ck_assert_float_eq(item_of(a, "blk.1.attn_k.weight")->scale, 1.5f);
    ck_assert_ptr_null(item_of(a, "output.weight"));
    lq_adapter_free(a);
    o.use_rslora = true;
    ck_ok(lq_adapter_new(&a, m, &o, false));
    ck_assert_float_eq(item_of(a, "blk.0.attn_k.weight")->scale, 4);   /* 8 / sqrt(4) */
    lq_adapter_free(a);
    lq_model_close(m);
}
END_TEST

/* ---- initialisation -------------------------------------------------------------------------- */

START_TEST(initial_values) {
    static const char *const names[] = {"default", "gaussian"};
    lq_model *m = fixture_model(FIXTURE_UNTIED);
    lq_adapter_options o = fixture_options(LQ_QAT_NONE, NULL);
    lq_adapter *a = NULL;
    o.init = names[_i];
    o.r = 16;
    ck_ok(lq_adapter_new(&a, m, &o, false));
    const lq_adapted *item = item_of(a, "blk.0.ffn_up.weight");
    const int64_t n = item->rank * 64;
    const double deviation = _i == 0 ? 1 / sqrt(64) / sqrt(3) : 1.0 / 16,
                 bound = _i == 0 ? 0.125 : 1;
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) {
        const double x = (double)a->param[item->a + i];
        ck_assert(fabs(x) <= bound);
        sum += x;
        squares += x * x;
    }
    ck_assert_double_eq_tol(sum / (double)n, 0, 4 * deviation / sqrt((double)n));
    ck_assert_double_eq_tol(sqrt(squares / (double)n), deviation, 0.1 * deviation);
    for (int i = 0; i < a->n_items; i++)
        for (int64_t j = 0; j < a->item[i].rank * m->weight[a->item[i].weight].rows; j++)
            ck_assert_float_eq(a->param[a->item[i].b + j], 0);
    lq_adapter_free(a);
    lq_model_close(m);
}
END_TEST

/* The values of one weight depend on seed and name only, not on what else is adapted. */
START_TEST(initial_values_are_keyed) {
    static const char *const only_q[] = {"blk.1.attn_q", NULL};
    const char *const name = "blk.1.attn_q.weight";
    lq_model *m = fixture_model(FIXTURE_UNTIED);
    lq_adapter_options o = fixture_options(LQ_QAT_NONE, NULL);
    lq_adapter *all = NULL, *one = NULL, *other = NULL;
    ck_ok(lq_adapter_new(&all, m, &o, false));
    o.targets = only_q;
    ck_ok(lq_adapter_new(&one, m, &o, false));
    o.seed++;
    ck_ok(lq_adapter_new(&other, m, &o, false));
    const float *x = all->param + item_of(all, name)->a, *y = one->param + item_of(one, name)->a;
    const float *sibling = all->param + item_of(all, "blk.0.attn_q.weight")->a;
    ck_assert_mem_eq(x, y, 4 * 64 * sizeof *x);
    ck_assert_mem_ne(x, other->param, 4 * 64 * sizeof *x);
    ck_assert_mem_ne(x, sibling, 4 * 64 * sizeof *x);
    lq_adapter_free(all);
    lq_adapter_free(one);
    lq_adapter_free(other);
    lq_model_close(m);
}
END_TEST

/* ---- effective weights ----------------------------------------------------------------------- */

/* What format each weight has in the file to come: all of llama-quantize's cases that the fixture
 * has. */
static const lq_format *planned(const lq_weight *w, const lq_format *linear) {
    if (w->rows == 1 || w->is_bias) return w->fmt;
    if (w->role == LQ_ROLE_TOKEN_EMBD || w->role == LQ_ROLE_OUTPUT) return &lq_q8_0;
    return w->cols % linear->block ? &lq_f16 : linear;
}

static void check_effective(const lq_adapter *a, const lq_format *linear) {
    for (int i = 0; i < a->model->n_weights; i++) {
        const lq_weight *w = &a->model->weight[i];
        const lq_patch *p = &a->patch[i];
        const lq_format *want = planned(w, linear);
        ck_assert_msg((p->fmt ? p->fmt : w->fmt) == want, "%s is %s, wanted %s", w->name,
                      (p->fmt ? p->fmt : w->fmt)->name, want->name);
        if (!p->fmt) continue;
        void *bytes = fixture_effective(a, i, want, p->merged);
        ck_assert_msg(memcmp(bytes, p->data, lq_format_bytes(want, w->rows * w->cols)) == 0, "%s",
                      w->name);
        lq_free(bytes);
    }
}

static const struct { fixture_kind kind; lq_qat_mode mode; const lq_format *linear; } qat[] = {
    {FIXTURE_UNTIED, LQ_QAT_MERGED, &lq_q4_0},   {FIXTURE_TIED, LQ_QAT_MERGED, &lq_q8_0},
    {FIXTURE_F16, LQ_QAT_MERGED, &lq_q4_0},      {FIXTURE_UNTIED, LQ_QAT_SEPARATE, &lq_q4_0},
    {FIXTURE_TIED, LQ_QAT_SEPARATE, &lq_q8_0},   {FIXTURE_F16, LQ_QAT_SEPARATE, &lq_q4_0},
};

START_TEST(effective_weights) {
    lq_model *m = fixture_model(qat[_i].kind);
    lq_adapter_options o = fixture_options(qat[_i].mode, qat[_i].linear);
    const int layers[] = {1}; /* layer 0 is not adapted, but quantized all the same */
    lq_adapter *a = NULL;
    o.layers = layers;
    o.n_layers = 1;
    ck_ok(lq_adapter_new(&a, m, &o, false));
    check_effective(a, qat[_i].linear);
    fixture_fill(a);
    ck_ok(lq_adapter_rebuild(a));
    check_effective(a, qat[_i].linear);
    const lq_patch *p = &a->patch[find(m, "blk.1.attn_q.weight")];
    ck_assert(p->merged == (qat[_i].mode == LQ_QAT_MERGED) && p->rank == 4);
    ck_assert(!a->patch[find(m, "blk.0.attn_q.weight")].merged);
    lq_adapter_free(a);
    lq_model_close(m);
}
END_TEST

/* Without QAT nothing is copied and rebuild has nothing to do. */
START_TEST(plain) {
    lq_model *m = fixture_model(FIXTURE_F16);
    const lq_adapter_options o = fixture_options(LQ_QAT_NONE, NULL);
    lq_adapter *a = NULL;
    ck_ok(lq_adapter_new(&a, m, &o, false));
    for (int i = 0; i < m->n_weights; i++) ck_assert(!a->patch[i].fmt && !a->patch[i].data);
    ck_assert_int_eq(lq_adapter_packed_bytes(a), 0);
    ck_ok(lq_adapter_rebuild(a));
    lq_adapter_free(a);
    lq_model_close(m);
}
END_TEST

START_TEST(full) {
    lq_model *m = fixture_model(_i == 0 ? FIXTURE_TIED : FIXTURE_F16);
    const lq_adapter_options o = {.full = true};
    lq_adapter *a = NULL;
    int64_t n = 0;
    ck_ok(lq_adapter_new(&a, m, &o, false));
    ck_ok(lq_adapter_train(a));
    for (int i = 0; i < a->n_items; i++) {
        const lq_weight *w = &m->weight[a->item[i].weight];
        const lq_patch *p = &a->patch[a->item[i].weight];
        float *want = lq_alloc_array(w->rows * w->cols, sizeof *want);
        w->fmt->dequant(w->data, want, w->rows * w->cols);
        ck_assert(p->full && p->w == a->param + n && p->dw == a->grad + n && p->rank == 0);
        ck_assert_mem_eq(p->w, want, (size_t)(w->rows * w->cols) * sizeof *want);
        n += w->rows * w->cols;
        lq_free(want);
    }
    int64_t trainable = 0; /* all but the fixed factors of the rotary embedding */
    for (int i = 0; i < m->n_weights; i++)
        if (!lq_weight_is_constant(&m->weight[i]))
            trainable += m->weight[i].rows * m->weight[i].cols;
    ck_assert_int_eq(a->n_params, n);
    ck_assert_int_eq(n, trainable);
    lq_adapter_free(a);
    lq_model_close(m);
}
END_TEST

/* A plan knows all sizes and has no effective weights. */
START_TEST(plan_only) {
    lq_model *m = fixture_model(FIXTURE_UNTIED);
    const lq_adapter_options o = fixture_options(qat[_i].mode, qat[_i].linear);
    lq_adapter *real = NULL, *plan = NULL;
    ck_ok(lq_adapter_new(&real, m, &o, false));
    ck_ok(lq_adapter_new(&plan, m, &o, true));
    ck_ok(lq_adapter_train(plan));
    ck_assert_int_eq(plan->n_params, real->n_params);
    ck_assert_int_eq(lq_adapter_packed_bytes(plan), lq_adapter_packed_bytes(real));
    ck_assert_ptr_null(plan->packed);
    for (int i = 0; i < m->n_weights; i++) {
        ck_assert_ptr_eq(plan->patch[i].fmt, real->patch[i].fmt);
        ck_assert_ptr_null(plan->patch[i].data);
        ck_assert_int_eq(plan->patch[i].rank, real->patch[i].rank);
    }
    lq_adapter_free(real);
    lq_adapter_free(plan);
    lq_model_close(m);
}
END_TEST

/* ---- what it says and refuses ---------------------------------------------------------------- */

static char logged[4096];

static void keep_log(void *ctx, lq_log_level level, const char *line) {
    (void)ctx, (void)level;
    const size_t n = strlen(logged);
    snprintf(logged + n, sizeof logged - n, "%s\n", line);
}

START_TEST(report) {
    lq_model *m = fixture_model(FIXTURE_UNTIED);
    const lq_adapter_options o = fixture_options(LQ_QAT_MERGED, &lq_q4_0);
    lq_adapter *a = NULL;
    lq_set_log(keep_log, NULL);
    ck_ok(lq_adapter_new(&a, m, &o, false));
    lq_set_log(NULL, NULL);
    ck_assert_msg(test_contains(logged, "QAT, merged: "), "%s", logged);
    ck_assert_msg(test_contains(logged, "12 matrices Q4_0"), "%s", logged);
    ck_assert_msg(test_contains(logged, "2 matrices Q8_0"), "%s", logged);
    ck_assert_msg(test_contains(logged, "2 matrices F16 (2 of them: no block divides their rows)"),
                  "%s", logged);
    lq_adapter_free(a);
    lq_model_close(m);
}
END_TEST

static const lq_mix_request q4_0_types = {.mix = lq_mixes};
static const struct { lq_adapter_options o; lq_status status; const char *message; } refusals[] = {
    {{.full = true, .mode = LQ_QAT_MERGED, .types = &q4_0_types}, LQ_EUNSUPPORTED,
     "adapter: full cannot be combined with qat"},
    {{.r = 0, .alpha = 8}, LQ_ECONFIG, "lora_r is 0"},
    {{.r = 4}, LQ_ECONFIG, "lora_alpha is 0"},
    {{.r = 4, .alpha = NAN}, LQ_ECONFIG, "lora_alpha is nan"},
    {{.r = 4, .alpha = 8, .dropout = 1}, LQ_ECONFIG, "lora_dropout is 1"},
    {{.r = 4, .alpha = 8, .dropout = 0.1f, .mode = LQ_QAT_MERGED, .types = &q4_0_types},
     LQ_ECONFIG, "no separate A path"},
    {{.scales = true}, LQ_EUNSUPPORTED, "adapter: scales: blk.0.attn_q.weight is F32, wanted Q4_0"},
    {{.scales = true, .mode = LQ_QAT_MERGED, .types = &q4_0_types}, LQ_EUNSUPPORTED,
     "adapter: scales cannot be combined with qat"},
    {{.r = 4, .alpha = 8, .init = "olora"}, LQ_ECONFIG, "init_lora_weights is 'olora'"},
    {{.r = 4, .alpha = 8, .init = "loftq"}, LQ_ECONFIG,
     "init_lora_weights: loftq corrects a quantized base"},
    {{.r = 4, .alpha = 8, .init = "qera", .mode = LQ_QAT_MERGED, .types = &q4_0_types}, LQ_ECONFIG,
     "init_lora_weights: qera corrects a quantized base"},
    {{.r = 4, .alpha = 8, .init = "qera", .mode = LQ_QAT_SEPARATE, .types = &q4_0_types},
     LQ_ECONFIG, "it needs qat.imatrix"},
    {{.r = 4, .alpha = 8, .mode = LQ_QAT_SEPARATE}, LQ_ECONFIG, "qat.weight_dtype is missing"},
    {{.r = 4, .alpha = 8, .rank_pattern = (lq_pattern[]){{"q_proj", 2.5}}, .n_rank_pattern = 1},
     LQ_ECONFIG, "lora_rank_pattern: 2.5 for blk.0.attn_q.weight, wanted a positive whole number"},
    {{.r = 4, .alpha = 8, .alpha_pattern = (lq_pattern[]){{"q_proj", -1}}, .n_alpha_pattern = 1},
     LQ_ECONFIG, "lora_alpha_pattern: -1"},
};

START_TEST(refuses) {
    lq_model *m = fixture_model(FIXTURE_TIED);
    lq_adapter *a = NULL;
    ck_fails(lq_adapter_new(&a, m, &refusals[_i].o, false), refusals[_i].status,
             refusals[_i].message);
    ck_assert_ptr_null(a);
    lq_model_close(m);
}
END_TEST

START_TEST(nan_in_the_span) {
    lq_model *m = fixture_model(FIXTURE_TIED);
    const lq_adapter_options o = fixture_options(LQ_QAT_MERGED, &lq_q4_0);
    lq_adapter *a = NULL;
    ck_ok(lq_adapter_new(&a, m, &o, false));
    a->param[item_of(a, "blk.1.ffn_gate.weight")->b + 3] = NAN;
    ck_fails(lq_adapter_rebuild(a), LQ_ENONFINITE, "blk.1.ffn_gate.weight");
    a->param[item_of(a, "blk.1.ffn_gate.weight")->b + 3] = 0;
    ck_ok(lq_adapter_rebuild(a));
    lq_adapter_free(a);
    lq_model_close(m);
}
END_TEST

static lq_status whole_life(void *ctx) {
    const lq_model *m = ctx;
    static const char *const targets[] = {"q_proj", "ffn_*", NULL}, *const exclude[] = {"up_proj",
                                                                                        NULL};
    static const int layers[] = {0};
    lq_adapter_options o = fixture_options(LQ_QAT_MERGED, &lq_q4_0);
    lq_adapter *a = NULL;
    o.targets = targets;
    o.exclude = exclude;
    o.layers = layers;
    o.n_layers = 1;
    o.rank_pattern = o.alpha_pattern = (lq_pattern[]){{"q_proj", 3}};
    o.n_rank_pattern = o.n_alpha_pattern = 1;
    lq_status status = lq_adapter_new(&a, m, &o, false);
    if (status == LQ_OK) status = lq_adapter_train(a);
    if (status == LQ_OK) status = lq_adapter_rebuild(a);
    lq_adapter_free(a);
    return status;
}

START_TEST(allocation_failures) {
    lq_model *m = fixture_model(FIXTURE_TIED);
    test_alloc_failures(whole_life, m);
    lq_model_close(m);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("adapter");
    TCase *tc = tcase_create("adapter");
    tcase_add_test(tc, layout);
    tcase_add_loop_test(tc, initial_values, 0, 2);
    tcase_add_test(tc, initial_values_are_keyed);
    tcase_add_loop_test(tc, effective_weights, 0, LQ_ARRAY_LEN(qat));
    tcase_add_test(tc, plain);
    tcase_add_loop_test(tc, full, 0, 2);
    tcase_add_loop_test(tc, plan_only, 0, LQ_ARRAY_LEN(qat));
    tcase_add_test(tc, report);
    tcase_add_loop_test(tc, refuses, 0, LQ_ARRAY_LEN(refusals));
    tcase_add_test(tc, nan_in_the_span);
    tcase_add_test(tc, allocation_failures);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
