/* peft_*.c, export_peft.c: a PEFT directory is the adapter that it means, what is written reads
 * back, and everything that does not fit or cannot be read is listed. */
#include "adapter.h"

#include "atomic_file.h"
#include "export_peft.h"
#include "hf_fixture.h"
#include "lora_file.h"
#include "peft_fixture.h"
#include "test_util.h"

#include <omp.h>
#include <stdio.h>
#include <string.h>

static lq_model *open_model(void) {
    lq_model *m = NULL;
    ck_ok(lq_model_open(&m, hf_fixture("base", NULL), true));
    return m;
}

/* ---- adapters made by hand ------------------------------------------------------------------- */

enum { MAX_TENSORS = 8, RANK = 2 };

typedef struct adapter_files {
    const char *config;
    struct { const char *module; int rows, cols, rank_a, rank_b; } pair[3];
    const char *extra;       /* name of one more tensor */
} adapter_files;

#define CONFIG(more) \
    "{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 6, \"bias\": \"none\"" more "}"
#define Q "model.layers.0.self_attn.q_proj"
#define DOWN "model.layers.1.mlp.down_proj"

static const char *write_adapter(const char *name, const adapter_files *f) {
    static char names[MAX_TENSORS][96];
    peft_tensor t[MAX_TENSORS] = {{NULL, 0, 0}};
    int n = 0;
    for (int i = 0; i < LQ_ARRAY_LEN(f->pair) && f->pair[i].module; i++) {
        const int sizes[2][2] = {{f->pair[i].rank_a, f->pair[i].cols},
                                 {f->pair[i].rows, f->pair[i].rank_b}};
        for (int half = 0; half < 2; half++, n++) {
            snprintf(names[n], sizeof names[n], "base_model.model.%s.lora_%c.weight",
                     f->pair[i].module, 'A' + half);
            t[n] = (peft_tensor){names[n], sizes[half][0], sizes[half][1]};
        }
    }
    if (f->extra) t[n++] = (peft_tensor){f->extra, 1, 4};
    return peft_fixture(name, f->config, t, n);
}

static const struct {
    const char *config;
    double scale_q, scale_down;    /* wanted, of both modules */
} scales[] = {
    {CONFIG(""), 3, 3},
    {CONFIG(", \"use_rslora\": true"), 4.242640687119285, 4.242640687119285},
    {CONFIG(", \"alpha_pattern\": {\"q_proj\": 1}"), 0.5, 3},
    {CONFIG(", \"alpha_pattern\": {\"layers\\\\.1\\\\.mlp\\\\..*\": 10}"), 3, 5},
    {CONFIG(", \"rank_pattern\": {\"k_proj\": 4}, \"modules_to_save\": null"), 3, 3},
    {CONFIG(", \"use_dora\": false, \"modules_to_save\": [], \"lora_bias\": false"), 3, 3},
};

/* s B A of every module, B's rows in GGUF's order. */
START_TEST(scales_and_rows) {
    lq_model *m = open_model();
    const adapter_files files = {
        scales[_i].config,
        {{Q, HF_EMBD, HF_EMBD, RANK, RANK}, {DOWN, HF_EMBD, HF_FF, RANK, RANK}}, NULL};
    lq_lora lora;
    ck_ok(lq_lora_open(&lora, m, write_adapter("scaled", &files)));
    const int q = lq_model_find_name(m, "blk.0.attn_q.weight");
    const int down = lq_model_find_name(m, "blk.1.ffn_down.weight");
    float b[HF_EMBD * RANK];
    ck_assert(lora.pair[q].rank == RANK && lora.pair[down].rank == RANK);
    ck_ok(lq_lora_read(b, &lora, lora.pair[q].b));
    for (int row = 0; row < HF_EMBD; row++)
        for (int k = 0; k < RANK; k++) {
            const int in_head = row % 4, from = row - in_head + in_head / 2 + in_head % 2 * 2;
            const double want = scales[_i].scale_q * peft_fixture_value(1, from * RANK + k);
            ck_assert_double_eq_tol(lora.pair[q].scale * b[row * RANK + k], want, 1e-5);
        }
    ck_ok(lq_lora_read(b, &lora, lora.pair[down].b));
    for (int i = 0; i < HF_EMBD * RANK; i++)
        ck_assert_double_eq_tol(lora.pair[down].scale * b[i],
                                scales[_i].scale_down * peft_fixture_value(3, i), 1e-5);
    lq_lora_clear(&lora);
    lq_model_close(m);
}
END_TEST

