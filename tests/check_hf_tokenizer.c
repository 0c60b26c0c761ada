/* hf_*.c: directories written here become the tokenizers that they describe, or are refused with
 * the reason. The same vocabulary as GGUF (vocab_fixture.h) is the reference for the ids. */
#include "hf_tokenizer.h"

#include "test_util.h"
#include "tokenizer_dir.h"
#include "vocab_fixture.h"

#include <jansson.h>
#include <string.h>

/* A byte-level tokenizer.json of the same vocabulary; the components are JSON text. */
static json_t *byte_level_json(const lq_gguf *g, const char *normalizer, const char *pre) {
    json_t *vocab = json_object(), *merges = json_array(), *added = json_array();
    const lq_gguf_str *token = fixture_strings(g, "tokenizer.ggml.tokens");
    for (uint64_t i = 0; i < lq_gguf_find(g, "tokenizer.ggml.tokens")->n; i++) {
        char *text = lq_strndup(token[i].s, token[i].n);
        json_object_set_new(vocab, text, json_integer((json_int_t)i));
        if (fixture_type(g, i) != 1)
            json_array_append_new(added,
                                  json_pack("{s:I, s:s, s:b}", "id", (json_int_t)i, "content",
                                            text, "special", fixture_type(g, i) == 3));
        lq_free(text);
    }
    const lq_gguf_str *merge = fixture_strings(g, "tokenizer.ggml.merges");
    for (uint64_t i = 0; i < lq_gguf_find(g, "tokenizer.ggml.merges")->n; i++)
        json_array_append_new(merges, json_stringn(merge[i].s, merge[i].n));
    return json_pack("{s:o, s:o, s:o, s:{s:s, s:b, s:o, s:o}}", "normalizer",
                     json_loads(normalizer, JSON_DECODE_ANY, NULL), "pre_tokenizer",
                     json_loads(pre, JSON_DECODE_ANY, NULL), "added_tokens", added, "model", "type",
                     "BPE", "ignore_merges", 0, "vocab", vocab, "merges", merges);
}

static lq_gguf *open_bpe(const char *pre) {
    lq_gguf_writer *w;
    lq_gguf *g;
    ck_ok(fixture_bpe(&w, pre));
    ck_ok(fixture_open(&g, w, test_path("reference.gguf")));
    lq_gguf_writer_free(w);
    return g;
}

#define BYTES "{\"type\": \"ByteLevel\", \"use_regex\": false}"
#define SPLIT(regex) "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"" regex "\"}, " \
    "\"behavior\": \"Isolated\", \"invert\": false}, "
#define SEQUENCE(steps) "{\"type\": \"Sequence\", \"pretokenizers\": [" steps "]}"
#define CONTRACTION "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define TAIL " ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define WORD "[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+"

typedef struct pre_case { const char *pre, *steps; } pre_case;

static const pre_case pre_cases[] = {
    {"gpt-2", "{\"type\": \"ByteLevel\"}"},
    {"smollm",
     SEQUENCE("{\"type\": \"Digits\", \"individual_digits\": true}, {\"type\": \"ByteLevel\"}")},
    {"qwen2", SEQUENCE(SPLIT(CONTRACTION "|" WORD "|\\\\p{N}|" TAIL) BYTES)},
    {"dbrx", SEQUENCE(SPLIT(CONTRACTION "|" WORD "|\\\\p{N}{1,3}|" TAIL) BYTES)},
    {"falcon", SEQUENCE("{\"type\": \"Punctuation\", \"behavior\": \"Contiguous\"}, {\"type\": "
                        "\"ByteLevel\"}, {\"type\": \"Digits\", \"individual_digits\": false}, "
                        SPLIT("[0-9][0-9][0-9]") BYTES)},
    {"deepseek-coder",
     SEQUENCE(SPLIT("[\\r\\n]") SPLIT("\\\\s?\\\\p{L}+") SPLIT("\\\\s?\\\\p{P}+")
              SPLIT("[一-龥ࠀ-一가-퟿]+") "{\"type\": \"Digits\", \"individual_digits\": true}, " BYTES)},
};

