/* Adapter files: written and read back, stacked, as the start of a run; files that do not fit. */
#include "export.h"

#include "adapter_fixture.h"
#include "test_util.h"

#include <math.h>

static const lq_lineage lineage = {.base_path = "/some/where/base.gguf", .version = "0.0-test"};

/* ---- adapters -------------------------------------------------------------------------------- */

/* separate: base and adapter files together are the forward that was trained. */
START_TEST(separate_round_trip) {
    lq_model *m = fixture_model(FIXTURE_UNTIED), *base = NULL;
    lq_adapter *a = fixture_filled(m, fixture_options(LQ_QAT_SEPARATE, &lq_q4_0)), *back = NULL;
    const char *base_path = test_path("base-q4_0.gguf"), *path = test_path("adapter.gguf");
    const lq_lora_file files[] = {{path, 1}};
    ck_ok(lq_export_base(a, base_path, NULL, &lineage));
    ck_ok(lq_export_lora(a, path, &lq_f32, &lineage));
    ck_ok(lq_model_open(&base, base_path, true));
    ck_ok(lq_adapter_load(&back, base, files, 1));
    ck_assert_int_eq(back->n_items, a->n_items);
    for (int i = 0; i < m->n_weights; i++) {
        const lq_patch *p = &a->patch[i], *q = &back->patch[i];
        const lq_weight *w = &base->weight[i];
        ck_assert_ptr_eq(w->fmt, p->fmt ? p->fmt : m->weight[i].fmt);
        if (p->fmt) ck_assert_mem_eq(w->data, p->data, lq_format_bytes(w->fmt, w->rows * w->cols));
        ck_assert_int_eq(q->rank, p->rank);
        if (!p->rank) continue;
        ck_assert_mem_eq(q->a, p->a, (size_t)(p->rank * w->cols) * sizeof *q->a);
        for (int64_t j = 0; j < p->rank * w->rows; j++)
            ck_assert_float_eq(q->scale * q->b[j], p->scale * p->b[j]);
    }
    lq_adapter_free(back);
    lq_model_close(base);
    lq_adapter_free(a);
    lq_model_close(m);
}
END_TEST

static const struct {
    lq_format const *type;
    int r;
    double alpha;
    bool rslora, patterns;
} loras[] = {
    {&lq_f32, 4, 8, false, false}, {&lq_f32, 6, 7, false, false},  {&lq_f32, 31, 32, false, false},
    {&lq_f32, 4, 8, true, false},  {&lq_f32, 4, 8, false, true},   {&lq_f32, 8, 12, true, true},
    {&lq_f16, 4, 8, false, false}, {&lq_bf16, 4, 8, false, false},
};

/* An adapter written and read as the start of a run of the same shape: the same numbers again. */
START_TEST(lora_round_trip) {
    lq_model *m = fixture_model(FIXTURE_TIED);
    lq_adapter_options o = fixture_options(LQ_QAT_NONE, NULL);
    const lq_pattern ranks[] = {{"q_proj", 2}}, alphas[] = {{"blk.1.*", 6}};
    const char *path = test_path("lora.gguf");
    o.r = loras[_i].r;
    o.alpha = loras[_i].alpha;
    o.use_rslora = loras[_i].rslora;
    o.rank_pattern = ranks;
    o.alpha_pattern = alphas;
    o.n_rank_pattern = o.n_alpha_pattern = loras[_i].patterns;
    lq_adapter *a = fixture_filled(m, o), *back = NULL;
    ck_ok(lq_export_lora(a, path, loras[_i].type, &lineage));
    ck_ok(lq_adapter_new(&back, m, &o, false));
    ck_ok(lq_adapter_init_from(back, path));
    /* One rank and scale: bit for bit. Otherwise the scale goes through B. F16, BF16 hold k/64
     * exactly. */
    if (loras[_i].patterns) test_close("span", back->param, a->param, a->n_params, 0, 3e-7);
    else ck_assert_mem_eq(back->param, a->param, (size_t)a->n_params * sizeof *a->param);
    lq_gguf *g = fixture_gguf(path);
    float alpha = 0;
    ck_ok(lq_gguf_get_f32(g, "adapter.lora.alpha", true, &alpha));
    if (!loras[_i].patterns && !loras[_i].rslora)
        ck_assert_float_eq_tol(alpha, (float)o.alpha, 4e-6f);
    fixture_expect_string(g, "general.type", "adapter");
    fixture_expect_string(g, "adapter.type", "lora");
    ck_assert_ptr_null(lq_gguf_find(g, "general.file_type"));
    lq_gguf_close(g);
    lq_adapter_free(back);
    lq_adapter_free(a);
    lq_model_close(m);
}
END_TEST