static const struct {
    adapter_files files;
    lq_status status;
    const char *message;
} bad[] = {
    {{"{\"r\": 2}", {{0}}, NULL}, LQ_EFORMAT, "peft_type is nothing, must be a text"},
    {{"{\"peft_type\": \"IA3\"}", {{0}}, NULL}, LQ_EUNSUPPORTED,
     "\npeft_type IA3: only LoRA adapters can be read"},
    {{"{\"peft_type\": \"LORA\", \"r\": 0, \"lora_alpha\": 1}", {{0}}, NULL}, LQ_EFORMAT,
     "r must be a whole number from 1 on"},
    {{CONFIG(", \"modules_to_save\": [\"lm_head\"], \"lora_bias\": true"), {{0}}, NULL},
     LQ_EUNSUPPORTED,
     "\nmodules_to_save lm_head: whole modules beside the adapter cannot be read\n"},
    {{CONFIG(", \"use_dora\": true"), {{Q, HF_EMBD, HF_EMBD, RANK, RANK}}, NULL}, LQ_ESHAPE,
     "use_dora: 0 tensors ...lora_magnitude_vector for 1 ...lora_B.weight"},
    {{CONFIG(", \"use_dora\": true"), {{Q, HF_EMBD, HF_EMBD, RANK, RANK}},
      "base_model.model." Q ".lora_magnitude_vector"}, LQ_ESHAPE,
     "wanted one magnitude for each row"},
    {{"{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 6, \"bias\": \"all\"}", {{0}}, NULL},
     LQ_EUNSUPPORTED, "\nbias all: trained biases cannot be read"},
    {{CONFIG(", \"target_parameters\": [\"down_proj\", \"q_proj.bias\"]"), {{0}}, NULL},
     LQ_EUNSUPPORTED, "\ntarget_parameters q_proj.bias: only the weights of modules and experts'"},
    {{CONFIG(", \"init_lora_weights\": \"pissa_niter_4\""), {{0}}, NULL}, LQ_EUNSUPPORTED,
     "init_lora_weights pissa_niter_4: the adapter fits a changed base"},
    {{CONFIG(", \"rank_pattern\": {\"q_proj\": \"x\"}"), {{0}}, NULL}, LQ_EFORMAT,
     "rank_pattern: 'q_proj' is a string, must be a positive number"},
    {{CONFIG(""), {{Q, HF_EMBD, HF_EMBD, RANK, RANK}},
      "base_model.model." Q ".lora_magnitude_vector"}, LQ_ESHAPE,
     "lora_magnitude_vector: wanted only ...lora_A.weight and ...lora_B.weight"},
    {{CONFIG(""), {{"model.layers.7.self_attn.q_proj", HF_EMBD, HF_EMBD, RANK, RANK},
                   {"transformer.h.0.attn", 4, 4, RANK, RANK}}, NULL}, LQ_ESHAPE,
     "model.layers.7.self_attn.q_proj.lora_a: the base model has no such weight\n"},
    {{CONFIG(""), {{"transformer.h.0.attn", 4, 4, RANK, RANK}}, NULL}, LQ_ESHAPE,
     "transformer.h.0.attn.lora_b: the base model has no such weight"},
    {{CONFIG(""), {{Q, 16, 16, RANK, RANK}}, NULL}, LQ_ESHAPE,
     "blk.0.attn_q.weight.lora_a: the file has (2,16) in 2 dimensions, wanted (2,8)"},
    {{CONFIG(""), {{Q, HF_EMBD, HF_EMBD, 3, RANK}, {DOWN, HF_EMBD, HF_FF, RANK, 1}}, NULL},
     LQ_ESHAPE, "adapter_config.json gives it rank 2\n"},
    {{CONFIG(", \"rank_pattern\": {\"q_proj\": 1}"), {{Q, HF_EMBD, HF_EMBD, RANK, RANK}}, NULL},
     LQ_ESHAPE, "lora_A.weight is (2,8), adapter_config.json gives it rank 1"},
};

