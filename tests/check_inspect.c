/* inspect*.c: what the report says of tiny models, of weights on a lattice, of adapters and of
 * files that Loquat cannot use. */
#include "inspect.h"

#include "inspect_parts.h"
#include "test_util.h"
#include "tiny_model.h"

#include <string.h>

static lq_status as_text(char **out_text, const char *path, bool json) {
    json_t *report;
    LQ_TRY(lq_inspect_report(&report, path));
    const lq_status status = lq_inspect_text(out_text, report, json);
    json_decref(report);
    return status;
}

static json_t *inspect(const char *path) {
    char *text = NULL;
    ck_ok(as_text(&text, path, true));
    json_t *report = json_loads(text, 0, NULL);
    ck_assert_msg(report != NULL, "not JSON: %s", text);
    lq_free(text);
    return report;
}

static const json_t *at(const json_t *report, const char *group, const char *key) {
    const json_t *v = json_object_get(json_object_get(report, group), key);
    ck_assert_msg(v != NULL, "the report has no %s: %s", group, key);
    return v;
}

static const char *write_model(const tiny_model *o) {
    static char path[256];
    strcpy(path, test_path("inspected.gguf"));
    ck_ok(tiny_model_write(path, o));
    return path;
}

START_TEST(models_are_described) {
    json_t *r = inspect(write_model(&(tiny_model){.fmt = &lq_q8_0, .chat_template = "x"}));
    ck_assert_str_eq(json_string_value(json_object_get(r, "kind")), "model");
    ck_assert_str_eq(json_string_value(at(r, "architecture", "name")), "llama");
    ck_assert(json_is_true(at(r, "architecture", "tensors agree")));
    ck_assert_int_eq(json_integer_value(at(r, "sizes", "context length")), 256);
    ck_assert_int_eq(json_integer_value(at(r, "sizes", "vocabulary")), 320);
    ck_assert_int_eq(json_integer_value(at(r, "tensor types", "Q8_0")), 16);
    ck_assert_int_eq(json_integer_value(at(r, "tensor types", "F32")), 5);
    ck_assert_int_eq(json_integer_value(at(r, "parameters", "attn_k")), 2 * 64 * 32);
    ck_assert_str_eq(json_string_value(at(r, "tokenizer", "eot")), "<|im_end|>");
    ck_assert(test_contains(json_string_value(at(r, "tuning", "reading")), "it"));
    ck_assert_str_eq(json_string_value(at(r, "lineage", "general.name")), "tiny random model");
    ck_assert_str_eq(json_string_value(json_object_get(r, "licence")), "not stated");
    json_decref(r);
}
END_TEST

/* Numbers that went through Q4_0 and are kept as F32, F16 or BF16 are told from others. */
START_TEST(lattices_are_recognised) {
    enum { N = 32 * 64 };
    static const lq_format *const kept[] = {&lq_f32, &lq_f16, &lq_bf16};
    float x[N], on[N], stored[N];
    char packed[N];
    test_fill(x, N, 5);
    memset(x, 0, 32 * sizeof *x);
    lq_q4_0.quant(x, packed, N, NULL);
    lq_q4_0.dequant(packed, on, N);
    kept[_i]->quant(on, stored, N, NULL);
    lq_gguf_tensor t = {.fmt = kept[_i], .ndim = 2, .ne = {128, N / 128, 1, 1}, .data = stored};
    lq_lattice found = lq_lattice_of(&t, &lq_q4_0, N);
    ck_assert_int_eq(found.blocks, 63);   /* one is zero */
    ck_assert_int_eq(found.unchanged, 63);
    ck_assert_int_le(lq_lattice_of(&t, &lq_q4_0, 10).blocks, 11);
    kept[_i]->quant(x, stored, N, NULL);
    found = lq_lattice_of(&t, &lq_q4_0, N);
    ck_assert_int_eq(found.blocks, 63);
    ck_assert_int_eq(found.unchanged, 0);
    t.ne[0] = 100;   /* no whole blocks */
    ck_assert_int_eq(lq_lattice_of(&t, &lq_q4_0, N).blocks, 0);
}
END_TEST

