/* See vocab_fixture.h. */
#include "vocab_fixture.h"

#include "codepoint.h"
#include "intern.h"
#include "str.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NORMAL = 1, UNKNOWN, CONTROL, USER, UNUSED, BYTE };

/* Tokens with types and scores, and merges, growing. All texts are kept in one string. */
typedef struct vocab {
    lq_str text;
    int64_t *start, n, cap;
    int32_t *type;
    float *score;
    int64_t cap_type, cap_score;
    lq_str merges;          /* each with a NUL behind it */
    int64_t n_merges;
} vocab;

static void add(vocab *v, const char *text, size_t n, int type, float score) {
    if (lq_reserve((void **)&v->start, &v->cap, v->n + 2, sizeof *v->start) != LQ_OK ||
        lq_reserve((void **)&v->type, &v->cap_type, v->n + 1, sizeof *v->type) != LQ_OK ||
        lq_reserve((void **)&v->score, &v->cap_score, v->n + 1, sizeof *v->score) != LQ_OK) {
        v->text.failed = true;
        return;
    }
    v->start[v->n] = (int64_t)v->text.n;
    lq_str_add(&v->text, text, n);
    v->type[v->n] = type;
    v->score[v->n++] = score;
    v->start[v->n] = (int64_t)v->text.n;
}

static void add_text(vocab *v, const char *text, int type, float score) {
    add(v, text, strlen(text), type, score);
}

static void add_merge(vocab *v, const char *line) {
    lq_str_add(&v->merges, line, strlen(line) + 1);
    v->n_merges++;
}

static void clear(vocab *v) {
    lq_str_clear(&v->text);
    lq_str_clear(&v->merges);
    lq_free(v->start);
    lq_free(v->type);
    lq_free(v->score);
}

static lq_status set_tokens(lq_gguf_writer *w, const vocab *v) {
    lq_gguf_str *s = lq_alloc_array(v->n, sizeof *s);
    if (!s) return LQ_EMEM;
    for (int64_t i = 0; i < v->n; i++)
        s[i] = (lq_gguf_str){v->text.s + v->start[i], (uint64_t)(v->start[i + 1] - v->start[i])};
    const lq_status status =
        lq_gguf_writer_set_strings(w, "tokenizer.ggml.tokens", s, (uint64_t)v->n);
    lq_free(s);
    return status;
}

static lq_status set_merges(lq_gguf_writer *w, const vocab *v) {
    lq_gguf_str *s = lq_alloc_array(v->n_merges, sizeof *s);
    if (!s) return LQ_EMEM;
    const char *line = v->merges.s;
    for (int64_t i = 0; i < v->n_merges; line += s[i++].n + 1)
        s[i] = (lq_gguf_str){line, strlen(line)};
    const lq_status status =
        lq_gguf_writer_set_strings(w, "tokenizer.ggml.merges", s, (uint64_t)v->n_merges);
    lq_free(s);
    return status;
}

static lq_status set_keys(lq_gguf_writer *w, const char *pre, const vocab *v) {
    LQ_TRY(lq_str_status(&v->text));
    LQ_TRY(lq_str_status(&v->merges));
    LQ_TRY(lq_gguf_writer_set_string(w, "general.architecture", "llama"));
    LQ_TRY(lq_gguf_writer_set_string(w, "tokenizer.ggml.model", pre ? "gpt2" : "llama"));
    LQ_TRY(set_tokens(w, v));
    LQ_TRY(lq_gguf_writer_set_array(w, "tokenizer.ggml.token_type", LQ_GGUF_I32, v->type,
                                    (uint64_t)v->n));
    if (!pre)
        return lq_gguf_writer_set_array(w, "tokenizer.ggml.scores", LQ_GGUF_F32, v->score,
                                        (uint64_t)v->n);
    LQ_TRY(lq_gguf_writer_set_string(w, "tokenizer.ggml.pre", pre));
    return set_merges(w, v);
}

