/* peft_experts.c, export_peft_experts.c: adapters on experts in PEFT's two forms are the stacks
 * that they mean, what is written reads back, and what does not fit is named. */
#include "adapter.h"

#include "atomic_file.h"
#include "export_peft.h"
#include "lora_file.h"
#include "peft_fixture.h"
#include "test_util.h"

#include <omp.h>
#include <stdio.h>
#include <string.h>

enum { D = 12, F = 6, E = 5, R = 2 };   /* of the model; of the adapters made here */

static lq_model *open_model(const char *name) {
    char path[512];
    lq_model *m = NULL;
    snprintf(path, sizeof path, "%s/tests/reference/%s.gguf", LOQUAT_SOURCE_DIR, name);
    ck_ok(lq_model_open(&m, path, true));
    return m;
}

#define CONFIG(more) "{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 6" more "}"
#define TARGETS(list) CONFIG(", \"target_parameters\": [" list "]")
#define BLOCK "base_model.model.model.layers.1.mlp.experts"
#define A ".lora_A.weight"
#define B ".lora_B.weight"

static const lq_lora_pair *pair_of(const lq_lora *lora, const lq_model *m, const char *name) {
    const int i = lq_model_find_name(m, name);
    ck_assert_int_ge(i, 0);
    return &lora->pair[i];
}

/* Of tensors n (A) and n + 1 (B) of the file: rank k of expert e is row e R + k and column k E + e;
 * B's rows begin at `row`. */
static void expect_fused(const lq_lora *lora, const lq_lora_pair *p, int n, int64_t cols,
                         int64_t rows, int64_t row, float scale) {
    float a[E * R * D], b[E * D * R];
    ck_assert_int_eq(p->rank, R);
    ck_ok(lq_lora_read(a, lora, p->a));
    ck_ok(lq_lora_read(b, lora, p->b));
    for (int64_t i = 0; i < E * R * cols; i++)
        ck_assert_float_eq(a[i], peft_fixture_value(n, i));
    for (int64_t e = 0; e < E; e++)
        for (int64_t o = 0; o < rows; o++)
            for (int64_t k = 0; k < R; k++)
                ck_assert_float_eq_tol(
                    p->scale * b[(e * rows + o) * R + k],
                    scale * peft_fixture_value(n + 1, (row + o) * R * E + k * E + e), 1e-5);
}

/* Two parameters: the first is wrapped innermost. */
START_TEST(fused_both) {
    static const peft_tensor t[] = {
        {BLOCK ".base_layer" A, R * E, D}, {BLOCK ".base_layer" B, 2 * F, R * E},
        {BLOCK A, R * E, F}, {BLOCK B, D, R * E}};
    const char *dir = peft_fixture(
        "both", CONFIG(", \"alpha_pattern\": {\"experts.down_proj\": 1}, \"target_parameters\": "
                       "[\"down_proj\", \"mlp.experts.gate_up_proj\"]"), t, LQ_ARRAY_LEN(t));
    lq_model *m = open_model("qwen3moe");
    lq_lora lora;
    ck_ok(lq_lora_open(&lora, m, dir));
    expect_fused(&lora, pair_of(&lora, m, "blk.1.ffn_gate_exps.weight"), 0, D, F, 0, 3);
    expect_fused(&lora, pair_of(&lora, m, "blk.1.ffn_up_exps.weight"), 0, D, F, F, 3);
    expect_fused(&lora, pair_of(&lora, m, "blk.1.ffn_down_exps.weight"), 2, F, D, 0, 0.5f);
    ck_assert_int_eq(pair_of(&lora, m, "blk.0.ffn_gate_exps.weight")->rank, 0);
    lq_lora_clear(&lora);
    lq_model_close(m);
}
END_TEST

