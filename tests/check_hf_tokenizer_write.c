/* hf_tokenizer_write.c and its parts: what is written for transformers reads back as the same
 * tokenizer (transformers itself is asked in conformance/check_hf_write.py); what cannot be said is
 * refused before a file exists. */
#include "hf_tokenizer_write.h"

#include "atomic_file.h"
#include "hf_tokenizer.h"
#include "pretokenizer.h"
#include "test_util.h"
#include "tokenizer_dir.h"
#include "vocab_fixture.h"

#include <string.h>

typedef struct vocab { lq_gguf_writer *w; lq_gguf *g; lq_tokenizer *t; } vocab;

static void open_vocab(vocab *v) {
    ck_ok(fixture_open(&v->g, v->w, test_path("reference.gguf")));
    ck_ok(lq_tokenizer_from_gguf(&v->t, v->g));
}

static void close_vocab(vocab *v) {
    lq_tokenizer_close(v->t);
    lq_gguf_close(v->g);
    lq_gguf_writer_free(v->w);
}

static void reads_back(const vocab *v) {
    lq_tokenizer *got;
    ck_ok(lq_hf_tokenizer_write(v->t, v->g, fixture_dir));
    ck_ok(fixture_open_dir(&got, fixture_dir));
    ck_assert_str_eq(lq_tokenizer_model(got), lq_tokenizer_model(v->t));
    ck_assert_int_eq(lq_tokenizer_n_vocab(got), lq_tokenizer_n_vocab(v->t));
    ck_assert_int_eq(lq_tokenizer_adds_bos(got), lq_tokenizer_adds_bos(v->t));
    ck_assert_int_eq(lq_tokenizer_adds_eos(got), lq_tokenizer_adds_eos(v->t));
    for (int32_t id = 0; id < lq_tokenizer_n_vocab(got); id++) {
        ck_assert_str_eq(lq_token_text(got, id), lq_token_text(v->t, id));
        const int type = lq_token_type(v->t, id);   /* <unk> is one added token among others */
        ck_assert_int_eq(lq_token_type(got, id), type == 2 ? 3 : type);
    }
    fixture_same_ids(got, v->t);
    lq_tokenizer_close(got);
}

static void has(const char *file, const char *part) {
    char *path = lq_path_join(fixture_dir, file), *text = NULL;
    size_t n;
    ck_ok(lq_read_file(&text, &n, path));
    ck_assert_msg(test_contains(text, part), "%s lacks %s:\n%s", file, part, text);
    lq_free(text);
    lq_free(path);
}

START_TEST(byte_level_comes_back) {
    vocab v;
    fixture_start();
    ck_ok(fixture_bpe(&v.w, lq_pre_at(_i)->name));
    ck_ok(lq_gguf_writer_set_u32(v.w, "tokenizer.ggml.bos_token_id", 263));
    open_vocab(&v);
    reads_back(&v);
    close_vocab(&v);
}
END_TEST

static const struct { bool prefix, bos, eos; } spm[] = {
    {true, true, false}, {false, true, true}, {true, false, true}, {false, false, false}};

START_TEST(spm_comes_back) {
    vocab v;
    fixture_start();
    ck_ok(fixture_spm(&v.w));
    ck_ok(lq_gguf_writer_set_bool(v.w, "tokenizer.ggml.add_space_prefix", spm[_i].prefix));
    ck_ok(lq_gguf_writer_set_bool(v.w, "tokenizer.ggml.add_bos_token", spm[_i].bos));
    ck_ok(lq_gguf_writer_set_bool(v.w, "tokenizer.ggml.add_eos_token", spm[_i].eos));
    open_vocab(&v);
    fixture_put_text("config.json", "{\"architectures\": [\"LlamaForCausalLM\"]}");
    reads_back(&v);
    close_vocab(&v);
}
END_TEST

