/* tokenizer.c and the files behind it on two small vocabularies. The ids and texts are llama.cpp's
 * for the same files (tests/conformance/check_tokenizer.py compares on random texts). */
#include "tokenizer.h"

#include "codepoint.h"
#include "pretokenizer.h"
#include "test_util.h"
#include "vocab_fixture.h"

#include <string.h>

enum { BOS_EOS = LQ_TOK_BOS | LQ_TOK_EOS, ALL = BOS_EOS | LQ_TOK_SPECIAL, MAX_IDS = 48 };

/* Takes w. */
static lq_status open_tokenizer(lq_tokenizer **t, lq_gguf_writer *w) {
    lq_gguf *g = NULL;
    lq_status status = fixture_open(&g, w, test_path("vocab.gguf"));
    if (status == LQ_OK) status = lq_tokenizer_from_gguf(t, g);
    lq_gguf_close(g);
    lq_gguf_writer_free(w);
    return status;
}

static lq_tokenizer *open_spm(void) {
    lq_gguf_writer *w = NULL;
    lq_tokenizer *t = NULL;
    ck_ok(fixture_spm(&w));
    ck_ok(open_tokenizer(&t, w));
    return t;
}

static lq_tokenizer *open_bpe(const char *pre) {
    lq_gguf_writer *w = NULL;
    lq_tokenizer *t = NULL;
    ck_ok(fixture_bpe(&w, pre));
    ck_ok(open_tokenizer(&t, w));
    return t;
}

typedef struct sample {
    const char *text;
    unsigned flags;
    const char *ids;   /* in decimal, a space before each */
    const char *back;  /* detokenized with special tokens shown */
} sample;

static void check_ids(const lq_tokenizer *t, const char *text, size_t n, unsigned flags,
                      const char *want) {
    lq_tokens tokens = LQ_TOKENS_INIT;
    lq_str got = LQ_STR_INIT;
    ck_ok(lq_tokenize(t, text, n, flags, &tokens));
    for (int64_t i = 0; i < tokens.n; i++) lq_str_printf(&got, " %d", tokens.id[i]);
    ck_assert_msg(strcmp(lq_str_text(&got), want) == 0, "'%s': got%s, wanted%s", text,
                  lq_str_text(&got), want);
    lq_str_clear(&got);
    lq_tokens_clear(&tokens);
}

static void check_samples(const lq_tokenizer *t, const sample *row, int n) {
    for (int i = 0; i < n; i++) {
        lq_tokens tokens = LQ_TOKENS_INIT;
        lq_str back = LQ_STR_INIT;
        check_ids(t, row[i].text, strlen(row[i].text), row[i].flags, row[i].ids);
        ck_ok(lq_tokenize(t, row[i].text, strlen(row[i].text), row[i].flags, &tokens));
        ck_ok(lq_detokenize(t, tokens.id, tokens.n, true, &back));
        ck_assert_str_eq(lq_str_text(&back), row[i].back);
        lq_str_clear(&back);
        lq_tokens_clear(&tokens);
    }
}

START_TEST(spm_samples) {
    static const sample row[] = {
        {"", 0, "", ""},
        {"", BOS_EOS, " 1", "<s>"},
        {"hello hello", 0, " 269 269", "hello hello"},
        {" hello", 0, " 259 269", " hello"},
        {"  a", 0, " 272 270", "  a"},
        {"a<tag> hello", 0, " 270 273 259 269", "a<tag>  hello"},
        {"a<tag> hello", ALL, " 1 270 273 259 269", "<s> a<tag>  hello"},
        {"<|im_end|>hello", 0, " 259 63 127 108 112 98 261 113 103 127 65 266 265 263",
         "<|im_end|>hello"},
        {"<|im_end|>hello", ALL, " 1 274 269", "<s><|im_end|> hello"},
        {"</s> a", ALL, " 1 2 259 270", "<s></s>  a"},
        {"h\xc3\xa9llo", 0, " 259 260 198 172 265 263", "h\xc3\xa9llo"},
        {"<0x0A>", 0, " 259 63 51 123 51 68 65", "<0x0A>"},
        {"\xff", 0, " 259 258", "\xff"},
        {"a\xe4 ", 0, " 270 231 229 153 132", "a\xe4\xe2\x96\x81"},
        {"\xe2\x96\x81"
         "a",
         0, " 259 270", " a"},
    };
    lq_tokenizer *t = open_spm();
    check_samples(t, row, LQ_ARRAY_LEN(row));
    lq_tokenizer_close(t);
}
END_TEST