/* Two files with user scales in one adapter: its s B A is the sum of theirs. */
START_TEST(stacked) {
    lq_model *m = fixture_model(FIXTURE_TIED);
    lq_adapter_options o = fixture_options(LQ_QAT_NONE, NULL);
    static const char *const only_q[] = {"q_proj", NULL};
    const char *one = test_path("one.gguf"), *two = test_path("two.gguf");
    const lq_lora_file files[] = {{one, 0.5f}, {two, -2}};
    lq_adapter *x = fixture_filled(m, o), *both = NULL;
    o.targets = only_q;
    o.r = 2;
    lq_adapter *y = fixture_filled(m, o);
    ck_ok(lq_export_lora(x, one, &lq_f32, &lineage));
    ck_ok(lq_export_lora(y, two, &lq_f16, &lineage));
    ck_ok(lq_adapter_load(&both, m, files, 2));
    for (int i = 0; i < m->n_weights; i++) {
        const lq_patch *p = &x->patch[i], *q = &y->patch[i], *s = &both->patch[i];
        const lq_weight *w = &m->weight[i];
        ck_assert_int_eq(s->rank, p->rank + q->rank);
        if (!s->rank) continue;
        ck_assert_mem_eq(s->a, p->a, (size_t)(p->rank * w->cols) * sizeof *s->a);
        if (q->rank)
            ck_assert_mem_eq(s->a + p->rank * w->cols, q->a,
                             (size_t)(q->rank * w->cols) * sizeof *s->a);
        for (int64_t r = 0; r < w->rows; r++)
            for (int k = 0; k < s->rank; k++)
                ck_assert_float_eq(s->scale * s->b[r * s->rank + k],
                                   k < p->rank ? 0.5f * p->scale * p->b[r * p->rank + k]
                                               : -2 * q->scale * q->b[r * q->rank + k - p->rank]);
    }
    lq_adapter_free(both);
    lq_adapter_free(y);
    lq_adapter_free(x);
    lq_model_close(m);
}
END_TEST

/* ---- adapter files that do not fit ----------------------------------------------------------- */

typedef struct half { const char *name; int64_t ne[3]; int ndim; float first; } half;