START_TEST(unusable_models_are_described) {
    json_t *r = inspect(write_model(&(tiny_model){.arch = "mamba"}));
    ck_assert(json_is_false(at(r, "architecture", "tensors agree")));
    ck_assert(test_contains(json_string_value(at(r, "architecture", "problem")),
                            "'mamba' is not supported yet"));
    ck_assert_int_eq(json_integer_value(at(r, "tensor types", "F32")), 21);
    json_decref(r);
}
END_TEST

/* llama.cpp's vocabularies are such files: there is nothing to read a tuning from. */
START_TEST(vocabularies_are_described) {
    const char *path = test_path("vocabulary.gguf");
    lq_gguf *g;
    lq_gguf_writer *w = NULL;
    ck_ok(lq_gguf_open(&g, test_tiny_model()));
    ck_ok(lq_gguf_writer_new(&w));
    ck_ok(lq_gguf_writer_copy_kv(w, g));
    ck_ok(lq_gguf_writer_write(w, path));
    json_t *r = inspect(path);
    ck_assert_str_eq(json_string_value(json_object_get(r, "kind")), "vocabulary");
    ck_assert_int_eq(json_integer_value(at(r, "tokenizer", "tokens")), 320);
    ck_assert_str_eq(json_string_value(at(r, "architecture", "name")), "llama");
    ck_assert(json_object_get(json_object_get(r, "architecture"), "problem") == NULL);
    ck_assert(json_object_get(r, "tuning") == NULL);
    json_decref(r);
    lq_gguf_writer_free(w);
    lq_gguf_close(g);
}
END_TEST

START_TEST(adapters_are_described) {
    const char *path = test_path("adapter.gguf");
    const float zeros[128] = {0};
    const int64_t a[2] = {64, 2}, b[2] = {2, 32};
    lq_gguf_writer *w = NULL;
    ck_ok(lq_gguf_writer_new(&w));
    ck_ok(lq_gguf_writer_set_string(w, "general.type", "adapter"));
    ck_ok(lq_gguf_writer_set_string(w, "general.license", "mit"));
    ck_ok(lq_gguf_writer_set_string(w, "general.\xff", "\xff"));
    ck_ok(lq_gguf_writer_set_f32(w, "adapter.lora.alpha", 16));
    ck_ok(lq_gguf_writer_add(w, "blk.0.attn_k.weight.lora_a", 0, 2, a, zeros, 512));
    ck_ok(lq_gguf_writer_add(w, "blk.0.attn_k.weight.lora_b", 0, 2, b, zeros, 256));
    ck_ok(lq_gguf_writer_write(w, path));
    lq_gguf_writer_free(w);
    json_t *r = inspect(path);
    ck_assert_str_eq(json_string_value(json_object_get(r, "kind")), "adapter");
    ck_assert_int_eq(json_integer_value(at(r, "adapter", "adapted tensors")), 1);
    ck_assert_int_eq(json_integer_value(at(r, "adapter", "largest rank")), 2);
    ck_assert_str_eq(json_string_value(json_object_get(r, "licence")), "mit");
    ck_assert_str_eq(json_string_value(at(r, "lineage", "general.?")), "(not UTF-8)");
    json_decref(r);
}
END_TEST

static const char *warning(const json_t *report) {
    const char *s = json_string_value(json_array_get(json_object_get(report, "warnings"), 0));
    return s ? s : "(none)";
}

/* The same tensors under another architecture, under another name, and both as they should be. */
START_TEST(renamed_models_are_noticed) {
    static const struct { const char *arch, *name, *warning; bool qk_norms; } cases[] = {
        {"llama", "Some Llama 3", "(none)", false},
        {"llama", "DeepSeek R1 Distill Llama", "(none)", false},
        {"llama", "Dolphin 7B", "(none)", false},
        {"llama", "Qwen2.5 7B", "says qwen, but the architecture is llama", false},
        {"qwen3", "Qwen3", "(none)", true},
        {"llama", "a model", "its tensors are those of qwen3", true},
        {"mamba", "a model", "says that its architecture is mamba", false},
    };
    const char *path = test_path("renamed.gguf");
    tiny_model o = {.arch = cases[_i].arch, .qk_norms = cases[_i].qk_norms, .no_tokenizer = true};
    lq_gguf *g;
    lq_gguf_writer *w = NULL;
    ck_ok(lq_gguf_open(&g, write_model(&o)));
    ck_ok(lq_gguf_writer_new(&w));
    ck_ok(lq_gguf_writer_copy_kv(w, g));
    ck_ok(lq_gguf_writer_set_string(w, "general.name", cases[_i].name));
    for (int64_t i = 0; i < lq_gguf_n_tensors(g); i++) {
        const lq_gguf_tensor *t = lq_gguf_tensor_at(g, i);
        ck_ok(lq_gguf_writer_add(w, t->name, t->ggml_type, t->ndim, t->ne, t->data, t->bytes));
    }
    ck_ok(lq_gguf_writer_write(w, path));
    lq_gguf_writer_free(w);
    lq_gguf_close(g);
    json_t *r = inspect(path);
    ck_assert_msg(test_contains(warning(r), cases[_i].warning), "%s", warning(r));
    json_decref(r);
}
END_TEST