START_TEST(byte_level_is_read) {
    lq_tokenizer *want, *got;
    lq_gguf *g = open_bpe(pre_cases[_i].pre);
    fixture_start();
    fixture_put_json("tokenizer.json",
                     byte_level_json(g, "{\"type\": \"NFC\"}", pre_cases[_i].steps));
    ck_ok(fixture_open_dir(&got, fixture_dir));
    ck_ok(lq_tokenizer_from_gguf(&want, g));
    ck_assert_str_eq(lq_tokenizer_pre(got), pre_cases[_i].pre);
    fixture_same_ids(got, want);
    lq_tokenizer_close(got);
    lq_tokenizer_close(want);
    lq_gguf_close(g);
}
END_TEST

START_TEST(vocab_json_and_merges_are_read) {
    lq_tokenizer *want, *got;
    lq_gguf *g = open_bpe("gpt-2");
    fixture_start();
    json_t *all = byte_level_json(g, "null", "null"), *model = json_object_get(all, "model");
    json_t *decoder = json_object(), *entry;
    lq_str lines = LQ_STR_INIT;
    size_t i;
    json_array_foreach(json_object_get(all, "added_tokens"), i, entry) {
        char id[32];
        snprintf(id, sizeof id, "%d", (int)json_integer_value(json_object_get(entry, "id")));
        json_object_set(decoder, id, entry);
    }
    lq_str_puts(&lines, "#version: 0.2\n");
    json_array_foreach(json_object_get(model, "merges"), i, entry)
        lq_str_printf(&lines, "%s\r\n", json_string_value(entry));
    fixture_put_json("vocab.json", json_incref(json_object_get(model, "vocab")));
    fixture_put_text("merges.txt", lq_str_text(&lines));
    json_decref(all);
    lq_str_clear(&lines);
    ck_fails(fixture_open_dir(&got, fixture_dir), LQ_EUNSUPPORTED, "tokenizer_class '(none)'");
    fixture_put_json("tokenizer_config.json",
             json_pack("{s:s, s:o}", "tokenizer_class", "GPT2TokenizerFast",
                       "added_tokens_decoder", decoder));
    ck_ok(fixture_open_dir(&got, fixture_dir));
    ck_ok(lq_tokenizer_from_gguf(&want, g));
    fixture_same_ids(got, want);
    lq_tokenizer_close(got);
    lq_tokenizer_close(want);
    lq_gguf_close(g);
}
END_TEST

/* The merges of "ab", then of "abc"; "bc" is no merge, so it must lose to "ab". */
START_TEST(merges_become_scores) {
    lq_tokenizer *t;
    lq_tokens ids = LQ_TOKENS_INIT;
    fixture_start();
    fixture_put_text("tokenizer.json",
             "{\"normalizer\": {\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, "
             "\"content\": \"\\u2581\"}, \"model\": {\"type\": \"BPE\", \"byte_fallback\": "
             "true, \"unk_token\": \"<unk>\", \"vocab\": {\"<unk>\": 0, \"<s>\": 1, \"</s>\": 2,"
             " \"a\": 3, \"b\": 4, \"c\": 5, \"bc\": 6, \"ab\": 7, \"abc\": 8, \"<0x41>\": 9,"
             " \"\\u2581\": 10}, \"merges\": [[\"a\", \"b\"], \"ab c\"]}}");
    ck_ok(fixture_open_dir(&t, fixture_dir));
    ck_ok(lq_tokenize(t, "abcbcab", 7, 0, &ids));
    ck_assert_int_eq(ids.n, 3);
    ck_assert_int_eq(ids.id[0], 8);
    ck_assert_int_eq(ids.id[1], 6);
    ck_assert_int_eq(ids.id[2], 7);
    ck_assert_int_eq(lq_token_type(t, 0), 2);
    ck_assert_int_eq(lq_token_type(t, 9), 6);
    lq_tokens_clear(&ids);
    lq_tokenizer_close(t);
}
END_TEST