static const struct {
    const char *arch, *type, *lora;      /* NULL: the right ones */
    half half[3];
    lq_status status;
    const char *message;
} unfit[] = {
    {NULL,
     NULL,
     NULL,
     {{"blk.0.attn_q.weight.lora_a", {64, 2}, 2, 1}, {"blk.0.attn_q.weight.lora_b", {2, 64}, 2, 1}},
     LQ_OK,
     NULL},
    {"gemma", NULL, NULL, {{0}}, LQ_EVALUE, "general.architecture is 'gemma', wanted 'llama'"},
    {NULL, "model", NULL, {{0}}, LQ_EVALUE, "general.type is 'model', wanted 'adapter'"},
    {NULL, NULL, "ia3", {{0}}, LQ_EVALUE, "adapter.type is 'ia3', wanted 'lora'"},
    {NULL,
     NULL,
     NULL,
     {{"blk.7.attn_q.weight.lora_a", {64, 2}, 2, 1}},
     LQ_ESHAPE,
     "blk.7.attn_q.weight.lora_a: the base model has no such weight"},
    {NULL, NULL, NULL, {{"output.weight.lora_a", {64, 2}, 2, 1}}, LQ_ESHAPE, "no such weight"},
    {NULL,
     NULL,
     NULL,
     {{"token_embd.weight.lora_a", {64, 2}, 2, 1}},
     LQ_ESHAPE,
     "anything but linears"},
    {NULL,
     NULL,
     NULL,
     {{"blk.0.attn_q.weight.lora_a", {64, 2}, 2, 1}},
     LQ_ESHAPE,
     "blk.0.attn_q.weight.lora_a: its other half is missing"},
    {NULL, NULL, NULL, {{"blk.0.attn_q.weight.lora_b", {2, 64}, 2, 1}}, LQ_ESHAPE, "other half"},
    {NULL, NULL, NULL, {{"blk.0.attn_q.bias", {64}, 1, 1}}, LQ_ESHAPE, "unexpected name"},
    {NULL,
     NULL,
     NULL,
     {{"blk.0.attn_q.weight.lora_a", {32, 2}, 2, 1}, {"blk.0.attn_q.weight.lora_b", {2, 64}, 2, 1}},
     LQ_ESHAPE,
     "the file has (2,32) in 2 dimensions, wanted (2,64)"},
    {NULL,
     NULL,
     NULL,
     {{"blk.0.attn_q.weight.lora_a", {64, 3}, 2, 1}, /* ranks differ */
      {"blk.0.attn_q.weight.lora_b", {2, 64}, 2, 1}},
     LQ_ESHAPE,
     "wanted (2,64)"},
    {NULL,
     NULL,
     NULL,
     {{"blk.0.attn_q.weight.lora_a", {2, 64}, 2, 1}, /* transposed */
      {"blk.0.attn_q.weight.lora_b", {64, 2}, 2, 1}},
     LQ_ESHAPE,
     "wanted (64,64)"},
    {NULL,
     NULL,
     NULL,
     {{"blk.0.attn_q.weight.lora_a", {64, 2, 4}, 3, 1},
      {"blk.0.attn_q.weight.lora_b", {2, 64, 4}, 3, 1}},
     LQ_ESHAPE,
     "3 dimensions"},
    {NULL,
     NULL,
     NULL,
     {{"blk.0.attn_q.weight.lora_a", {64, 2}, 2, NAN},
      {"blk.0.attn_q.weight.lora_b", {2, 64}, 2, 1}},
     LQ_ENONFINITE,
     "blk.0.attn_q.weight.lora_a has a NaN"},
    {NULL,
     NULL,
     NULL,
     {{"blk.0.attn_q.weight.lora_a", {64, 2}, 2, 1},
      {"blk.0.attn_q.weight.lora_b", {2, 64}, 2, INFINITY}},
     LQ_ENONFINITE,
     "blk.0.attn_q.weight.lora_b has a NaN or an infinity"},
};

static void write_adapter(const char *path, const char *arch, const char *type, const char *lora,
                          const half *halves, int n) {
    static float data[3][64 * 2 * 4];
    lq_gguf_writer *w = NULL;
    ck_ok(lq_gguf_writer_new(&w));
    ck_ok(lq_gguf_writer_set_string(w, "general.architecture", arch));
    ck_ok(lq_gguf_writer_set_string(w, "general.type", type));
    ck_ok(lq_gguf_writer_set_string(w, "adapter.type", lora));
    for (int i = 0; i < n && halves[i].name; i++) {
        uint64_t bytes = sizeof(float);
        for (int d = 0; d < halves[i].ndim; d++) bytes *= (uint64_t)halves[i].ne[d];
        data[i][0] = halves[i].first;
        ck_ok(lq_gguf_writer_add(w, halves[i].name, lq_f32.ggml_id, halves[i].ndim, halves[i].ne,
                                 data[i], bytes));
    }
    ck_ok(lq_gguf_writer_write(w, path));
    lq_gguf_writer_free(w);
}