START_TEST(bpe_samples) {
    static const sample row[] = {
        {"", ALL, "", ""},
        {"hello hello", BOS_EOS, " 259 260", "hello hello"},
        {"a<tag> hello", 0, " 97 265 260", "a<tag> hello"},
        {"<|im_end|>hello", 0, " 60 124 105 109 95 101 110 100 124 62 259", "<|im_end|>hello"},
        {"<|im_end|>hello", ALL, " 264 259", "<|im_end|>hello"},
        {"   a", 0, " 262 261", "   a"},
        {"h\xc3\xa9", 0, " 104 195 169", "h\xc3\xa9"},
        {"\xff", 0, " 239 191 189", "\xef\xbf\xbd"},
        {"a\xe4 ", 0, " 97 239 191 189 32", "a\xef\xbf\xbd "},
        {"\xed\xa0\x80", 0, " 237 160 128", "\xed\xa0\x80"},
        {"a , b . ' c 's d 'm 't", 0,
         " 97 32 44 32 98 32 46 32 39 32 99 32 39 115 32 100 32 39 109 32 39 116",
         "a, b.'c's d'm 't"},
        {"a 're 've 'll ?! ' ' '", 0,
         " 97 32 39 114 101 32 39 118 101 32 39 257 32 63 33 32 39 32 39 32 39",
         "a're've 'll?!'' '"},
    };
    lq_tokenizer *t = open_bpe("gpt-2");
    check_samples(t, row, LQ_ARRAY_LEN(row));
    check_ids(t, "\xc0\x80", 2, 0, " 0");
    check_ids(t, "a\0b", 3, 0, " 97 0 98");
    lq_tokenizer_close(t);
}
END_TEST

/* BOS and EOS as the file says; a model may have neither. */
START_TEST(adds_bos_and_eos) {
    lq_gguf_writer *w = NULL;
    lq_tokenizer *t = NULL;
    ck_ok(fixture_bpe(&w, "gpt-2"));
    ck_ok(lq_gguf_writer_set_u32(w, "tokenizer.ggml.bos_token_id", 263));
    ck_ok(lq_gguf_writer_set_u32(w, "tokenizer.ggml.eos_token_id", 264));
    ck_ok(lq_gguf_writer_set_bool(w, "tokenizer.ggml.add_bos_token", true));
    ck_ok(lq_gguf_writer_set_bool(w, "tokenizer.ggml.add_eos_token", true));
    ck_ok(lq_gguf_writer_set_string(w, "tokenizer.chat_template", "{{ x }}"));
    ck_ok(open_tokenizer(&t, w));
    ck_assert(lq_tokenizer_adds_bos(t) && lq_tokenizer_adds_eos(t));
    ck_assert_str_eq(lq_tokenizer_chat_template(t), "{{ x }}");
    check_ids(t, "hello", 5, BOS_EOS, " 263 259 264");
    check_ids(t, "hello", 5, LQ_TOK_EOS, " 259 264");
    check_ids(t, "hello", 5, 0, " 259");
    lq_tokenizer_close(t);
}
END_TEST

START_TEST(what_callers_ask) {
    lq_tokenizer *t = open_spm();
    ck_assert_int_eq(lq_tokenizer_n_vocab(t), 275);
    ck_assert_str_eq(lq_tokenizer_model(t), "llama");
    ck_assert_str_eq(lq_tokenizer_pre(t), "");
    ck_assert_ptr_null(lq_tokenizer_chat_template(t));
    ck_assert_int_eq(lq_tokenizer_bos(t), 1);
    ck_assert_int_eq(lq_tokenizer_eos(t), 2);
    ck_assert_int_eq(lq_tokenizer_eot(t), 274);
    ck_assert(lq_tokenizer_adds_bos(t) && !lq_tokenizer_adds_eos(t));
    ck_assert(lq_token_is_eog(t, 2) && lq_token_is_eog(t, 274) && !lq_token_is_eog(t, 1));
    ck_assert_int_eq(lq_token_find(t, "<tag>"), 273);
    ck_assert_int_eq(lq_token_find(t, "nothing"), -1);
    ck_assert_str_eq(lq_token_text(t, 273), "<tag>");
    ck_assert_int_eq(lq_token_type(t, 273), 4);
    lq_tokenizer_close(t);
    t = open_bpe("qwen2");
    ck_assert_str_eq(lq_tokenizer_pre(t), "qwen2");
    ck_assert_int_eq(lq_token_find(t, "Ġhello"), 260);
    lq_tokenizer_close(t);
}
END_TEST