/* Random weights: the end-of-turn token's row is as never trained as the others are trained. */
START_TEST(tuning_is_read_from_norms_and_lattices) {
    static const struct {
        const lq_format *fmt;
        float turn;
        const char *reading;
        bool ends_text;      /* one token ends turns and texts, as in Llama 3 and Qwen */
    } cases[] = {
        {&lq_f32, 1, "pt (pretrained)", false},
        {&lq_f32, 2, "it (instruction-tuned)", false},
        {&lq_q4_0, 2, "it-qat (weights on the lattice of Q4_0)", false},
        {&lq_f32, 1, "pt (pretrained)", true},
        {&lq_f32, 2, "it (instruction-tuned)", true},
    };
    enum { EMBD = 64 };
    const char *path = test_path("tuned.gguf");
    tiny_model o = {.chat_template = "x", .fmt = cases[_i].fmt};
    lq_gguf *g;
    lq_tokenizer *t;
    lq_gguf_writer *w = NULL;
    ck_ok(lq_gguf_open(&g, write_model(&o)));
    ck_ok(lq_tokenizer_from_gguf(&t, g));
    ck_ok(lq_gguf_writer_new(&w));
    ck_ok(lq_gguf_writer_copy_kv(w, g));
    if (cases[_i].ends_text)
        ck_ok(lq_gguf_writer_set_u32(w, "tokenizer.ggml.eos_token_id",
                                     (uint32_t)lq_tokenizer_eot(t)));
    float *kept[64] = {NULL};
    for (int64_t i = 0; i < lq_gguf_n_tensors(g); i++) {
        const lq_gguf_tensor *x = lq_gguf_tensor_at(g, i);
        const int64_t n = x->ne[0] * x->ne[1];
        float *row = kept[i] = lq_alloc_array(n, sizeof *row);
        x->fmt->dequant(x->data, row, n);
        if (strcmp(x->name, "token_embd.weight") == 0)
            for (int64_t k = 0; k < n; k++)
                row[k] = k / EMBD == lq_tokenizer_eot(t) ? cases[_i].turn : 1;
        ck_ok(lq_gguf_writer_add(w, x->name, 0, x->ndim, x->ne, row, (uint64_t)n * sizeof *row));
    }
    ck_ok(lq_gguf_writer_write(w, path));
    json_t *r = inspect(path);
    ck_assert_str_eq(json_string_value(at(r, "tuning", "reading")), cases[_i].reading);
    ck_assert(json_is_true(at(r, "tuning", "end-of-turn token")));
    ck_assert_str_eq(test_contains(warning(r), "looks never trained") ? "warned" : "not",
                     cases[_i].turn > 1 ? "not" : "warned");
    json_decref(r);
    for (int i = 0; i < LQ_ARRAY_LEN(kept); i++) lq_free(kept[i]);
    lq_gguf_writer_free(w);
    lq_tokenizer_close(t);
    lq_gguf_close(g);
}
END_TEST

