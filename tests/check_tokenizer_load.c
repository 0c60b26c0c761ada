/* What tokenizer_load.c and its like refuse, each with its message; the fingerprint; failing
 * allocations. */
#include "tokenizer.h"

#include "test_util.h"
#include "vocab_fixture.h"

#include <math.h>
#include <string.h>

static lq_status open_writer(lq_tokenizer **t, lq_gguf_writer *w) {
    lq_gguf *g = NULL;
    lq_status status = fixture_open(&g, w, test_path("vocab.gguf"));
    if (status == LQ_OK) status = lq_tokenizer_from_gguf(t, g);
    lq_gguf_close(g);
    return status;
}

/* Changes one key of a good file. */
typedef lq_status (*change)(lq_gguf_writer *w);

static lq_status remove_tokens(lq_gguf_writer *w) {
    lq_gguf_writer_remove(w, "tokenizer.ggml.tokens");
    return LQ_OK;
}

static lq_status remove_model(lq_gguf_writer *w) {
    lq_gguf_writer_remove(w, "tokenizer.ggml.model");
    return LQ_OK;
}

static lq_status remove_merges(lq_gguf_writer *w) {
    lq_gguf_writer_remove(w, "tokenizer.ggml.merges");
    return LQ_OK;
}

static lq_status set_model(lq_gguf_writer *w) {
    return lq_gguf_writer_set_string(w, "tokenizer.ggml.model", "t5");
}

static lq_status set_pre(lq_gguf_writer *w) {
    return lq_gguf_writer_set_string(w, "tokenizer.ggml.pre", "klingon");
}

static lq_status set_strings(lq_gguf_writer *w, const char *key, const char *a, const char *b) {
    const lq_gguf_str s[] = {{a, strlen(a)}, {b, strlen(b)}};
    return lq_gguf_writer_set_strings(w, key, s, 2);
}

static lq_status no_tokens(lq_gguf_writer *w) {
    const lq_gguf_str none = {"", 0};
    return lq_gguf_writer_set_strings(w, "tokenizer.ggml.tokens", &none, 0);
}

static lq_status twice(lq_gguf_writer *w) {
    return set_strings(w, "tokenizer.ggml.tokens", "same", "same");
}

static lq_status tokens_are_numbers(lq_gguf_writer *w) {
    return lq_gguf_writer_set_array(w, "tokenizer.ggml.tokens", LQ_GGUF_I32,
                                    (const int32_t[]){1, 2}, 2);
}

static lq_status one_score(lq_gguf_writer *w) {
    return lq_gguf_writer_set_array(w, "tokenizer.ggml.scores", LQ_GGUF_F32, (const float[]){0}, 1);
}

static lq_status score_nan(lq_gguf_writer *w) {
    static float score[512];
    score[5] = NAN;
    return lq_gguf_writer_set_array(w, "tokenizer.ggml.scores", LQ_GGUF_F32, score, 512);
}

static lq_status scores_are_text(lq_gguf_writer *w) {
    return set_strings(w, "tokenizer.ggml.scores", "0", "1");
}

static lq_status one_type(lq_gguf_writer *w) {
    return lq_gguf_writer_set_array(w, "tokenizer.ggml.token_type", LQ_GGUF_I32,
                                    (const int32_t[]){1}, 1);
}

static lq_status types_are_floats(lq_gguf_writer *w) {
    static const float type[512];
    return lq_gguf_writer_set_array(w, "tokenizer.ggml.token_type", LQ_GGUF_F32, type, 512);
}

static lq_status no_byte(lq_gguf_writer *w) {
    static int32_t type[512];
    type[1] = 6;
    return lq_gguf_writer_set_array(w, "tokenizer.ggml.token_type", LQ_GGUF_I32, type, 512);
}

static lq_status merge_without_space(lq_gguf_writer *w) {
    return set_strings(w, "tokenizer.ggml.merges", "a b", "ab");
}
static lq_status merge_of_one(lq_gguf_writer *w) {
    return set_strings(w, "tokenizer.ggml.merges", "a b", "a ");
}

static lq_status bos_is_text(lq_gguf_writer *w) {
    return lq_gguf_writer_set_string(w, "tokenizer.ggml.bos_token_id", "1");
}

static lq_status bos_of_nothing(lq_gguf_writer *w) {
    LQ_TRY(lq_gguf_writer_set_bool(w, "tokenizer.ggml.add_bos_token", true));
    return lq_gguf_writer_set_string(w, "tokenizer.ggml.pre", "glm4");
}

static lq_status template_is_number(lq_gguf_writer *w) {
    return lq_gguf_writer_set_u32(w, "tokenizer.chat_template", 1);
}