/* One parameter of this layer, another one of the other. */
START_TEST(fused_one) {
    static const peft_tensor t[] = {{BLOCK A, R * E, F}, {BLOCK B, D, R * E}};
    const char *dir = peft_fixture(
        "one", TARGETS("\"layers.1.mlp.experts.down_proj\", \"layers.0.mlp.experts.gate_up_proj\""),
        t, LQ_ARRAY_LEN(t));
    lq_model *m = open_model("qwen3moe");
    lq_lora lora;
    ck_ok(lq_lora_open(&lora, m, dir));
    expect_fused(&lora, pair_of(&lora, m, "blk.1.ffn_down_exps.weight"), 0, F, D, 0, 3);
    lq_lora_clear(&lora);
    lq_model_close(m);
}
END_TEST

#define OLD "base_model.model.model.layers.0.block_sparse_moe.experts."
enum { WIDE = 16 };   /* all sizes of the model mixtral */

/* Modules of single experts; those without an adapter stay as they are. */
START_TEST(single_experts) {
    static const peft_tensor t[] = {
        {OLD "3.w3" A, R, WIDE}, {OLD "3.w3" B, WIDE, R}, {OLD "1.w3" A, R, WIDE},
        {OLD "1.w3" B, WIDE, R}, {OLD "0.w2" A, R, WIDE}, {OLD "0.w2" B, WIDE, R}};
    const char *dir = peft_fixture("single", CONFIG(", \"alpha_pattern\": {\"w2\": 4}"), t,
                                   LQ_ARRAY_LEN(t));
    lq_model *m = open_model("mixtral");
    lq_lora lora;
    float a[E * R * WIDE], b[E * WIDE * R];
    ck_ok(lq_lora_open(&lora, m, dir));
    const lq_lora_pair *up = pair_of(&lora, m, "blk.0.ffn_up_exps.weight");
    const lq_lora_pair *down = pair_of(&lora, m, "blk.0.ffn_down_exps.weight");
    ck_ok(lq_lora_read(a, &lora, up->a));
    ck_ok(lq_lora_read(b, &lora, up->b));
    for (int64_t i = 0; i < E * R * WIDE; i++) {
        const int64_t e = i / (R * WIDE), k = i % (R * WIDE);
        const int n = e == 3 ? 0 : 2;
        const bool has = e == 3 || e == 1;
        ck_assert_float_eq(a[i], has ? peft_fixture_value(n, k) : 0);
        ck_assert_float_eq_tol(up->scale * b[i], has ? 3 * peft_fixture_value(n + 1, k) : 0, 1e-5);
    }
    ck_ok(lq_lora_read(b, &lora, down->b));
    ck_assert_float_eq_tol(down->scale * b[5], 2 * peft_fixture_value(5, 5), 1e-5);
    lq_lora_clear(&lora);
    lq_model_close(m);
}
END_TEST

#define EXPERT BLOCK ".2.up_proj"
#define FIRST BLOCK ".1.up_proj"

static const struct {
    const char *config;
    peft_tensor t[4];
    const char *message;
} bad[] = {
    {CONFIG(""), {{BLOCK A, R * E, F}, {BLOCK B, D, R * E}},
     BLOCK A " (10,6): target_parameters names no parameter for it"},
    {TARGETS("\"gate_up_proj\""), {{BLOCK A, R * E, F}},
     BLOCK A " (10,6): its other half is missing"},
    {TARGETS("\"gate_up_proj\""), {{BLOCK B, D, R * E}}, BLOCK B " (12,10): its other half"},
    {TARGETS("\"down_proj\""), {{BLOCK A, R * E + 1, F}, {BLOCK B, D, R * E}},
     BLOCK A " is (11,6), wanted (10,6)"},
    {TARGETS("\"down_proj\""), {{BLOCK A, R * E, F}, {BLOCK B, D, R * E + 1}},
     BLOCK B " is (12,11), wanted (12,10)"},
    {TARGETS("\"down_proj\""),
     {{"base_model.model.model.layers.7.mlp.experts" A, R * E, F},
      {"base_model.model.model.layers.7.mlp.experts" B, D, R * E}}, "the base model has no such"},
    {CONFIG(""), {{EXPERT A, R, D}}, EXPERT A " (2,12): its other half is missing"},
    {CONFIG(""), {{EXPERT A, R, D + 1}, {EXPERT B, F, R}}, EXPERT A " is (2,13), wanted (2,12)"},
    {CONFIG(""), {{BLOCK ".5.up_proj" A, R, D}, {BLOCK ".5.up_proj" B, F, R}},
     "the model has fewer experts"},
    {CONFIG(", \"rank_pattern\": {\".*\\\\.2\\\\.up_proj\": 3}"),
     {{EXPERT A, 3, D}, {EXPERT B, F, 3}, {FIRST A, R, D}, {FIRST B, F, R}},
     EXPERT A " (3,12): other experts have another rank"},
    {CONFIG(", \"use_dora\": true"), {{EXPERT ".lora_magnitude_vector", F, 1}},
     "DoRA on experts cannot be read"},
    {TARGETS("\"down_proj\"") , {{BLOCK ".lora_magnitude_vector", F, 1}},
     "wanted only ...lora_A.weight and ...lora_B.weight"},
};