START_TEST(two_files_are_compared) {
    const char *other = test_path("other.gguf");
    ck_ok(tiny_model_write(other, &(tiny_model){.fmt = &lq_q8_0, .n_layer = 3}));
    json_t *r, *d;
    ck_ok(lq_inspect_compare(&r, write_model(&(tiny_model){0}), other));
    ck_assert_int_eq(json_integer_value(json_object_get(r, "equal tensors")), 4);
    ck_assert_int_eq(json_integer_value(json_object_get(r, "different tensors")), 17);
    ck_assert_int_eq((int)json_array_size(json_object_get(r, "only in a")), 0);
    ck_assert_int_eq((int)json_array_size(json_object_get(r, "only in b")), 9);
    d = json_object_get(json_object_get(r, "differences"), "blk.1.attn_q.weight");
    ck_assert_str_eq(json_string_value(json_object_get(d, "type in b")), "Q8_0");
    const double relative = json_real_value(json_object_get(d, "relative difference"));
    ck_assert_msg(relative > 0.001 && relative < 0.01, "%g", relative);
    ck_assert(json_object_get(json_object_get(r, "different keys"), "llama.block_count") != NULL);
    json_decref(r);
    ck_ok(lq_inspect_compare(&r, other, other));
    ck_assert_int_eq(json_integer_value(json_object_get(r, "different tensors")), 0);
    ck_assert_int_eq((int)json_object_size(json_object_get(r, "different keys")), 0);
    json_decref(r);
    ck_fails(lq_inspect_compare(&r, other, "/no/such"), LQ_EIO, "/no/such");
}
END_TEST

START_TEST(people_get_lines) {
    char *text = NULL;
    ck_ok(as_text(&text, test_tiny_model(), false));
    ck_assert_msg(test_contains(text, "\narchitecture:\n  name: llama\n"
                                      "  by its tensors: llama, gemma, "), "%s", text);
    ck_assert_msg(test_contains(text, "\nlicence: not stated\n"), "%s", text);
    ck_assert_msg(!test_contains(text, "warning"), "%s", text);
    lq_free(text);
    const char *renamed = test_path("qwen-mamba.gguf");   /* both are wrong, each has its line */
    ck_ok(tiny_model_write(renamed, &(tiny_model){.arch = "mamba"}));
    ck_ok(as_text(&text, renamed, false));
    ck_assert_msg(test_contains(text, "\nkind: model\nwarning: the file says that its architecture "
                                      "is mamba, but"), "%s", text);
    ck_assert_msg(test_contains(text, "\nwarning: the file name 'qwen-mamba.gguf' says qwen"), "%s",
                  text);
    lq_free(text);
    ck_fails(as_text(&text, "/no/such", false), LQ_EIO, "/no/such: No such file");
}
END_TEST

/* A line for each tensor. */
START_TEST(people_get_a_table_of_differences) {
    const char *other = test_path("other.gguf");
    char *text = NULL;
    json_t *r;
    ck_ok(tiny_model_write(other, &(tiny_model){.fmt = &lq_q8_0, .n_layer = 3}));
    ck_ok(lq_inspect_compare(&r, write_model(&(tiny_model){0}), other));
    ck_ok(lq_inspect_text(&text, r, false));
    ck_assert_msg(test_contains(text, "\ndifferences:\n"
                                      "  output.weight: type in a F32, type in b Q8_0, "
                                      "relative difference 0.00"), "%s", text);
    ck_assert_msg(test_contains(text, "\ndifferent keys:\n  llama.block_count: a 2, b 3\n"),
                  "%s", text);
    lq_free(text);
    json_decref(r);
}
END_TEST

static lq_status inspect_once(void *ctx) {
    char *text = NULL;
    LQ_TRY(as_text(&text, ctx, false));
    lq_free(text);
    return LQ_OK;
}

START_TEST(failed_allocations_are_clean) {
    test_alloc_failures(inspect_once,
                        (void *)write_model(&(tiny_model){.n_layer = 1, .no_tokenizer = true}));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("inspect");
    TCase *tc = tcase_create("inspect");
    tcase_add_test(tc, models_are_described);
    tcase_add_loop_test(tc, lattices_are_recognised, 0, 3);
    tcase_add_test(tc, unusable_models_are_described);
    tcase_add_test(tc, vocabularies_are_described);
    tcase_add_test(tc, adapters_are_described);
    tcase_add_loop_test(tc, renamed_models_are_noticed, 0, 7);
    tcase_add_loop_test(tc, tuning_is_read_from_norms_and_lattices, 0, 5);
    tcase_add_test(tc, two_files_are_compared);
    tcase_add_test(tc, people_get_lines);
    tcase_add_test(tc, people_get_a_table_of_differences);
    tcase_add_test(tc, failed_allocations_are_clean);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
