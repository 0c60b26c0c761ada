/* tekken.json, Mistral's own form of a byte-level vocabulary: tokens as base64 in order of rank,
 * behind a block of special tokens. Merges are not stored; they follow from the ranks. */
#include "hf_vocab.h"

#include "codepoint.h"
#include "intern.h"
#include "json_file.h"
#include "tokenizer_parts.h"

#include <nettle/base64.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BOS = 1, EOS = 2, UNKNOWN = 0, PADDING = 11 };

/* What the ids at the front are in files that do not list them. */
static const char *const first_specials[] = {
    "<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]",
    "[IMG_END]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]",
    "[TOOL_CONTENT]",
};

typedef struct ranks {
    lq_intern token;         /* the number of a token is its rank */
    lq_str text;             /* for one token: its bytes; then as characters */
} ranks;

static lq_status decode(const json_t *entry, int64_t rank, lq_str *out) {
    const json_t *v = lq_hf_get(entry, "token_bytes");
    const size_t n = json_string_length(v);
    size_t n_bytes = BASE64_DECODE_LENGTH(n);
    struct base64_decode_ctx context;
    uint8_t *bytes = lq_alloc(n_bytes + 1);
    if (!bytes) return LQ_EMEM;
    base64_decode_init(&context);
    const bool good = json_is_string(v) && n &&
                      base64_decode_update(&context, &n_bytes, bytes, n, json_string_value(v)) &&
                      base64_decode_final(&context) && n_bytes;
    lq_str_reset(out);
    if (good) lq_str_add(out, (const char *)bytes, n_bytes);
    lq_free(bytes);
    if (good) return lq_str_status(out);
    return lq_fail(LQ_EFORMAT, "tekken.json: vocab %lld: 'token_bytes' must be base64, not empty",
                   (long long)rank);
}

static void as_characters(const char *bytes, size_t n, lq_str *out) {
    for (size_t i = 0; i < n; i++) {
        char text[4];
        lq_str_add(out, text, lq_codepoint_write(lq_byte_char((uint8_t)bytes[i]), text));
    }
}

static lq_status read_tokens(lq_hf_vocab *v, const json_t *list, int64_t n, int64_t n_special,
                             ranks *r) {
    for (int64_t rank = 0; rank < n; rank++) {
        int32_t number;
        LQ_TRY(decode(json_array_get(list, (size_t)rank), rank, &r->text));
        LQ_TRY(lq_intern_add(&r->token, r->text.s, r->text.n, &number));
        if (number != rank)
            return lq_fail(LQ_EFORMAT, "tekken.json: vocab %lld is the same as %d", (long long)rank,
                           number);
        const size_t n_bytes = r->text.n;
        lq_str shown = LQ_STR_INIT;
        as_characters(r->text.s, n_bytes, &shown);
        lq_status status = lq_str_status(&shown);
        if (status == LQ_OK)
            status = lq_hf_vocab_set(v, n_special + rank, shown.s, shown.n, 0, LQ_TOKEN_NORMAL);
        lq_str_clear(&shown);
        LQ_TRY(status);
    }
    return LQ_OK;
}

static lq_status read_specials(lq_hf_vocab *v, const json_t *list, int64_t n) {
    for (int64_t id = 0; id < n; id++) {
        char filler[32];
        const int length = snprintf(filler, sizeof filler, "<SPECIAL_%lld>", (long long)id);
        const bool known = id < LQ_ARRAY_LEN(first_specials) && !list;
        const char *text = known ? first_specials[id] : filler;
        LQ_TRY(lq_hf_vocab_set(v, id, text, known ? strlen(text) : (size_t)length, 0,
                               LQ_TOKEN_CONTROL));
    }
    size_t i;
    json_t *entry;
    json_array_foreach((json_t *)list, i, entry) {
        const char *text = json_string_value(lq_hf_get(entry, "token_str"));
        const int64_t id = json_integer_value(lq_hf_get(entry, "rank"));
        if (!text || id < 0 || id >= n)
            return lq_fail(LQ_EFORMAT, "tekken.json: special token %zu must have a token_str and a "
                           "rank below %lld", i, (long long)n);
        LQ_TRY(lq_hf_vocab_set(v, id, text, strlen(text), 0, LQ_TOKEN_CONTROL));
    }
    return LQ_OK;
}

typedef struct cut { int32_t left, right; size_t at; } cut;

