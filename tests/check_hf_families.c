/* hf*.c: the directory that transformers saves of every family's model is the model that llama.cpp
 * keeps as a GGUF, and has transformers' logits (tests/reference, made by
 * conformance/make_tiny_families.py). */
#include "hf.h"

#include "test_util.h"

#include <stdio.h>
#include <string.h>

static const char *const cases[] = {
    "llama_tied", "llama_untied", "llama_freqs", "llama_biases", "qwen2", "qwen2_yarn", "qwen3",
    "gemma", "gemma2", "gemma3", "phi3_short", "phi3_long", "smollm3",
    "mixtral", "qwen2moe", "qwen3moe", "olmo2", "granite", "stablelm", "stablelm_parallel",
    "falcon", "falcon_grouped", "mpt", "gpt2",
};

static const char *reference(const char *fmt, int i) {
    static char path[512];
    const int n = snprintf(path, sizeof path, "%s/tests/reference/", LOQUAT_SOURCE_DIR);
    snprintf(path + n, sizeof path - (size_t)n, fmt, cases[i]);
    return path;
}

static void same_weight(const lq_weight *a, const lq_weight *b) {
    const int64_t n = a->rows * a->cols;
    ck_assert_msg(a->rows == b->rows && a->cols == b->cols && a->n_mats == b->n_mats, "%s",
                  a->name);
    float *x = lq_alloc_array(n, sizeof *x), *y = lq_alloc_array(n, sizeof *y);
    a->fmt->dequant(a->data, x, n);
    b->fmt->dequant(b->data, y, n);
    test_close(a->name, x, y, n, 1e-6, 0);
    lq_free(x);
    lq_free(y);
}

START_TEST(directories_are_the_ggufs) {
    lq_model *dir = NULL, *file = NULL;
    ck_ok(lq_model_open(&dir, reference("hf/%s", _i), true));
    ck_ok(lq_model_open(&file, reference("%s.gguf", _i), true));
    ck_assert_int_eq(dir->n_weights, file->n_weights);
    ck_assert_int_eq(dir->tied, file->tied);
    for (int i = 0; i < file->n_weights; i++) {
        const int k = lq_model_find_name(dir, file->weight[i].name);
        ck_assert_msg(k >= 0, "%s is not there", file->weight[i].name);
        same_weight(&dir->weight[k], &file->weight[i]);
    }
    lq_model_close(dir);
    lq_model_close(file);
}
END_TEST

static const lq_gguf_tensor *tensor(const lq_gguf *ref, const char *name) {
    const lq_gguf_tensor *t = lq_gguf_find_tensor(ref, name);
    ck_assert_msg(t != NULL, "the reference has no %s", name);
    return t;
}

static void set_input(const lq_tensor *to, const lq_gguf *ref, const char *name) {
    if (to) memcpy(to->data, tensor(ref, name)->data, tensor(ref, name)->bytes);
}

START_TEST(logits_equal_transformers) {
    lq_model *m = NULL;
    lq_gguf *ref = NULL;
    lq_tape *tape = NULL;
    lq_model_io io;
    uint32_t n_ctx = 0;
    ck_ok(lq_model_open(&m, reference("hf/%s", _i), true));
    ck_ok(lq_gguf_open(&ref, reference("%s.ref.gguf", _i)));
    ck_ok(lq_gguf_get_u32(ref, "n_ctx", true, &n_ctx));
    const int64_t rows = tensor(ref, "ids")->ne[0];
    ck_ok(lq_tape_new(&tape, rows));
    ck_ok(lq_model_build(m, &(lq_build_options){.n_ctx = n_ctx}, tape, &io));
    ck_ok(lq_tape_compile(tape, &(lq_tape_options){.training = false}));
    ck_ok(lq_tape_alloc(tape));
    lq_tape_set_rows(tape, rows);
    set_input(io.ids, ref, "ids");
    set_input(io.pos, ref, "pos");
    set_input(io.starts, ref, "starts");
    ck_ok(lq_tape_forward(tape, 1, 0));
    test_close(cases[_i], lq_data_f32(io.out), tensor(ref, "logits")->data, rows * m->hp.n_vocab,
               1e-4, 0);
    lq_tape_free(tape);
    lq_gguf_close(ref);
    lq_model_close(m);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("hf_families");
    TCase *tc = tcase_create("hf_families");
    tcase_add_loop_test(tc, directories_are_the_ggufs, 0, LQ_ARRAY_LEN(cases));
    tcase_add_loop_test(tc, logits_equal_transformers, 0, LQ_ARRAY_LEN(cases));
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