START_TEST(pieces) {
    lq_tokenizer *t = open_spm();
    lq_str s = LQ_STR_INIT;
    ck_ok(lq_token_piece(t, 269, false, &s));
    ck_ok(lq_token_piece(t, 2, false, &s));
    ck_ok(lq_token_piece(t, 2, true, &s));
    ck_ok(lq_token_piece(t, 3 + 'A', false, &s));
    ck_assert_str_eq(lq_str_text(&s), " hello</s>A");
    ck_fails(lq_token_piece(t, 275, false, &s), LQ_EVALUE,
             "token 275 is not in the vocabulary of 275");
    ck_fails(lq_detokenize(t, (const int32_t[]){-1}, 1, false, &s), LQ_EVALUE, "token -1");
    lq_str_reset(&s);
    ck_ok(lq_detokenize(t, (const int32_t[]){1, 269, 269, 2}, 4, false, &s));
    ck_assert_str_eq(lq_str_text(&s),
                     " hello hello"); /* the space goes only from the very first token */
    lq_str_clear(&s);
    lq_tokenizer_close(t);
}
END_TEST

/* The text that the tokens stand for, from start to end without a hole, each token's bytes its own.
 */
static void check_offsets(const lq_tokenizer *t, const char *text, size_t n) {
    lq_tokens tokens = LQ_TOKENS_INIT;
    ck_ok(lq_tokenize(t, text, n, ALL, &tokens));
    int64_t at = 0;
    for (int64_t i = 0; i < tokens.n; i++) {
        ck_assert_int_eq(tokens.start[i], at);
        ck_assert_int_ge(tokens.end[i], at);
        at = tokens.end[i];
    }
    ck_assert_int_eq(at, (int64_t)n);
    lq_tokens_clear(&tokens);
}

START_TEST(offsets_cover_the_text) {
    static const char *const text[] = {
        "hello  hello", " a<tag>  h\xc3\xa9llo\n",   "<|im_end|>\xff\xff x", "a\xe4 b", "\xc0\x80z",
        "\xed\xa0\x80", "\xe2\x96\x81 \xe2\x96\x81", "\xf0\x9f\x91\x8d",     "</s><s>"};
    lq_tokenizer *spm = open_spm(), *bpe = open_bpe("llama-bpe"), *many = open_bpe("deepseek-llm");
    for (int i = 0; i < LQ_ARRAY_LEN(text); i++) {
        check_offsets(spm, text[i], strlen(text[i]));
        check_offsets(bpe, text[i], strlen(text[i]));
        check_offsets(many, text[i], strlen(text[i]));
    }
    lq_tokens tokens = LQ_TOKENS_INIT;
    ck_ok(lq_tokenize(spm, "hello<tag> a", 12, BOS_EOS, &tokens));
    static const int64_t start[] = {0, 0, 5, 10, 10}, end[] = {0, 5, 10, 10, 12};
    ck_assert_int_eq(tokens.n, 5); /* <s> ▁hello <tag> ▁ ▁a */
    ck_assert_mem_eq(tokens.start, start, sizeof start);
    ck_assert_mem_eq(tokens.end, end, sizeof end);
    lq_tokens_clear(&tokens);
    lq_tokenizer_close(spm);
    lq_tokenizer_close(bpe);
    lq_tokenizer_close(many);
}
END_TEST