START_TEST(mistakes) {
    lq_model *m = open_model();
    lq_lora lora;
    const char *dir = write_adapter("bad", &bad[_i].files);
    ck_fails(lq_lora_open(&lora, m, dir), bad[_i].status, bad[_i].message);
    ck_assert_msg(test_contains(lq_error(), dir), "no path: %s", lq_error());
    lq_model_close(m);
}
END_TEST

/* ---- written by Loquat ----------------------------------------------------------------------- */

typedef struct run { const char *what; lq_adapter_options o; } run;

static const char *const attention[] = {"q_proj", "k_proj", NULL};
static const char *const uneven[] = {"model.layers.0.self_attn.q_proj", "blk.1.ffn_down", NULL};
static const lq_pattern ranks[] = {{"k_proj", 1}}, alphas[] = {{"q_proj", 5}};
static const int second[] = {1};

static const run runs[] = {
    {"all", {.r = 2, .alpha = 4}},
    {"names", {.r = 3, .alpha = 3, .targets = attention}},
    {"layers", {.r = 2, .alpha = 4, .targets = attention, .layers = second, .n_layers = 1}},
    {"uneven", {.r = 2, .alpha = 4, .targets = uneven}},
    {"patterns", {.r = 2, .alpha = 4, .targets = attention, .rank_pattern = ranks,
                  .n_rank_pattern = 1, .alpha_pattern = alphas, .n_alpha_pattern = 1}},
    {"rslora", {.r = 4, .alpha = 6, .use_rslora = true, .rank_pattern = ranks,
                .n_rank_pattern = 1}},
    {"dora", {.r = 2, .alpha = 4, .use_dora = true}},
};

static lq_adapter *trained(const lq_model *m, lq_adapter_options o) {
    lq_adapter *a = NULL;
    o.init = "default";
    ck_ok(lq_adapter_new(&a, m, &o, false));
    for (int64_t i = 0; i < a->n_params; i++) a->param[i] = (float)((i * 11) % 31 - 15) / 16;
    return a;
}

START_TEST(peft_round_trip) {
    lq_model *m = open_model();
    lq_adapter *a = trained(m, runs[_i].o);
    lq_adapter *again = NULL;
    const char *dir = test_path("round");
    ck_ok(lq_export_peft(a, dir, &lq_f32, "base"));
    ck_ok(lq_adapter_new(&again, m, &a->options, false));
    ck_ok(lq_adapter_init_from(again, dir));
    ck_assert(again->n_params == a->n_params);
    test_close(runs[_i].what, again->param, a->param, a->n_params, 0, 1e-6);
    lq_adapter_free(again);
    lq_adapter_free(a);
    lq_model_close(m);
}
END_TEST

static char *read_text(const char *dir, const char *name) {
    char *path = lq_path_join(dir, name), *text = NULL;
    size_t n;
    ck_ok(lq_read_file(&text, &n, path));
    lq_free(path);
    return text;
}

/* Which modules PEFT will adapt is said as it would say it. */
START_TEST(peft_targets) {
    static const char *const want[][3] = {
        {"\"target_modules\": [\n    \"q_proj\",", "\"layers_to_transform\": null", "\"r\": 2"},
        {"\"target_modules\": [\n    \"q_proj\",\n    \"k_proj\"\n  ]", "\"layers_pattern\": null",
         "\"lora_alpha\": 3,"},
        {"\"layers_to_transform\": [\n    1\n  ]", "\"layers_pattern\": \"layers\"", "k_proj"},
        {"\"target_modules\": \"(model\\\\.layers\\\\.0\\\\.self_attn\\\\.q_proj|model", "mlp",
         "r"},
        {"\"rank_pattern\": {\n    \"model.layers.0.self_attn.k_proj\": 1",
         "\"alpha_pattern\": {\n    \"model.layers.0.self_attn.q_proj\": 5", "\"r\": 2"},
        {"\"use_rslora\": true", "\"alpha_pattern\": {}", "\"lora_alpha\": 6,"},
        {"\"use_dora\": true", "\"r\": 2", "\"lora_alpha\": 4,"},
    };
    lq_model *m = open_model();
    lq_adapter *a = trained(m, runs[_i].o);
    const char *dir = test_path("targets");
    ck_ok(lq_export_peft(a, dir, &lq_bf16, "base"));
    char *text = read_text(dir, "adapter_config.json");
    for (int k = 0; k < 3; k++)
        ck_assert_msg(test_contains(text, want[_i][k]), "lacks '%s': %s", want[_i][k], text);
    lq_free(text);
    lq_adapter_free(a);
    lq_model_close(m);
}
END_TEST