START_TEST(roles_and_templates_are_written) {
    vocab v;
    fixture_start();
    ck_ok(fixture_bpe(&v.w, "llama-bpe"));
    ck_ok(lq_gguf_writer_set_u32(v.w, "tokenizer.ggml.bos_token_id", 263));
    ck_ok(lq_gguf_writer_set_u32(v.w, "tokenizer.ggml.padding_token_id", 65));
    ck_ok(lq_gguf_writer_set_string(v.w, "tokenizer.chat_template", "unnamed"));
    ck_ok(lq_gguf_writer_set_string(v.w, "tokenizer.chat_template.../tool_use", "named"));
    open_vocab(&v);
    ck_ok(lq_hf_tokenizer_write(v.t, v.g, fixture_dir));
    has("tokenizer_config.json", "\"bos_token\": \"<|endoftext|>\"");
    has("tokenizer_config.json", "\"eos_token\": null");   /* llama.cpp's 11 is not the file's */
    has("tokenizer_config.json", "\"tokenizer_class\": \"PreTrainedTokenizerFast\"");
    has("generation_config.json", "\"eos_token_id\": [263, 264]");
    has("generation_config.json", "\"pad_token_id\": 65");
    has("additional_chat_templates/.._tool_use.jinja", "named");
    ck_assert(!lq_file_exists_in(fixture_dir, "chat_template.jinja"));
    close_vocab(&v);
}
END_TEST

/* ---- refusals -------------------------------------------------------------------------------- */

static void is_refused(vocab *v, const char *message) {
    open_vocab(v);
    ck_fails(lq_hf_tokenizer_write(v->t, v->g, fixture_dir), LQ_EUNSUPPORTED, message);
    ck_assert(!lq_file_exists_in(fixture_dir, "tokenizer.json"));
    close_vocab(v);
}

START_TEST(what_transformers_cannot_have_is_refused) {
    static const lq_gguf_str merge[] = {{"h e", 3}, {"q q", 3}};
    vocab v;
    fixture_start();
    ck_ok(fixture_bpe(&v.w, "gpt-2"));
    ck_ok(lq_gguf_writer_set_strings(v.w, "tokenizer.ggml.merges", merge, 2));
    is_refused(&v, "tokenizer.json: the merge 'q q' is of strings that are no tokens");
    static const lq_gguf_str three[] = {{"<unk>", 5}, {"<s>", 3}, {"</s>", 4}};
    static const lq_gguf_str broken[] = {{"<unk>", 5}, {"<s>", 3}, {"</s>", 4}, {"\xff", 1}};
    ck_ok(fixture_spm(&v.w));
    ck_ok(lq_gguf_writer_set_strings(v.w, "tokenizer.ggml.tokens", three, 3));
    is_refused(&v, "there is no token <0x00>");
    ck_ok(fixture_bpe(&v.w, "gpt-2"));
    ck_ok(lq_gguf_writer_set_strings(v.w, "tokenizer.ggml.tokens", broken, 4));
    ck_ok(lq_gguf_writer_set_strings(v.w, "tokenizer.ggml.merges", merge, 0));
    is_refused(&v, "is no UTF-8");
}
END_TEST

static lq_status write_once(void *ctx) {
    const vocab *v = ctx;
    return lq_hf_tokenizer_write(v->t, v->g, fixture_dir);
}

START_TEST(failed_allocations_are_clean) {
    vocab v;
    fixture_start();
    ck_ok(_i ? fixture_spm(&v.w) : fixture_bpe(&v.w, "llama-bpe"));
    ck_ok(lq_gguf_writer_set_string(v.w, "tokenizer.chat_template.tool_use", "named"));
    open_vocab(&v);
    test_alloc_failures(write_once, &v);
    close_vocab(&v);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("hf_tokenizer_write");
    TCase *tc = tcase_create("hf_tokenizer_write");
    tcase_set_timeout(tc, 60);   /* files are synced to disk */
    int n_pres = 0;
    while (lq_pre_at(n_pres)) n_pres++;
    tcase_add_loop_test(tc, byte_level_comes_back, 0, n_pres);
    tcase_add_loop_test(tc, spm_comes_back, 0, LQ_ARRAY_LEN(spm));
    tcase_add_test(tc, roles_and_templates_are_written);
    tcase_add_test(tc, what_transformers_cannot_have_is_refused);
    tcase_add_loop_test(tc, failed_allocations_are_clean, 0, 2);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