/* ---- special tokens and templates ---- */

static char *string_at(const lq_gguf *g, const char *key) {
    char *s = NULL;
    ck_ok(lq_gguf_get_string(g, key, true, &s));
    return s;
}

START_TEST(specials_and_templates_are_read) {
    lq_gguf *g = open_bpe("gpt-2");
    lq_gguf_writer *w;
    uint32_t id = 0;
    bool add_bos = false;
    fixture_start();
    json_t *tokenizer = byte_level_json(g, "null", pre_cases[0].steps);
    json_object_set_new(
        tokenizer, "post_processor",
        json_loads("{\"type\": \"Sequence\", \"processors\": [{\"type\": \"ByteLevel\"}, "
                   "{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": "
                   "\"<|endoftext|>\"}}, {\"Sequence\": {\"id\": \"A\"}}]}]}", 0, NULL));
    fixture_put_json("tokenizer.json", tokenizer);
    fixture_put_text("tokenizer_config.json", "{\"bos_token\": {\"content\": \"<|endoftext|>\"}, "
             "\"eos_token\": \"<|im_end|>\", \"add_bos_token\": false}");
    fixture_put_text("config.json",
                     "{\"vocab_size\": 300, \"pad_token_id\": 5, \"eos_token_id\": [1, 2]}");
    fixture_put_text("chat_template.jinja", "{{ 1 }}");
    lq_gguf_close(g);
    ck_ok(lq_gguf_writer_new(&w));
    ck_ok(lq_hf_tokenizer_metadata(w, fixture_dir));
    ck_ok(fixture_open(&g, w, test_path("converted.gguf")));
    ck_ok(lq_gguf_get_u32(g, "tokenizer.ggml.bos_token_id", true, &id));
    ck_assert(memcmp(fixture_strings(g, "tokenizer.ggml.tokens")[id].s, "<|endoftext|>", 13) == 0);
    ck_ok(lq_gguf_get_u32(g, "tokenizer.ggml.eos_token_id", true, &id));
    ck_assert(memcmp(fixture_strings(g, "tokenizer.ggml.tokens")[id].s, "<|im_end|>", 10) == 0);
    ck_ok(lq_gguf_get_u32(g, "tokenizer.ggml.padding_token_id", true, &id));
    ck_assert_int_eq(id, 5);
    ck_ok(lq_gguf_get_bool(g, "tokenizer.ggml.add_bos_token", true, &add_bos));
    ck_assert_msg(add_bos, "the post-processor counts");
    ck_assert_int_eq(lq_gguf_find(g, "tokenizer.ggml.tokens")->n, 300);
    ck_assert_int_eq(fixture_type(g, 299), 5);
    char *template = string_at(g, "tokenizer.chat_template");
    ck_assert_str_eq(template, "{{ 1 }}");
    lq_free(template);
    lq_gguf_close(g);
    fixture_put_text("tokenizer_config.json",
             "{\"chat_template\": [{\"name\": \"default\", \"template\": \"d\"}, {\"name\": "
             "\"tool use\", \"template\": \"t\"}]}");
    ck_ok(lq_hf_tokenizer_metadata(w, fixture_dir));
    ck_ok(fixture_open(&g, w, test_path("converted.gguf")));
    template = string_at(g, "tokenizer.chat_template.tool_use");
    ck_assert_str_eq(template, "t");
    lq_free(template);
    lq_gguf_close(g);
    lq_gguf_writer_free(w);
}
END_TEST

/* ---- separators ---- */

#define TOKEN(t) "{\"SpecialToken\": {\"id\": \"" t "\"}}"
#define TEXT(t) "{\"Sequence\": {\"id\": \"" t "\"}}"
#define PAIR(single, pair) \
    "{\"type\": \"TemplateProcessing\", \"single\": [" single "], \"pair\": [" pair "]}"
#define BOS TOKEN("<|endoftext|>")
#define EOS TOKEN("<|im_end|>")