static int by_ranks(const void *a, const void *b) {
    const cut *x = a, *y = b;
    if (x->left != y->left) return x->left < y->left ? -1 : 1;
    return x->right < y->right ? -1 : x->right > y->right;
}

/* Every way to cut a token into two others is a merge; tokens in order of rank, and of one token
 * the parts with the lower ranks first. */
static lq_status merge_token(lq_hf_vocab *v, ranks *r, int32_t rank, cut *cuts) {
    size_t n, n_cuts = 0;
    const char *s = lq_intern_text(&r->token, rank, &n);
    for (size_t at = 1; at < n; at++) {
        const int32_t left = lq_intern_find(&r->token, s, at);
        const int32_t right = lq_intern_find(&r->token, s + at, n - at);
        if (left >= 0 && right >= 0) cuts[n_cuts++] = (cut){left, right, at};
    }
    qsort(cuts, n_cuts, sizeof *cuts, by_ranks);
    for (size_t i = 0; i < n_cuts; i++) {
        lq_str_reset(&r->text);
        as_characters(s, cuts[i].at, &r->text);
        const size_t n_left = r->text.n;
        as_characters(s + cuts[i].at, n - cuts[i].at, &r->text);
        LQ_TRY(lq_str_status(&r->text));
        LQ_TRY(lq_hf_vocab_merge(v, r->text.s, n_left, r->text.s + n_left, r->text.n - n_left));
    }
    return LQ_OK;
}

static lq_status add_merges(lq_hf_vocab *v, ranks *r) {
    size_t longest = 1;
    for (int32_t i = 0; i < r->token.n; i++) {
        size_t n;
        lq_intern_text(&r->token, i, &n);
        if (n > longest) longest = n;
    }
    cut *cuts = lq_alloc_array((int64_t)longest, sizeof *cuts);
    lq_status status = cuts ? LQ_OK : LQ_EMEM;
    for (int32_t i = 256; i < r->token.n && status == LQ_OK; i++)
        status = merge_token(v, r, i, cuts);
    lq_free(cuts);
    return status;
}

static lq_status set_keys(lq_gguf_writer *w) {
    LQ_TRY(lq_gguf_writer_set_u32(w, "tokenizer.ggml.bos_token_id", BOS));
    LQ_TRY(lq_gguf_writer_set_u32(w, "tokenizer.ggml.eos_token_id", EOS));
    LQ_TRY(lq_gguf_writer_set_u32(w, "tokenizer.ggml.unknown_token_id", UNKNOWN));
    LQ_TRY(lq_gguf_writer_set_u32(w, "tokenizer.ggml.padding_token_id", PADDING));
    LQ_TRY(lq_gguf_writer_set_bool(w, "tokenizer.ggml.add_bos_token", true));
    return lq_gguf_writer_set_bool(w, "tokenizer.ggml.add_eos_token", false);
}

static lq_status read_parts(lq_hf_vocab *v, const json_t *file, ranks *r) {
    const json_t *config = lq_hf_get(file, "config"), *list = lq_hf_get(file, "vocab");
    const int64_t n_all = json_integer_value(lq_hf_get(config, "default_vocab_size"));
    const int64_t n_special = json_integer_value(lq_hf_get(config, "default_num_special_tokens"));
    const int64_t n = n_all - n_special;
    if (n_special <= PADDING || n < 256 || (uint64_t)n > json_array_size(list))
        return lq_fail(LQ_EFORMAT,
                       "tekken.json: default_vocab_size %lld with %lld special tokens does not fit "
                       "a vocab of %zu", (long long)n_all, (long long)n_special,
                       json_array_size(list));
    LQ_TRY(read_specials(v, lq_hf_get(file, "special_tokens"), n_special));
    LQ_TRY(read_tokens(v, list, n, n_special, r));
    return add_merges(v, r);
}

lq_status lq_hf_read_tekken(lq_hf_vocab *v, const lq_hf_files *f, lq_gguf_writer *w) {
    json_t *file = NULL;
    ranks r = {.text = LQ_STR_INIT};
    v->pre = "tekken";
    lq_status status = lq_json_read(&file, f->dir, "tekken.json", true);
    if (status == LQ_OK) status = read_parts(v, file, &r);
    if (status == LQ_OK) status = set_keys(w);
    lq_intern_clear(&r.token);
    lq_str_clear(&r.text);
    json_decref(file);
    return status;
}
