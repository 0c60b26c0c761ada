/* llama.cpp's own test vectors on the real vocabularies at hand, and stories260K. Where the vectors
 * have no vocabulary (qwen35, command-r, gemma-4) there is nothing to run. */
#include "tokenizer.h"

#include "test_util.h"
#include "vocab_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct vectors {
    const char *name;     /* ggml-vocab-NAME.gguf, .inp, .out */
    const char *source;   /* NULL: that GGUF; else the maker's file */
    bool tidies;          /* detokenizing loses spaces before punctuation */
} vectors;

static const vectors table[] = {
    {"llama-spm", NULL, false},
    {"phi-3", NULL, false},
    {"gpt-2", NULL, true},
    {"starcoder", NULL, true},
    {"refact", NULL, true},
    {"mpt", NULL, true},
    {"falcon", NULL, true},
    {"deepseek-coder", NULL, false},
    {"deepseek-llm", NULL, false},
    {"llama-bpe", "vocabs/llama3/tokenizer.model", true},
    {"qwen2", "vocabs/qwen2.5/vocab.json", false},
};

/* test_shared's answer is overwritten after a few calls; this one is the caller's. */
static char *shared(const char *name) {
    const char *path = test_shared(LOQUAT_SHARED_DATA, name);
    return path ? lq_strdup(path) : NULL;
}

static char *vector_path(const char *name, const char *suffix) {
    char file[128];
    snprintf(file, sizeof file, "vocabs/llama.cpp/ggml-vocab-%s.gguf%s", name, suffix);
    return shared(file);
}

static lq_status build(lq_gguf **g, const char *name, const char *source) {
    lq_gguf_writer *w = NULL;
    lq_status status;
    if (strcmp(name, "llama-bpe") == 0) {
        status = fixture_llama3(&w, source);
    } else {
        char *merges = shared("vocabs/qwen2.5/merges.txt");
        status =
            merges ? fixture_qwen2(&w, source, merges) : lq_fail(LQ_EIO, "merges.txt is not here");
        lq_free(merges);
    }
    if (status == LQ_OK) status = fixture_open(g, w, test_path(name));
    lq_gguf_writer_free(w);
    return status;
}

/* NULL: not here. */
static lq_tokenizer *open_vocabulary(const vectors *v) {
    char *path = v->source ? shared(v->source) : vector_path(v->name, "");
    if (!path) return NULL;
    lq_gguf *g = NULL;
    lq_tokenizer *t = NULL;
    if (v->source) ck_ok(build(&g, v->name, path));
    else ck_ok(lq_gguf_open(&g, path));
    ck_ok(lq_tokenizer_from_gguf(&t, g));
    lq_gguf_close(g);
    lq_free(path);
    return t;
}

static void check_offsets(const lq_tokens *tokens, size_t n) {
    int64_t at = 0;
    for (int64_t i = 0; i < tokens->n; i++) {
        ck_assert_int_eq(tokens->start[i], at);
        ck_assert_int_ge(tokens->end[i], at);
        at = tokens->end[i];
    }
    ck_assert_int_eq(at, (int64_t)n);
}

/* `want`: ids in decimal up to the end of the line. */
static void check_case(const lq_tokenizer *t, const vectors *v, const char *text, size_t n,
                       const char *want) {
    lq_tokens tokens = LQ_TOKENS_INIT;
    lq_str back = LQ_STR_INIT;
    ck_ok(lq_tokenize(t, text, n, 0, &tokens));
    for (int64_t i = 0; i < tokens.n; i++) {
        char *end;
        const long id = strtol(want, &end, 10);
        ck_assert_msg(end != want && id == tokens.id[i], "%s, '%.*s': token %lld is %d, wanted %ld",
                      v->name, (int)n, text, (long long)i, tokens.id[i], id);
        want = end;
    }
    ck_assert_msg(strspn(want, " ") == strcspn(want, "\n"), "%s, '%.*s': tokens are missing:%.*s",
                  v->name, (int)n, text, (int)strcspn(want, "\n"), want);
    check_offsets(&tokens, n);
    ck_ok(lq_detokenize(t, tokens.id, tokens.n, false, &back));
    if (!v->tidies)
        ck_assert_msg(back.n == n && memcmp(lq_str_text(&back), text, n) == 0,
                      "%s: '%.*s' came back as '%s'", v->name, (int)n, text, lq_str_text(&back));
    lq_str_clear(&back);
    lq_tokens_clear(&tokens);
}