START_TEST(refuses) {
    static const struct { bool bpe; change apply; lq_status status; const char *message;
    } row[] = {
        {false, remove_model, LQ_EFORMAT, "tokenizer.ggml.model is missing"},
        {false, set_model, LQ_EUNSUPPORTED, "model 't5' is not supported"},
        {true, set_pre, LQ_EUNSUPPORTED, "pre-tokenizer 'klingon'"},
        {false, remove_tokens, LQ_EFORMAT, "tokenizer.ggml.tokens is missing"},
        {false, no_tokens, LQ_EFORMAT, "has 0 tokens"},
        {false, twice, LQ_EFORMAT, "tokens 0 and 1 are both 'same'"},
        {false, tokens_are_numbers, LQ_EFORMAT,
         "tokenizer.ggml.tokens must be an array of strings"},
        {false, one_score, LQ_EFORMAT,
         "tokenizer.ggml.scores has 1 elements, must have one for each of the 275"},
        {false, score_nan, LQ_EFORMAT, "score of token 5 ('<0x02>') is not a number"},
        {false, scores_are_text, LQ_EFORMAT,
         "tokenizer.ggml.scores must be an array of 32-bit numbers"},
        {false, one_type, LQ_EFORMAT, "tokenizer.ggml.token_type has 1 elements"},
        {false, types_are_floats, LQ_EFORMAT, "token_type must be an array of i32"},
        {false, no_byte, LQ_EFORMAT, "token 1 is of type byte, but its text is '<s>'"},
        {true, remove_merges, LQ_EFORMAT, "tokenizer.ggml.merges is missing"},
        {true, merge_without_space, LQ_EFORMAT, "merge 1 is 'ab'"},
        {true, merge_of_one, LQ_EFORMAT, "merge 1 is 'a '"},
        {true, bos_is_text, LQ_EFORMAT, "bos_token_id"},
        {true, bos_of_nothing, LQ_EFORMAT, "add_bos_token is true, but there is no BOS"},
        {false, template_is_number, LQ_EFORMAT, "chat_template"},
    };
    for (int i = 0; i < LQ_ARRAY_LEN(row); i++) {
        lq_gguf_writer *w = NULL;
        lq_tokenizer *t = NULL;
        if (row[i].bpe) ck_ok(fixture_bpe(&w, "gpt-2"));
        else ck_ok(fixture_spm(&w));
        ck_ok(row[i].apply(w));
        ck_fails(open_writer(&t, w), row[i].status, row[i].message);
        ck_assert_msg(test_contains(lq_error(), "vocab.gguf: tokenizer: "), "%s", lq_error());
        ck_assert_ptr_null(t);
        lq_gguf_writer_free(w);
    }
}
END_TEST

static int warnings;

static void count_warning(void *ctx, lq_log_level level, const char *line) {
    (void)ctx;
    warnings += level == LQ_LOG_WARN && test_contains(line, "tokenizer.ggml.pre is missing");
}

START_TEST(missing_pre_is_default) {
    lq_gguf_writer *w = NULL;
    lq_tokenizer *t = NULL;
    ck_ok(fixture_bpe(&w, "gpt-2"));
    lq_gguf_writer_remove(w, "tokenizer.ggml.pre");
    lq_set_log(count_warning, NULL);
    ck_ok(open_writer(&t, w));
    lq_set_log(NULL, NULL);
    ck_assert_int_eq(warnings, 1);
    ck_assert_str_eq(lq_tokenizer_pre(t), "default");
    lq_tokenizer_close(t);
    lq_gguf_writer_free(w);
}
END_TEST

/* The unknown token is 0 when nothing says so, even in a vocabulary of one. */
START_TEST(unknown_is_zero) {
    const lq_gguf_str s = {"a", 1};
    lq_gguf_writer *w = NULL;
    lq_tokenizer *t = NULL;
    lq_tokens tokens = LQ_TOKENS_INIT;
    ck_ok(fixture_spm(&w));
    ck_ok(lq_gguf_writer_set_strings(w, "tokenizer.ggml.tokens", &s, 1));
    ck_ok(lq_gguf_writer_set_bool(w, "tokenizer.ggml.add_bos_token", false));
    ck_ok(lq_gguf_writer_set_bool(w, "tokenizer.ggml.add_space_prefix", false));
    ck_ok(open_writer(&t, w));
    ck_ok(lq_tokenize(t, "aab", 3, 0, &tokens));
    ck_assert_int_eq(tokens.n, 3);
    ck_assert_int_eq(tokens.id[2], 0);
    lq_tokenizer_close(t);
    lq_gguf_writer_free(w);
    lq_tokens_clear(&tokens);
}
END_TEST