/* A vocabulary of `n` texts, all of one type, SPM unless there are merges. */
static lq_tokenizer *open_texts(const char *const *text, int n, const char *key, uint32_t value) {
    lq_gguf_str s[MAX_IDS];
    lq_gguf_writer *w = NULL;
    lq_tokenizer *t = NULL;
    for (int i = 0; i < n; i++) s[i] = (lq_gguf_str){text[i], strlen(text[i])};
    ck_ok(lq_gguf_writer_new(&w));
    ck_ok(lq_gguf_writer_set_string(w, "general.architecture", "llama"));
    ck_ok(lq_gguf_writer_set_string(w, "tokenizer.ggml.model", "llama"));
    ck_ok(lq_gguf_writer_set_strings(w, "tokenizer.ggml.tokens", s, (uint64_t)n));
    ck_ok(lq_gguf_writer_set_bool(w, "tokenizer.ggml.add_bos_token", false));
    if (key) ck_ok(lq_gguf_writer_set_u32(w, key, value));
    ck_ok(open_tokenizer(&t, w));
    return t;
}

START_TEST(without_byte_tokens) {
    static const char *const text[] = {"<unk>", "▁", "a", "\xc3\xa9", "<0x62>", "x", ""};
    lq_tokenizer *t = open_texts(text, LQ_ARRAY_LEN(text), NULL, 0);
    check_ids(t, "a\xc3\xa9" "bxc\xc3\xa8", 8, 0, " 1 2 3 4 5 0 0 0");
    ck_assert_str_eq(lq_token_text(t, 6), "[EMPTY_6]");
    lq_tokenizer_close(t);
}
END_TEST

/* Ids outside the vocabulary are ignored: the default stays, or nothing when that is outside too.
 */
START_TEST(special_ids_outside) {
    static const char *const text[] = {"<unk>", "<s>"};
    lq_tokenizer *t =
        open_texts(text, LQ_ARRAY_LEN(text), "tokenizer.ggml.bos_token_id", UINT32_MAX);
    ck_assert_int_eq(lq_tokenizer_bos(t), 1);
    ck_assert_int_eq(lq_tokenizer_eos(t), -1);
    lq_tokenizer_close(t);
}
END_TEST

/* Endings that two families take back, and Phi-3's white space. */
START_TEST(families) {
    static const char *const harmony[] = {"<unk>",   "<|return|>", "<|call|>",
                                          "<|end|>", "<|start|>",  "</s>"};
    lq_tokenizer *t = open_texts(harmony, LQ_ARRAY_LEN(harmony), NULL, 0);
    ck_assert(lq_token_is_eog(t, 1) && lq_token_is_eog(t, 2) && !lq_token_is_eog(t, 3) &&
              lq_token_is_eog(t, 5));
    ck_assert_int_eq(lq_token_type(t, 3), 4);
    ck_assert_int_eq(lq_token_type(t, 4), 4);
    lq_tokenizer_close(t);
    static const char *const gemma[] = {"<unk>", "<|tool_response>", "</s>"};
    t = open_texts(gemma, LQ_ARRAY_LEN(gemma), NULL, 0);
    ck_assert(lq_token_is_eog(t, 1) && !lq_token_is_eog(t, 2));
    ck_assert_int_eq(lq_token_type(t, 2), 1);
    lq_tokenizer_close(t);
    lq_gguf_writer *w = NULL;
    ck_ok(fixture_spm(&w));
    ck_ok(lq_gguf_writer_set_string(w, "general.name", "Phi-3 Mini"));
    ck_ok(open_tokenizer(&t, w));
    check_ids(t, "<|im_end|> \n<s> \thello<tag>", 27, LQ_TOK_SPECIAL,
              " 274 1 272 12 266 265 263 273");
    check_offsets(t, "<|im_end|> \n<s> \thello<tag>  ", 29);
    lq_tokenizer_close(t);
}
END_TEST