/* How many cases there were. */
static int check_file(const lq_tokenizer *t, const vectors *v, const char *inputs, size_t n,
                      const char *outputs) {
    static const char separator[] = "\n__ggml_vocab_test__\n";
    int n_cases = 0;
    for (const char *text = inputs; text; n_cases++) {
        const char *end = strstr(text, separator);
        check_case(t, v, text, end ? (size_t)(end - text) : n - (size_t)(text - inputs), outputs);
        outputs += strcspn(outputs, "\n");
        outputs += *outputs == '\n';
        text = end ? end + sizeof separator - 1 : NULL;
    }
    return n_cases;
}

START_TEST(vectors_of_llama_cpp) {
    const vectors *v = &table[_i];
    lq_tokenizer *t = open_vocabulary(v);
    char *in_path = vector_path(v->name, ".inp"), *out_path = vector_path(v->name, ".out");
    if (t && in_path && out_path) {
        size_t n, n_out;
        char *inputs = fixture_read(in_path, &n), *outputs = fixture_read(out_path, &n_out);
        ck_assert(inputs && outputs);
        ck_assert_int_ge(check_file(t, v, inputs, n, outputs), 46);
        lq_free(inputs);
        lq_free(outputs);
    }
    lq_free(in_path);
    lq_free(out_path);
    lq_tokenizer_close(t);
}
END_TEST

/* Its special ids beyond bos and eos are 4294967295 in the file. The ids are llama.cpp's. */
START_TEST(stories260k) {
    static const struct {
        const char *text;
        unsigned flags;
        int n;
        int32_t id[12];
        const char *back;
    } row[] = {
        {"Once upon a time", 0, 4, {403, 407, 261, 378}, "Once upon a time"},
        {"  Two\nspaces",
         0,
         11,
         {410, 410, 274, 424, 414, 13, 419, 427, 412, 331, 419},
         "  Two\nspaces"},
        {"caf\xc3\xa9 \xf0\x9f\x91\x8d",
         LQ_TOK_BOS,
         10,
         {1, 280, 412, 431, 485, 410, 243, 162, 148, 144},
         "<s> caf\xc3\xa9 \xf0\x9f\x91\x8d"},
        {"<s>x</s>", LQ_TOK_BOS | LQ_TOK_SPECIAL, 5, {1, 1, 410, 444, 2}, "<s><s> x</s>"},
    };
    char *path = shared("models/stories260K/stories260K.gguf");
    if (!path) return;
    lq_gguf *g = NULL;
    lq_tokenizer *t = NULL;
    ck_ok(lq_gguf_open(&g, path));
    ck_ok(lq_tokenizer_from_gguf(&t, g));
    for (int i = 0; i < LQ_ARRAY_LEN(row); i++) {
        lq_tokens tokens = LQ_TOKENS_INIT;
        lq_str back = LQ_STR_INIT;
        ck_ok(lq_tokenize(t, row[i].text, strlen(row[i].text), row[i].flags, &tokens));
        ck_assert_int_eq(tokens.n, row[i].n);
        ck_assert_mem_eq(tokens.id, row[i].id, (size_t)row[i].n * sizeof(int32_t));
        ck_ok(lq_detokenize(t, tokens.id, tokens.n, true, &back));
        ck_assert_str_eq(lq_str_text(&back), row[i].back);
        lq_str_clear(&back);
        lq_tokens_clear(&tokens);
    }
    lq_tokenizer_close(t);
    lq_gguf_close(g);
    lq_free(path);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("tokenizer_vectors");
    TCase *tc = tcase_create("tokenizer_vectors");
    suite_add_tcase(suite, tc);
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, vectors_of_llama_cpp, 0, LQ_ARRAY_LEN(table));
    tcase_add_test(tc, stories260k);
    return test_run(suite);
}
