/* hf_sentencepiece.c, hf_tekken.c: vocabularies of directories without a tokenizer.json. */
#include "hf_tokenizer.h"

#include "test_util.h"
#include "tokenizer_dir.h"
#include "vocab_fixture.h"

#include <jansson.h>
#include <nettle/base64.h>

/* ---- SentencePiece --------------------------------------------------------------------------- */

static void add_varint(lq_str *out, uint64_t v) {
    for (; v > 127; v >>= 7) lq_str_putc(out, (char)(v | 128));
    lq_str_putc(out, (char)v);
}

static void add_bytes(lq_str *out, int field, const char *s, size_t n) {
    add_varint(out, (uint64_t)field << 3 | 2);
    add_varint(out, n);
    lq_str_add(out, s, n);
}

static void add_number(lq_str *out, int field, uint64_t v) {
    add_varint(out, (uint64_t)field << 3);
    add_varint(out, v);
}

/* The pieces of g as a protocol buffer, the model's type and the space prefix behind them. */
static void make_model(lq_str *out, const lq_gguf *g, int type, bool prefix) {
    const lq_gguf_str *token = fixture_strings(g, "tokenizer.ggml.tokens");
    const char *scores = lq_gguf_find(g, "tokenizer.ggml.scores")->data;
    lq_str part = LQ_STR_INIT;
    for (uint64_t i = 0; i < lq_gguf_find(g, "tokenizer.ggml.tokens")->n; i++) {
        lq_str_reset(&part);
        add_bytes(&part, 1, token[i].s, token[i].n);
        add_varint(&part, 2 << 3 | 5);
        lq_str_add(&part, scores + 4 * i, 4);
        add_number(&part, 3, (uint64_t)fixture_type(g, i));
        add_bytes(out, 1, part.s, part.n);
    }
    lq_str_reset(&part);
    add_number(&part, 3, (uint64_t)type);
    add_bytes(out, 2, part.s, part.n);
    lq_str_reset(&part);
    add_number(&part, 3, prefix);
    add_bytes(out, 3, part.s, part.n);
    lq_str_clear(&part);
}

static lq_gguf *open_spm(void) {
    lq_gguf_writer *w;
    lq_gguf *g;
    ck_ok(fixture_spm(&w));
    ck_ok(fixture_open(&g, w, test_path("reference.gguf")));
    lq_gguf_writer_free(w);
    return g;
}

/* What the GGUF holds as user-defined and control comes from tokenizer_config.json. */
static void put_added(const lq_gguf *g) {
    const lq_gguf_str *token = fixture_strings(g, "tokenizer.ggml.tokens");
    json_t *decoder = json_object();
    for (uint64_t i = 0; i < lq_gguf_find(g, "tokenizer.ggml.tokens")->n; i++) {
        char id[32];
        snprintf(id, sizeof id, "%d", (int)i);
        if (fixture_type(g, i) == 3 || fixture_type(g, i) == 4)
            json_object_set_new(decoder, id,
                                json_pack("{s:s#, s:b}", "content", token[i].s, (int)token[i].n,
                                          "special", fixture_type(g, i) == 3));
    }
    fixture_put_json("tokenizer_config.json", json_pack("{s:o}", "added_tokens_decoder", decoder));
}

START_TEST(sentencepiece_is_read) {
    lq_tokenizer *want, *got;
    lq_gguf *g = open_spm();
    lq_str model = LQ_STR_INIT;
    fixture_start();
    make_model(&model, g, 2, true);
    fixture_put("tokenizer.model", model.s, model.n);
    put_added(g);
    ck_ok(fixture_open_dir(&got, fixture_dir));
    ck_ok(lq_tokenizer_from_gguf(&want, g));
    fixture_same_ids(got, want);
    lq_tokenizer_close(got);
    lq_tokenizer_close(want);
    fixture_put("tokenizer.model", model.s, model.n - 3);
    ck_fails(fixture_open_dir(&got, fixture_dir), LQ_EFORMAT, "a broken field");
    fixture_put("tokenizer.model", "x", 1);
    ck_fails(fixture_open_dir(&got, fixture_dir), LQ_EFORMAT, "not a SentencePiece model");
    lq_str_reset(&model);
    make_model(&model, g, 1, true);
    fixture_put("tokenizer.model", model.s, model.n);
    ck_fails(fixture_open_dir(&got, fixture_dir), LQ_EUNSUPPORTED, "of type 1 (1 is Unigram)");
    lq_str_clear(&model);
    lq_gguf_close(g);
}
END_TEST

START_TEST(gemma_has_no_space_in_front) {
    lq_gguf *g = open_spm(), *made;
    lq_gguf_writer *w;
    lq_str model = LQ_STR_INIT;
    bool prefix = true;
    fixture_start();
    make_model(&model, g, 2, true);
    fixture_put("tokenizer.model", model.s, model.n);
    fixture_put_text("config.json", "{\"architectures\": [\"Gemma2ForCausalLM\"]}");
    ck_ok(lq_gguf_writer_new(&w));
    ck_ok(lq_hf_tokenizer_metadata(w, fixture_dir));
    ck_ok(fixture_open(&made, w, test_path("made.gguf")));
    ck_ok(lq_gguf_get_bool(made, "tokenizer.ggml.add_space_prefix", true, &prefix));
    ck_assert(!prefix);
    lq_gguf_close(made);
    lq_gguf_writer_free(w);
    lq_str_clear(&model);
    lq_gguf_close(g);
}
END_TEST

/* ---- tekken ---------------------------------------------------------------------------------- */

static json_t *tekken_token(const char *bytes, size_t n) {
    char text[64];
    base64_encode_raw(text, n, (const uint8_t *)bytes);
    return json_pack("{s:s#}", "token_bytes", text, (int)BASE64_ENCODE_RAW_LENGTH(n));
}

START_TEST(tekken_is_read) {
    lq_tokenizer *t;
    lq_tokens ids = LQ_TOKENS_INIT;
    json_t *vocab = json_array();
    for (int byte = 0; byte < 256; byte++)
        json_array_append_new(vocab, tekken_token(&(char){(char)byte}, 1));
    json_array_append_new(vocab, tekken_token("he", 2));
    json_array_append_new(vocab, tekken_token("hey", 3));
    fixture_start();
    fixture_put_json("tekken.json", json_pack("{s:o, s:{s:i, s:i}}", "vocab", vocab, "config",
                                      "default_vocab_size", 278, "default_num_special_tokens", 20));
    ck_ok(fixture_open_dir(&t, fixture_dir));
    ck_assert_str_eq(lq_tokenizer_pre(t), "tekken");
    ck_assert_int_eq(lq_token_find(t, "[INST]"), 3);
    ck_ok(lq_tokenize(t, "hey he[INST]", 12, LQ_TOK_BOS | LQ_TOK_SPECIAL, &ids));
    ck_assert_int_eq(ids.n, 5);
    const int32_t want[] = {1, 277, 20 + ' ', 276, 3};
    for (int i = 0; i < 5; i++) ck_assert_int_eq(ids.id[i], want[i]);
    lq_tokens_clear(&ids);
    lq_tokenizer_close(t);
    fixture_put_text("tekken.json", "{\"vocab\": [], \"config\": {}}");
    ck_fails(fixture_open_dir(&t, fixture_dir), LQ_EFORMAT, "does not fit a vocab of 0");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("hf_vocab");
    TCase *tc = tcase_create("hf_vocab");
    tcase_add_test(tc, sentencepiece_is_read);
    tcase_add_test(tc, gemma_has_no_space_in_front);
    tcase_add_test(tc, tekken_is_read);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