START_TEST(every_pretokenizer_compiles) {
    for (int i = 0; lq_pre_at(i); i++) {
        lq_splitter *s = NULL;
        int32_t *words = NULL;
        int64_t n = 0, total = 0;
        static const char text[] =
            "It's 12345 caf\xc3\xa9s,  \n\xe4\xbd\xa0\xe5\xa5\xbd\xe3\x80\x82 "
            "\xf0\x9f\x91\x8d\xf0\x91\xbc\x82 ";
        ck_ok(lq_splitter_new(&s, lq_pre_at(i)));
        ck_ok(lq_splitter_run(s, text, sizeof text - 1, &words, &n));
        for (int64_t k = 0; k < n; k++) total += words[k];
        ck_assert_int_eq(total, (int64_t)sizeof text - 1);
        ck_assert_int_gt(n, 3);
        ck_assert_ptr_eq(lq_pre_find(lq_pre_at(i)->name), lq_pre_at(i));
        lq_free(words);
        lq_splitter_free(s);
    }
    ck_assert_ptr_null(lq_pre_find("kimi-k2"));
}
END_TEST

/* Characters newer than PCRE2's tables: U+11F02 is a letter, U+180E no white space. */
START_TEST(newer_characters) {
    static const struct { const char *text; int32_t word[3];
    } row[] = {
        {"a\xf0\x91\xbc\x82"
         "b 1",
         {6, 1, 1}},
        {"a\xe1\xa0\x8e"
         "b",
         {1, 3, 1}},
        {"1\xf0\x9e\x93\xb3", {5}},
        {"a\xed\xa0\x80", {1, 3}},
    };
    lq_splitter *s = NULL;
    ck_ok(lq_splitter_new(&s, lq_pre_find("gpt-2")));
    for (int i = 0; i < LQ_ARRAY_LEN(row); i++) {
        int32_t *words = NULL;
        int64_t n = 0;
        ck_ok(lq_splitter_run(s, row[i].text, strlen(row[i].text), &words, &n));
        for (int64_t k = 0; k < n; k++)
            ck_assert_int_eq(words[k], i == 0 && k == 1 ? 2 : row[i].word[k]);
        lq_free(words);
    }
    lq_splitter_free(s);
}
END_TEST

START_TEST(bytes_and_characters) {
    for (int byte = 0; byte < 256; byte++)
        ck_assert_int_eq(lq_char_byte(lq_byte_char((uint8_t)byte)), byte);
    static const struct {
        uint32_t code;
        int byte;
    } row[] = {{' ', -1},     {0x120, ' '}, {0x10A, '\n'}, {0x100, 0}, {0x121, 0x7F},
               {0x143, 0xAD}, {0x144, -1},  {'~', '~'},    {0xAD, -1}};
    for (int i = 0; i < LQ_ARRAY_LEN(row); i++)
        ck_assert_int_eq(lq_char_byte(row[i].code), row[i].byte);
}
END_TEST

START_TEST(whole_characters) {
    static const struct { const char *s; size_t want;
    } row[] = {
        {"", 0},
        {"abc", 3},
        {"a\xc3", 1},
        {"a\xc3\xa9", 3},
        {"\xe4\xbd", 0},
        {"\xe4\xbd\xa0", 3},
        {"x\xf0\x9f\x91", 1},
        {"x\xf0\x9f\x91\x8d", 5},
        {"\x80\x80\x80\x80", 4},
        {"a\xff", 2},
        {"\xc0", 1},
        {"\xe4"
         "a",
         2},
        {"\xf0\x9f", 0},
        {"\xe0\x80", 2},
        {"\xed\xa0", 2},
        {"\xf4\x90", 2},
        {"\xf0\x80\x80", 3},
    };
    for (int i = 0; i < LQ_ARRAY_LEN(row); i++)
        ck_assert_uint_eq(lq_utf8_complete(row[i].s, strlen(row[i].s)), row[i].want);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("tokenizer");
    TCase *tc = tcase_create("tokenizer");
    suite_add_tcase(suite, tc);
    tcase_add_test(tc, spm_samples);
    tcase_add_test(tc, bpe_samples);
    tcase_add_test(tc, adds_bos_and_eos);
    tcase_add_test(tc, what_callers_ask);
    tcase_add_test(tc, pieces);
    tcase_add_test(tc, offsets_cover_the_text);
    tcase_add_test(tc, without_byte_tokens);
    tcase_add_test(tc, special_ids_outside);
    tcase_add_test(tc, families);
    tcase_add_test(tc, every_pretokenizer_compiles);
    tcase_add_test(tc, newer_characters);
    tcase_add_test(tc, bytes_and_characters);
    tcase_add_test(tc, whole_characters);
    return test_run(suite);
}