static void fingerprint(char *out, bool bpe, change apply) {
    lq_gguf_writer *w = NULL;
    lq_tokenizer *t = NULL;
    if (bpe) ck_ok(fixture_bpe(&w, "gpt-2"));
    else ck_ok(fixture_spm(&w));
    if (apply) ck_ok(apply(w));
    ck_ok(open_writer(&t, w));
    ck_assert_uint_eq(strlen(lq_tokenizer_fingerprint(t)), 64);
    strcpy(out, lq_tokenizer_fingerprint(t));
    lq_tokenizer_close(t);
    lq_gguf_writer_free(w);
}

static lq_status other_pre(lq_gguf_writer *w) {
    return lq_gguf_writer_set_string(w, "tokenizer.ggml.pre", "qwen2");
}
static lq_status other_merges(lq_gguf_writer *w) {
    return set_strings(w, "tokenizer.ggml.merges", "h e", "l l");
}
static lq_status other_bos(lq_gguf_writer *w) {
    return lq_gguf_writer_set_u32(w, "tokenizer.ggml.bos_token_id", 7);
}
static lq_status adds_eos(lq_gguf_writer *w) {
    return lq_gguf_writer_set_bool(w, "tokenizer.ggml.add_eos_token", true);
}

static lq_status other_scores(lq_gguf_writer *w) {
    static const float score[512];
    return lq_gguf_writer_set_array(w, "tokenizer.ggml.scores", LQ_GGUF_F32, score, 512);
}

static lq_status other_types(lq_gguf_writer *w) {
    static int32_t type[512];
    for (int i = 0; i < 512; i++) type[i] = 1;
    return lq_gguf_writer_set_array(w, "tokenizer.ggml.token_type", LQ_GGUF_I32, type, 512);
}

static lq_status other_text(lq_gguf_writer *w) {
    return lq_gguf_writer_set_string(w, "tokenizer.chat_template", "x");
}

START_TEST(fingerprints) {
    static const struct { bool bpe; change apply; bool same;
    } row[] = {
        {true, NULL, true},          {true, other_text, true}, {true, other_pre, false},
        {true, other_merges, false}, {true, other_bos, false}, {true, adds_eos, false},
        {true, other_types, false},  {false, NULL, true},      {false, other_scores, false},
        {false, other_types, false},
    };
    for (int i = 0; i < LQ_ARRAY_LEN(row); i++) {
        char want[80], got[80];
        fingerprint(want, row[i].bpe, NULL);
        fingerprint(got, row[i].bpe, row[i].apply);
        ck_assert_msg((strcmp(want, got) == 0) == row[i].same, "row %d: %s", i, got);
    }
}
END_TEST

static lq_status use(const lq_tokenizer *t) {
    static const char text[] = "hello <tag>\xff <|im_end|>  h\xc3\xa9llo\n\xf0\x91\xbc\x82";
    lq_tokens tokens = LQ_TOKENS_INIT;
    lq_str back = LQ_STR_INIT;
    lq_status status = lq_tokenize(t, text, sizeof text - 1, LQ_TOK_BOS | LQ_TOK_SPECIAL, &tokens);
    if (status == LQ_OK) status = lq_detokenize(t, tokens.id, tokens.n, true, &back);
    else ck_assert_int_eq(tokens.n, 0);
    lq_tokens_clear(&tokens);
    lq_str_clear(&back);
    return status;
}

static lq_status load_and_use(void *ctx) {
    lq_tokenizer *t = NULL;
    lq_status status = lq_tokenizer_from_gguf(&t, ctx);
    if (status == LQ_OK) status = use(t);
    lq_tokenizer_close(t);
    return status;
}

START_TEST(allocation_failures) {
    for (int bpe = 0; bpe < 2; bpe++) {
        lq_gguf_writer *w = NULL;
        lq_gguf *g = NULL;
        if (bpe) ck_ok(fixture_bpe(&w, "llama-bpe"));
        else ck_ok(fixture_spm(&w));
        ck_ok(fixture_open(&g, w, test_path("vocab.gguf")));
        test_alloc_failures(load_and_use, g);
        lq_gguf_close(g);
        lq_gguf_writer_free(w);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("tokenizer_load");
    TCase *tc = tcase_create("tokenizer_load");
    suite_add_tcase(suite, tc);
    tcase_add_test(tc, refuses);
    tcase_add_test(tc, missing_pre_is_default);
    tcase_add_test(tc, unknown_is_zero);
    tcase_add_test(tc, fingerprints);
    tcase_add_test(tc, allocation_failures);
    return test_run(suite);
}