/* Takes v; pre NULL: SPM. */
static lq_status make(lq_gguf_writer **out, const char *pre, vocab *v) {
    lq_gguf_writer *w = NULL;
    lq_status status = lq_gguf_writer_new(&w);
    if (status == LQ_OK) status = set_keys(w, pre, v);
    clear(v);
    if (status == LQ_OK) *out = w;
    else lq_gguf_writer_free(w);
    return status;
}

lq_status fixture_spm(lq_gguf_writer **out) {
    static const char *const piece[] = {"▁",  "h",   "e",     "l",      "o",  "a",  "ll",
                                        "he", "▁he", "▁hell", "▁hello", "▁a", "lo", "▁▁"};
    vocab v = {0};
    add_text(&v, "<unk>", UNKNOWN, 0);
    add_text(&v, "<s>", CONTROL, 0);
    add_text(&v, "</s>", CONTROL, 0);
    for (int byte = 0; byte < 256; byte++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", (unsigned)byte);
        add_text(&v, name, BYTE, 0);
    }
    for (int i = 0; i < LQ_ARRAY_LEN(piece); i++) add_text(&v, piece[i], NORMAL, -(float)i);
    add_text(&v, "<tag>", USER, 0);
    add_text(&v, "<|im_end|>", CONTROL, 0);
    return make(out, NULL, &v);
}

static void add_byte_characters(vocab *v) {
    for (int byte = 0; byte < 256; byte++) {
        char text[4];
        add(v, text, lq_codepoint_write(lq_byte_char((uint8_t)byte), text), NORMAL, 0);
    }
}

lq_status fixture_bpe(lq_gguf_writer **out, const char *pre) {
    static const char *const merge[][2] = {
        {"h e", "he"},         {"l l", "ll"}, {"he ll", "hell"}, {"hell o", "hello"},
        {"Ġ hello", "Ġhello"}, {"Ġ a", "Ġa"}, {"Ġ Ġ", "ĠĠ"}};
    vocab v = {0};
    add_byte_characters(&v);
    for (int i = 0; i < LQ_ARRAY_LEN(merge); i++) {
        add_merge(&v, merge[i][0]);
        add_text(&v, merge[i][1], NORMAL, 0);
    }
    add_text(&v, "<|endoftext|>", CONTROL, 0);
    add_text(&v, "<|im_end|>", CONTROL, 0);
    add_text(&v, "<tag>", USER, 0);
    return make(out, pre, &v);
}

char *fixture_read(const char *path, size_t *n) {
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    lq_str s = LQ_STR_INIT;
    char block[65536];
    for (size_t got; (got = fread(block, 1, sizeof block, f)) > 0;) lq_str_add(&s, block, got);
    fclose(f);
    *n = s.n;
    return lq_str_take(&s);
}

static int base64_value(char c) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* Decodes up to the first character that is no base64; returns the bytes. */
static size_t base64_decode(const char *s, char *out, size_t room) {
    uint32_t bits = 0;
    int n_bits = 0;
    size_t n = 0;
    for (; base64_value(*s) >= 0 && n < room; s++) {
        bits = bits << 6 | (uint32_t)base64_value(*s);
        n_bits += 6;
        if (n_bits >= 8) out[n++] = (char)(bits >> (n_bits -= 8));
    }
    return n;
}

static void add_characters(lq_str *out, const char *bytes, size_t n) {
    for (size_t i = 0; i < n; i++) {
        char text[4];
        lq_str_add(out, text, lq_codepoint_write(lq_byte_char((uint8_t)bytes[i]), text));
    }
}

enum { LONGEST = 512 };

/* The pair of lower-ranked tokens that the token itself is merged from: BPE with the ranks below
 * its own. */
static void add_last_merge(vocab *v, const lq_intern *ranks, int32_t rank) {
    size_t n, end[LONGEST], n_parts = 0;
    const char *token = lq_intern_text(ranks, rank, &n);
    if (n < 2) return;
    for (size_t i = 0; i < n; i++) end[n_parts++] = i + 1;
    while (n_parts > 2) {
        int32_t best = rank;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n_parts; i++) {
            const size_t start = i ? end[i - 1] : 0;
            const int32_t joined = lq_intern_find(ranks, token + start, end[i + 1] - start);
            if (joined >= 0 && joined < best) {
                best = joined;
                at = i;
            }
        }
        if (best == rank) return; /* no merges lead to it: a token only for ignore_merges */
        memmove(end + at, end + at + 1, (n_parts - at - 1) * sizeof *end);
        n_parts--;
    }
    lq_str line = LQ_STR_INIT;
    add_characters(&line, token, end[0]);
    lq_str_putc(&line, ' ');
    add_characters(&line, token + end[0], n - end[0]);
    add_merge(v, lq_str_text(&line));
    lq_str_clear(&line);
}

