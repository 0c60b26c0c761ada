/* export_hf.c: the merged model as a directory is W + s B A in Hugging Face's layout, from a
 * directory and from a GGUF of every architecture. */
#include "export_hf.h"

#include "atomic_file.h"
#include "hf_fixture.h"
#include "test_util.h"

#include <omp.h>
#include <stdio.h>
#include <string.h>

static lq_model *open_model(const hf_change *change) {
    lq_model *m = NULL;
    ck_ok(lq_model_open(&m, hf_fixture("base", change), true));
    return m;
}

static lq_adapter *trained(const lq_model *m, const char *const *targets) {
    const lq_adapter_options o = {.r = 2, .alpha = 4, .targets = targets, .init = "default"};
    lq_adapter *a = NULL;
    ck_ok(lq_adapter_new(&a, m, &o, false));
    for (int64_t i = 0; i < a->n_params; i++) a->param[i] = (float)((i * 11) % 31 - 15) / 16;
    return a;
}

/* W + s B A as a directory: the merged weights, in the base's type. */
START_TEST(merged_round_trip) {
    static const hf_change changes[] = {{0}, {.class = "Qwen2ForCausalLM"}};
    lq_model *m = open_model(&changes[_i]), *merged = NULL;
    lq_adapter *a = trained(m, NULL);
    const lq_format *type = NULL;
    const char *dir = test_path("merged");
    ck_ok(lq_export_hf(a, dir, &type));
    ck_assert_ptr_eq(type, &lq_f32);
    ck_ok(lq_model_open(&merged, dir, true));
    ck_assert_int_eq(merged->n_weights, m->n_weights);
    for (int i = 0; i < m->n_weights; i++) {
        const lq_weight *w = &m->weight[i];
        const lq_patch *p = &a->patch[i];
        const float *base = w->data, *got = merged->weight[i].data;
        for (int64_t r = 0; r < w->rows; r++)
            for (int64_t c = 0; c < w->cols; c++) {
                double want = base[r * w->cols + c];
                for (int k = 0; k < p->rank; k++)
                    want += (double)p->scale * p->b[r * p->rank + k] * p->a[k * w->cols + c];
                ck_assert_double_eq_tol(got[r * w->cols + c], want, 1e-5);
            }
    }
    lq_model_close(merged);
    lq_adapter_free(a);
    lq_model_close(m);
}
END_TEST

/* ---- from a GGUF ----------------------------------------------------------------------------- */

/* message NULL: a directory can be made of it, and means the same model. */
static const struct { const char *model, *class, *message; } gguf[] = {
    {"llama_tied", "LlamaForCausalLM", NULL},
    {"llama_biases", "LlamaForCausalLM", NULL},
    {"llama_freqs", "LlamaForCausalLM", NULL},
    {"mixtral", "MixtralForCausalLM", NULL},
    {"qwen2", "Qwen2ForCausalLM", NULL},
    {"qwen3", "Qwen3ForCausalLM", NULL},
    {"qwen2moe", "Qwen2MoeForCausalLM", NULL},
    {"qwen3moe", "Qwen3MoeForCausalLM", NULL},
    {"gemma", "GemmaForCausalLM", NULL},
    {"gemma2", "Gemma2ForCausalLM", NULL},
    {"gemma3", "Gemma3ForCausalLM", NULL},
    {"phi3_long", "Phi3ForCausalLM", NULL},
    {"phi3_short", "Phi3ForCausalLM", NULL},
    {"smollm3", "SmolLM3ForCausalLM", NULL},
    {"olmo2", "Olmo2ForCausalLM", NULL},
    {"granite", "GraniteForCausalLM", NULL},
    {"stablelm", "StableLmForCausalLM", NULL},
    {"gpt2", "GPT2LMHeadModel", NULL},
    {"qwen2_yarn", NULL, "no config.json can be made of it"},
    {"falcon", "FalconForCausalLM", NULL},
    {"mpt", "MptForCausalLM", NULL},
};