START_TEST(mistakes) {
    lq_model *m = open_model("qwen3moe");
    lq_lora lora;
    const char *dir = peft_fixture("bad", bad[_i].config, bad[_i].t, LQ_ARRAY_LEN(bad[_i].t));
    ck_fails(lq_lora_open(&lora, m, dir), LQ_ESHAPE, bad[_i].message);
    lq_model_close(m);
}
END_TEST

/* ---- written by Loquat ----------------------------------------------------------------------- */

static const char *const all[] = {"q_proj", "experts.*", NULL}, *const router[] = {"gate", NULL};
static const char *const up[] = {"ffn_up_exps", NULL}, *const gate[] = {"ffn_gate_exps", NULL};
static const char *const uneven[] = {"blk.0.ffn_gate_exps", "blk.1.ffn_down_exps", NULL};
static const lq_pattern ranks[] = {{"up_proj", 3}}, alphas[] = {{"gate_proj", 5}};

static const struct { const char *config; lq_adapter_options o; } runs[] = {
    {"\"target_parameters\": [\n    \"experts.gate_up_proj\",\n    \"experts.down_proj\"\n  ]",
     {.r = 2, .alpha = 4, .targets = all}},
    {"\"target_modules\": []", {.r = 2, .alpha = 4, .targets = up}},
    {"\"rank_pattern\": {}", {.r = 3, .alpha = 4, .targets = gate}},
    {"\"rank_pattern\": {\n    \"experts.gate_up_proj\": 5\n  }",
     {.r = 2, .alpha = 4, .targets = all, .use_rslora = true, .rank_pattern = ranks,
      .n_rank_pattern = 1, .alpha_pattern = alphas, .n_alpha_pattern = 1}},
    {"\"target_parameters\": [\n    \"model.layers.0.mlp.experts.gate_up_proj\",\n"
     "    \"model.layers.1.mlp.experts.down_proj\"\n  ]",
     {.r = 2, .alpha = 4, .targets = uneven}},
    {"\"target_parameters\": [\n    \"mlp.gate.weight\"\n  ]",
     {.r = 2, .alpha = 4, .targets = router}},
};

static lq_adapter *trained(const lq_model *m, lq_adapter_options o) {
    lq_adapter *a = NULL;
    o.init = "default";
    ck_ok(lq_adapter_new(&a, m, &o, false));
    for (int64_t i = 0; i < a->n_params; i++) a->param[i] = (float)((i * 11) % 31 + 1) / 16;
    return a;
}