/* add -1: there is no such key. */
static const struct { const char *processor; int add, id_is_eos; } pairs[] = {
    {PAIR(TEXT("A"), TEXT("A") ", " TEXT("B")), -1, 0},
    {PAIR(BOS "," TEXT("A"), BOS "," TEXT("A") "," BOS "," TEXT("B")), 0, 0},
    {PAIR(BOS "," TEXT("A"), BOS "," TEXT("A") "," EOS "," TEXT("B")), 1, 1},
    {PAIR(TEXT("A") "," EOS, TEXT("A") "," EOS "," TEXT("B") "," EOS), 0, 0},
    {PAIR(TEXT("A") "," EOS, TEXT("A") "," EOS "," EOS "," TEXT("B") "," EOS), 1, 1},
};

START_TEST(separators_are_read) {
    lq_gguf *g = open_bpe("gpt-2");
    lq_gguf_writer *w;
    bool add = false;
    fixture_start();
    json_t *tokenizer = byte_level_json(g, "null", "{\"type\": \"ByteLevel\"}");
    json_object_set_new(tokenizer, "post_processor", json_loads(pairs[_i].processor, 0, NULL));
    fixture_put_json("tokenizer.json", tokenizer);
    fixture_put_text("tokenizer_config.json",
                "{\"bos_token\": \"<|endoftext|>\", \"eos_token\": \"<|im_end|>\"}");
    lq_gguf_close(g);
    ck_ok(lq_gguf_writer_new(&w));
    ck_ok(lq_hf_tokenizer_metadata(w, fixture_dir));
    ck_ok(fixture_open(&g, w, test_path("converted.gguf")));
    ck_assert_int_eq(lq_gguf_find(g, "tokenizer.ggml.add_sep_token") != NULL, pairs[_i].add >= 0);
    ck_ok(lq_gguf_get_bool(g, "tokenizer.ggml.add_sep_token", false, &add));
    ck_assert_int_eq(add, pairs[_i].add > 0);
    uint32_t sep = 0, eos = 1;
    const bool found = lq_gguf_find(g, "tokenizer.ggml.seperator_token_id") != NULL;
    ck_assert_int_eq(found, pairs[_i].id_is_eos);
    ck_ok(lq_gguf_get_u32(g, "tokenizer.ggml.seperator_token_id", false, &sep));
    ck_ok(lq_gguf_get_u32(g, "tokenizer.ggml.eos_token_id", true, &eos));
    ck_assert(!pairs[_i].id_is_eos || sep == eos);
    lq_gguf_close(g);
    lq_gguf_writer_free(w);
}
END_TEST

/* ---- refusals ---- */

typedef struct bad_case {
    const char *file, *text;
    lq_status status;
    const char *message;
} bad_case;

#define MODEL "\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1}, \"merges\": []}"