static void same_weights(const char *model, const lq_model *a, const lq_model *b) {
    ck_assert_msg(a->n_weights == b->n_weights, "%s: %d weights, were %d", model, b->n_weights,
                  a->n_weights);
    for (int i = 0; i < a->n_weights; i++) {
        const lq_weight *wa = &a->weight[i], *wb = &b->weight[i];
        const int64_t n = wa->rows * wa->cols;
        float *x = lq_alloc_array(n, sizeof *x), *y = lq_alloc_array(n, sizeof *y);
        ck_assert_str_eq(wa->name, wb->name);
        ck_assert(wa->rows == wb->rows && wa->cols == wb->cols && wa->n_mats == wb->n_mats);
        wa->fmt->dequant(wa->data, x, n);
        wb->fmt->dequant(wb->data, y, n);
        test_close(wa->name, y, x, n, 0, 1e-5);
        lq_free(x);
        lq_free(y);
    }
}

static void expect_class(const char *dir, const char *class) {
    char *path = lq_path_join(dir, "config.json"), *config = NULL;
    size_t n;
    ck_ok(lq_read_file(&config, &n, path));
    ck_assert_msg(test_contains(config, class), "%s", config);
    lq_free(config);
    lq_free(path);
}

/* The shared expert's router is one row; llama.cpp's converter leaves it a matrix. */
static void expect_router(const lq_model *made) {
    const lq_gguf_tensor *t = lq_gguf_find_tensor(made->file, "blk.0.ffn_gate_inp_shexp.weight");
    if (t) ck_assert(t->ndim == 2 && t->ne[1] == 1);
}

START_TEST(merged_from_gguf) {
    char path[512];
    lq_model *m = NULL, *made = NULL;
    lq_adapter *a = NULL;
    const lq_format *type;
    const char *dir = test_path(gguf[_i].model);
    snprintf(path, sizeof path, "%s/tests/reference/%s.gguf", LOQUAT_SOURCE_DIR, gguf[_i].model);
    ck_ok(lq_model_open(&m, path, true));
    ck_ok(lq_adapter_load(&a, m, NULL, 0));
    if (gguf[_i].message) {
        ck_fails(lq_export_hf(a, dir, &type), LQ_EUNSUPPORTED, gguf[_i].message);
    } else {
        ck_ok(lq_export_hf(a, dir, &type));
        ck_ok(lq_model_open(&made, dir, true));
        expect_class(dir, gguf[_i].class);
        expect_router(made);
        same_weights(gguf[_i].model, m, made);
    }
    lq_model_close(made);
    lq_adapter_free(a);
    lq_model_close(m);
}
END_TEST

START_TEST(refused) {
    lq_model *m = open_model(NULL);
    const lq_format *type;
    lq_adapter *a = trained(m, NULL);
    a->options.mode = LQ_QAT_SEPARATE;
    ck_fails(lq_export_hf(a, test_path("no"), &type), LQ_EUNSUPPORTED, "qat.mode separate");
    lq_adapter_free(a);
    lq_model_close(m);
}
END_TEST

static lq_status write_merged(void *ctx) {
    const lq_format *type;
    return lq_export_hf(ctx, test_path("alloc"), &type);
}

START_TEST(failing_allocations) {
    omp_set_num_threads(1);   /* of tiny products threads would only wait for each other */
    static const char *const one[] = {"k_proj", NULL};
    lq_model *m = open_model(NULL);
    lq_adapter *a = trained(m, one);
    test_alloc_failures(write_merged, a);
    lq_adapter_free(a);
    lq_model_close(m);
}
END_TEST

START_TEST(only_gguf_knows) {
    lq_model *m = NULL;
    lq_adapter *a = NULL;
    const lq_format *type;
    ck_ok(lq_model_open(&m, LOQUAT_SOURCE_DIR "/tests/reference/mpt.gguf", true));
    m->hp.alibi = 4;
    ck_ok(lq_adapter_load(&a, m, NULL, 0));
    ck_fails(lq_export_hf(a, test_path("mpt"), &type), LQ_EUNSUPPORTED,
             "the model has another ALiBi bias than 8, transformers' MPT has not");
    lq_adapter_free(a);
    lq_model_close(m);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("export_hf");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 90);   /* many files are synced to disk */
    tcase_add_loop_test(t, merged_round_trip, 0, 2);
    tcase_add_loop_test(t, merged_from_gguf, 0, LQ_ARRAY_LEN(gguf));
    tcase_add_test(t, only_gguf_knows);
    tcase_add_test(t, refused);
    tcase_add_test(t, failing_allocations);
    suite_add_tcase(suite, t);
    return test_run(suite);
}