/* Gate and up, which are one adapter in the file, come back as two of their own ranks. */
START_TEST(round_trip) {
    lq_model *m = open_model("qwen3moe");
    lq_adapter *a = trained(m, runs[_i].o), *again = NULL;
    const char *dir = test_path("round");
    char *path = lq_path_join(dir, "adapter_config.json"), *text = NULL;
    size_t n;
    ck_ok(lq_export_peft(a, dir, &lq_f32, "base"));
    ck_ok(lq_read_file(&text, &n, path));
    ck_assert_msg(test_contains(text, runs[_i].config), "%s", text);
    ck_ok(lq_adapter_new(&again, m, &a->options, false));
    ck_ok(lq_adapter_init_from(again, dir));
    ck_assert(again->n_params == a->n_params);
    test_close("parameters", again->param, a->param, a->n_params, 0, 1e-6);
    lq_free(text);
    lq_free(path);
    lq_adapter_free(again);
    lq_adapter_free(a);
    lq_model_close(m);
}
END_TEST

/* A weight that is adapted as a parameter has that parameter's alpha. */
START_TEST(router_as_parameter) {
    static const peft_tensor t[] = {
        {"base_model.model.model.layers.0.mlp.gate" A, R, D},
        {"base_model.model.model.layers.0.mlp.gate" B, E, R}};
    const char *dir = peft_fixture(
        "router", CONFIG(", \"target_parameters\": [\"mlp.gate.weight\"], \"alpha_pattern\": "
                         "{\"gate\": 9, \"gate.weight\": 2}"), t, LQ_ARRAY_LEN(t));
    lq_model *m = open_model("qwen3moe");
    lq_lora lora;
    float b[E * R];
    ck_ok(lq_lora_open(&lora, m, dir));
    const lq_lora_pair *p = pair_of(&lora, m, "blk.0.ffn_gate_inp.weight");
    ck_ok(lq_lora_read(b, &lora, p->b));
    for (int64_t i = 0; i < E * R; i++)
        ck_assert_float_eq_tol(p->scale * b[i], peft_fixture_value(1, i), 1e-5);
    lq_lora_clear(&lora);
    lq_model_close(m);
}
END_TEST

/* Before training B is zero: there is nothing to split by, and the ranks stay together. */
START_TEST(untrained) {
    lq_model *m = open_model("qwen3moe");
    lq_adapter *a = trained(m, runs[0].o);
    lq_lora lora;
    memset(a->param, 0, (size_t)a->n_params * sizeof *a->param);
    ck_ok(lq_export_peft(a, test_path("zero"), &lq_bf16, "base"));
    ck_ok(lq_lora_open(&lora, m, test_path("zero")));
    ck_assert_int_eq(pair_of(&lora, m, "blk.0.ffn_gate_exps.weight")->rank, 2 * R);
    lq_lora_clear(&lora);
    lq_adapter_free(a);
    lq_model_close(m);
}
END_TEST

typedef struct both { const lq_model *m; const lq_adapter *a; } both;

static lq_status write_and_read(void *ctx) {
    const both *b = ctx;
    const char *dir = test_path("alloc");
    lq_lora lora;
    LQ_TRY(lq_export_peft(b->a, dir, &lq_f32, "base"));
    LQ_TRY(lq_lora_open(&lora, b->m, dir));
    lq_lora_clear(&lora);
    return LQ_OK;
}

START_TEST(failing_allocations) {
    omp_set_num_threads(1);
    lq_model *m = open_model("qwen3moe");
    lq_adapter *a = trained(m, runs[4].o);
    both b = {m, a};
    test_alloc_failures(write_and_read, &b);
    lq_adapter_free(a);
    lq_model_close(m);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("peft_experts");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 90);   /* many files are synced to disk */
    tcase_add_test(t, fused_both);
    tcase_add_test(t, fused_one);
    tcase_add_test(t, single_experts);
    tcase_add_loop_test(t, mistakes, 0, LQ_ARRAY_LEN(bad));
    tcase_add_loop_test(t, round_trip, 0, LQ_ARRAY_LEN(runs));
    tcase_add_test(t, router_as_parameter);
    tcase_add_test(t, untrained);
    tcase_add_test(t, failing_allocations);
    suite_add_tcase(suite, t);
    return test_run(suite);
}
