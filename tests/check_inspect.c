/* inspect*.c: what the report says of tiny models, of weights on a lattice, of adapters and of
 * files that Loquat cannot use. */
#include "inspect.h"

#include "atomic_file.h"
#include "inspect_parts.h"
#include "test_util.h"
#include "tiny_model.h"

#include <string.h>

static json_t *inspect(const char *path) {
    char *text = NULL;
    ck_ok(lq_inspect(&text, path, true));
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

START_TEST(people_get_lines) {
    char *text = NULL;
    ck_ok(lq_inspect(&text, test_tiny_model(), false));
    ck_assert_msg(test_contains(text, "\narchitecture:\n  name: llama\n  tensors agree: yes\n"),
                  "%s", text);
    ck_assert_msg(test_contains(text, "\nlicence: not stated\n"), "%s", text);
    lq_free(text);
    ck_fails(lq_inspect(&text, "/no/such", false), LQ_EIO, "/no/such: No such file");
}
END_TEST

static lq_status inspect_once(void *ctx) {
    char *text = NULL;
    LQ_TRY(lq_inspect(&text, ctx, false));
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
    tcase_add_test(tc, adapters_are_described);
    tcase_add_test(tc, people_get_lines);
    tcase_add_test(tc, failed_allocations_are_clean);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