static void add_ranked(vocab *v, const lq_intern *ranks) {
    lq_str text = LQ_STR_INIT;
    for (int32_t rank = 0; rank < ranks->n; rank++) {
        size_t n;
        const char *token = lq_intern_text(ranks, rank, &n);
        lq_str_reset(&text);
        add_characters(&text, token, n);
        add(v, lq_str_text(&text), text.n, NORMAL, 0);
        add_last_merge(v, ranks, rank);
    }
    lq_str_clear(&text);
}

lq_status fixture_llama3(lq_gguf_writer **out, const char *tiktoken) {
    static const char *const special[] = {"<|begin_of_text|>", "<|end_of_text|>",
                                          "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"};
    vocab v = {0};
    lq_intern ranks = {0};
    size_t n;
    lq_status status = LQ_OK;
    char *file = fixture_read(tiktoken, &n);
    for (const char *line = file; line && *line && status == LQ_OK;) {
        char bytes[LONGEST];
        int32_t rank;
        status = lq_intern_add(&ranks, bytes, base64_decode(line, bytes, sizeof bytes), &rank);
        const char *end = strchr(line, '\n');
        line = end ? end + 1 : NULL;
    }
    add_ranked(&v, &ranks);
    const uint32_t bos = (uint32_t)v.n;
    for (int i = 0; i < LQ_ARRAY_LEN(special); i++) add_text(&v, special[i], CONTROL, 0);
    if (status == LQ_OK) status = make(out, "llama-bpe", &v);
    else clear(&v);
    if (status == LQ_OK) status = lq_gguf_writer_set_u32(*out, "tokenizer.ggml.bos_token_id", bos);
    if (status == LQ_OK)
        status = lq_gguf_writer_set_u32(*out, "tokenizer.ggml.eos_token_id", bos + 1);
    lq_intern_clear(&ranks);
    lq_free(file);
    return status;
}

/* vocab.json maps token to id, without gaps. */
static bool add_json_tokens(vocab *v, const char *path) {
    json_t *root = json_load_file(path, 0, NULL);
    const size_t n = json_object_size(root);
    const char **token = lq_alloc_array((int64_t)n, sizeof *token);
    const char *key;
    json_t *id;
    json_object_foreach(root, key, id) {
        const json_int_t at = json_integer_value(id);
        if (token && at >= 0 && (size_t)at < n) token[at] = key;
    }
    for (size_t i = 0; token && i < n; i++) add_text(v, token[i] ? token[i] : "", NORMAL, 0);
    lq_free(token);
    json_decref(root);
    return n > 0;
}

lq_status fixture_qwen2(lq_gguf_writer **out, const char *vocab_path, const char *merges) {
    vocab v = {0};
    size_t n;
    char *file = fixture_read(merges, &n);
    if (!add_json_tokens(&v, vocab_path) || !file) {
        clear(&v);
        lq_free(file);
        return lq_fail(LQ_EIO, "%s or %s cannot be read", vocab_path, merges);
    }
    for (char *line = strtok(file, "\n"); line; line = strtok(NULL, "\n"))
        if (strncmp(line, "#version", 8) != 0) add_merge(&v, line);
    lq_free(file);
    add_text(&v, "<|endoftext|>", CONTROL, 0);
    add_text(&v, "<|im_start|>", CONTROL, 0);
    add_text(&v, "<|im_end|>", CONTROL, 0);
    return make(out, "qwen2", &v);
}

lq_status fixture_open(lq_gguf **out, lq_gguf_writer *w, const char *path) {
    LQ_TRY(lq_gguf_writer_write(w, path));
    return lq_gguf_open(out, path);
}