START_TEST(unfit_adapters) {
    lq_model *m = fixture_model(FIXTURE_TIED);
    const char *path = test_path("unfit.gguf");
    const lq_lora_file files[] = {{path, 1}};
    lq_adapter *a = NULL;
    write_adapter(path, unfit[_i].arch ? unfit[_i].arch : "llama",
                  unfit[_i].type ? unfit[_i].type : "adapter",
                  unfit[_i].lora ? unfit[_i].lora : "lora", unfit[_i].half,
                  LQ_ARRAY_LEN(unfit[_i].half));
    if (unfit[_i].message) {
        ck_fails(lq_adapter_load(&a, m, files, 1), unfit[_i].status, unfit[_i].message);
        ck_assert_ptr_null(a);
    } else { /* no alpha: the scale is the user's alone */
        ck_ok(lq_adapter_load(&a, m, files, 1));
        ck_assert_int_eq(a->n_items, 1);
        ck_assert_float_eq(a->item[0].scale * a->param[a->item[0].b], 1);
    }
    lq_adapter_free(a);
    lq_model_close(m);
}
END_TEST

START_TEST(init_from_another_adapter) {
    lq_model *m = fixture_model(FIXTURE_TIED);
    lq_adapter_options o = fixture_options(LQ_QAT_NONE, NULL);
    static const char *const q[] = {"q_proj", "k_proj", NULL}, *const v[] = {"q_proj", "v_proj",
                                                                             NULL};
    const char *path = test_path("other.gguf");
    o.targets = q;
    lq_adapter *a = fixture_filled(m, o), *b = NULL;
    ck_ok(lq_export_lora(a, path, &lq_f32, &lineage));
    o.targets = v;
    o.r = 3;
    ck_ok(lq_adapter_new(&b, m, &o, false));
    ck_fails(lq_adapter_init_from(b, path), LQ_ESHAPE,
             "blk.0.attn_q.weight: rank 4 in the file, 3");
    ck_fails(lq_adapter_init_from(b, path), LQ_ESHAPE,
             "blk.1.attn_k.weight: in the file, but no target");
    ck_fails(lq_adapter_init_from(b, path), LQ_ESHAPE, "blk.1.attn_v.weight: a target of this run");
    ck_fails(lq_adapter_init_from(b, test_path("absent.gguf")), LQ_EIO, "absent.gguf");
    lq_adapter_free(a);
    lq_adapter_free(b);
    lq_model_close(m);
}
END_TEST

static int warnings;

static void count_warnings(void *ctx, lq_log_level level, const char *line) {
    (void)ctx;
    warnings += level == LQ_LOG_WARN &&
                test_contains(line, "was trained on other base weights (f32");
}

/* The stamp: silent on the right base, a warning on another. */
START_TEST(other_base_warns) {
    lq_model *m = fixture_model(FIXTURE_UNTIED), *f16 = fixture_model(FIXTURE_F16);
    lq_adapter *a = fixture_filled(m, fixture_options(LQ_QAT_NONE, NULL)), *back = NULL;
    const lq_lora_file files[] = {{test_path("stamped.gguf"), 1}};
    ck_ok(lq_export_lora(a, files[0].path, &lq_f16, &lineage));
    lq_set_log(count_warnings, NULL);
    ck_ok(lq_adapter_load(&back, m, files, 1));
    ck_assert_int_eq(warnings, 0);
    lq_adapter_free(back);
    ck_ok(lq_adapter_load(&back, f16, files, 1));
    ck_assert_int_eq(warnings, 1);
    lq_set_log(NULL, NULL);
    lq_adapter_free(back);
    lq_adapter_free(a);
    lq_model_close(m);
    lq_model_close(f16);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("lora_file");
    TCase *tc = tcase_create("lora_file");
    tcase_add_test(tc, separate_round_trip);
    tcase_add_loop_test(tc, lora_round_trip, 0, LQ_ARRAY_LEN(loras));
    tcase_add_test(tc, stacked);
    tcase_add_loop_test(tc, unfit_adapters, 0, LQ_ARRAY_LEN(unfit));
    tcase_add_test(tc, init_from_another_adapter);
    tcase_add_test(tc, other_base_warns);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