START_TEST(refused) {
    lq_model *m = open_model();
    lq_adapter *a = trained(m, runs[0].o);
    a->options.mode = LQ_QAT_MERGED;
    ck_fails(lq_export_peft(a, test_path("no"), &lq_f32, "base"), LQ_EUNSUPPORTED,
             "another model than the one validated");
    a->options.mode = LQ_QAT_NONE;
    a->param[0] = 1e30f;
    ck_fails(lq_export_peft(a, test_path("no"), &lq_f16, "base"), LQ_ENONFINITE, "beyond what F16");
    lq_adapter_free(a);
    lq_model_close(m);
}
END_TEST

/* Magnitudes fit one adapter at full strength. */
START_TEST(dora_stands_alone) {
    lq_model *m = open_model();
    lq_adapter *a = trained(m, runs[LQ_ARRAY_LEN(runs) - 1].o), *loaded = NULL;
    const lq_adapter_options plain = runs[0].o;
    lq_adapter *other = trained(m, plain);
    const lq_lora_file files[] = {{test_path("dora"), 1}, {test_path("plain"), 1}};
    const lq_lora_file weak = {files[0].path, 0.5f};
    ck_ok(lq_export_peft(a, files[0].path, &lq_f32, "base"));
    ck_ok(lq_export_peft(other, files[1].path, &lq_f32, "base"));
    ck_fails(lq_adapter_load(&loaded, m, files, 2), LQ_EUNSUPPORTED, "used alone");
    ck_fails(lq_adapter_load(&loaded, m, &weak, 1), LQ_EUNSUPPORTED, "with scale 1");
    ck_fails(lq_adapter_init_from(other, files[0].path), LQ_ESHAPE, "this run has no use_dora");
    ck_ok(lq_adapter_init_from(a, files[1].path));
    ck_assert_mem_eq(a->patch[a->item[0].weight].m, a->norm, sizeof(float));
    ck_ok(lq_adapter_load(&loaded, m, files, 1));
    ck_assert_ptr_nonnull(loaded->norm);
    lq_adapter_free(loaded);
    lq_adapter_free(other);
    lq_adapter_free(a);
    lq_model_close(m);
}
END_TEST

typedef struct both { const lq_model *m; const lq_adapter *a; const char *dir; } both;

static lq_status read_peft(void *ctx) {
    const both *b = ctx;
    lq_lora lora;
    LQ_TRY(lq_lora_open(&lora, b->m, b->dir));
    lq_lora_clear(&lora);
    return LQ_OK;
}

static lq_status write_peft(void *ctx) {
    const both *b = ctx;
    return lq_export_peft(b->a, b->dir, &lq_f32, "base");
}

START_TEST(failing_allocations) {
    omp_set_num_threads(1);   /* of tiny products threads would only wait for each other */
    lq_model *m = open_model();
    lq_adapter *a = trained(m, runs[2].o);
    both b = {m, a, test_path("alloc")};
    test_alloc_failures(write_peft, &b);
    test_alloc_failures(read_peft, &b);
    lq_adapter_free(a);
    lq_model_close(m);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("peft");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 90);   /* many files are synced to disk */
    tcase_add_loop_test(t, scales_and_rows, 0, LQ_ARRAY_LEN(scales));
    tcase_add_loop_test(t, mistakes, 0, LQ_ARRAY_LEN(bad));
    tcase_add_loop_test(t, peft_round_trip, 0, LQ_ARRAY_LEN(runs));
    tcase_add_loop_test(t, peft_targets, 0, LQ_ARRAY_LEN(runs));
    tcase_add_test(t, refused);
    tcase_add_test(t, dora_stands_alone);
    tcase_add_test(t, failing_allocations);
    suite_add_tcase(suite, t);
    return test_run(suite);
}