static const bad_case bad_cases[] = {
    {"x", "", LQ_EIO, "there is no tokenizer"},
    {"tokenizer.json", "{\n\n]", LQ_EFORMAT, "tokenizer.json:3: broken JSON"},
    {"tokenizer.json", "{\"model\": {\"type\": \"Unigram\"}}", LQ_EUNSUPPORTED,
     "model type 'Unigram' is not supported"},
    {"tokenizer.json", "{\"normalizer\": {\"type\": \"Lowercase\"}, " MODEL "}", LQ_EUNSUPPORTED,
     "normalizer {\"type\":\"Lowercase\"} has no equivalent"},
    {"tokenizer.json", "{\"decoder\": {\"type\": \"Sequence\", \"decoders\": [{\"type\": "
     "\"New\"}]}, " MODEL "}", LQ_EUNSUPPORTED, "decoder of type 'New' is not known"},
    {"tokenizer.json", "{\"post_processor\": {\"type\": \"New\"}, " MODEL "}", LQ_EUNSUPPORTED,
     "post_processor of type 'New' is not known"},
    {"tokenizer.json", "{\"pre_tokenizer\": {\"type\": \"Whitespace\"}, " MODEL "}",
     LQ_EUNSUPPORTED, "pre_tokenizer {\"type\":\"Whitespace\"} has no equivalent"},
    {"tokenizer.json", "{\"pre_tokenizer\": " SEQUENCE(SPLIT("x+") BYTES) ", " MODEL "}",
     LQ_EUNSUPPORTED, "its steps are:\nx+"},
    {"tokenizer.json", "{" MODEL "}", LQ_EUNSUPPORTED, "neither byte-level BPE"},
    {"tokenizer.json", "{\"pre_tokenizer\": {\"type\": \"ByteLevel\"}, \"model\": {\"vocab\": "
     "{\"a\": 0}, \"merges\": [\"ab\"]}}", LQ_EFORMAT, "merge 0 must be"},
    {"tokenizer.json", "{\"pre_tokenizer\": {\"type\": \"ByteLevel\"}, \"model\": {\"vocab\": "
     "{\"a\": -1}, \"merges\": []}}", LQ_EFORMAT, "token 'a' has id -1"},
    {"tokenizer.json", "{\"pre_tokenizer\": {\"type\": \"ByteLevel\"}, \"model\": {\"vocab\": "
     "{\"a\": 99999999999}, \"merges\": []}}", LQ_EFORMAT, "must be 0 to"},
    {"tokenizer.json", "{\"pre_tokenizer\": {\"type\": \"ByteLevel\"}, \"model\": {\"vocab\": {},"
     " \"merges\": []}}", LQ_EFORMAT, "missing or empty"},
    {"tokenizer.json", "{\"added_tokens\": [{\"id\": 2}], \"pre_tokenizer\": {\"type\": "
     "\"ByteLevel\"}, " MODEL "}", LQ_EFORMAT, "added token 2: 'content'"},
};

START_TEST(broken_directories_are_refused) {
    lq_tokenizer *t;
    fixture_start();
    fixture_put_text(bad_cases[_i].file, bad_cases[_i].text);
    ck_fails(fixture_open_dir(&t, fixture_dir), bad_cases[_i].status, bad_cases[_i].message);
}
END_TEST

START_TEST(tokens_outside_the_model_are_refused) {
    lq_tokenizer *t;
    fixture_start();
    fixture_put_text("tokenizer.json", "{\"pre_tokenizer\": {\"type\": \"ByteLevel\"}, " MODEL "}");
    fixture_put_text("config.json", "{\"vocab_size\": 1}");
    ck_fails(fixture_open_dir(&t, fixture_dir), LQ_EFORMAT,
             "token 1 is outside vocab_size, which is 1");
}
END_TEST

/* ---- memory ---- */

/* Jansson's failures are not ours to inject here; what it gives is parsed again every time. */
static lq_status convert_once(void *ctx) {
    lq_tokenizer *t = NULL;
    const lq_status status = fixture_open_dir(&t, ctx);
    lq_tokenizer_close(t);
    return status;
}

START_TEST(failed_allocations_are_clean) {
    fixture_start();
    fixture_put_text("tokenizer.json",
                     "{\"pre_tokenizer\": {\"type\": \"ByteLevel\"}, \"added_tokens\": "
                     "[{\"id\": 3, \"content\": \"<x>\"}], " MODEL "}");
    fixture_put_text("tokenizer_config.json", "{\"chat_template\": \"x\", \"eos_token\": \"<x>\"}");
    test_alloc_failures(convert_once, fixture_dir);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("hf_tokenizer");
    TCase *tc = tcase_create("hf_tokenizer");
    tcase_add_loop_test(tc, byte_level_is_read, 0, LQ_ARRAY_LEN(pre_cases));
    tcase_add_test(tc, vocab_json_and_merges_are_read);
    tcase_add_test(tc, merges_become_scores);
    tcase_add_test(tc, specials_and_templates_are_read);
    tcase_add_loop_test(tc, separators_are_read, 0, LQ_ARRAY_LEN(pairs));
    tcase_add_loop_test(tc, broken_directories_are_refused, 0, LQ_ARRAY_LEN(bad_cases));
    tcase_add_test(tc, tokens_outside_the_model_are_refused);
    tcase_add_test(tc, failed_allocations_are_clean);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
