/* Byte-level BPE, the `gpt2` model: the pre-tokenizer cuts the text into words; in each, the bytes
 * (as the printable characters that stand for them) join pair by pair, the pair listed first in the
 * merges first. All strings are interned, so a pair is two numbers. */
#include "tokenizer_parts.h"

#include "codepoint.h"
#include "merger.h"

#include <string.h>

static lq_merge *merge_slot(const lq_tokenizer *t, uint64_t pair) {
    const uint64_t mask = (UINT64_C(1) << t->merge_bits) - 1;
    for (uint64_t i = (pair * UINT64_C(0x9E3779B97F4A7C15)) >> (64 - t->merge_bits);;
         i = (i + 1) & mask)
        if (t->merge[i].pair == pair || t->merge[i].pair == LQ_NO_PAIR) return &t->merge[i];
}

static uint64_t pair_of(int32_t left, int32_t right) {
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

/* "left right", cut at the first space that is not its first character. */
static lq_status add_merge(lq_tokenizer *t, int32_t rank, const lq_gguf_str *line, lq_str *joined) {
    const char *space = line->n > 1 ? memchr(line->s + 1, ' ', line->n - 1) : NULL;
    if (!space || space + 1 == line->s + line->n)
        return lq_fail(LQ_EFORMAT, "merge %d is '%.*s', must be two strings with a space between",
                       rank, (int)(line->n < 100 ? line->n : 100), line->s);
    const size_t n_left = (size_t)(space - line->s), n_right = line->n - n_left - 1;
    int32_t left, right, result;
    LQ_TRY(lq_intern_add(&t->strings, line->s, n_left, &left));
    LQ_TRY(lq_intern_add(&t->strings, space + 1, n_right, &right));
    lq_str_reset(joined);
    lq_str_add(joined, line->s, n_left);
    lq_str_add(joined, space + 1, n_right);
    LQ_TRY(lq_str_status(joined));
    LQ_TRY(lq_intern_add(&t->strings, joined->s, joined->n, &result));
    lq_merge *slot = merge_slot(t, pair_of(left, right));
    if (slot->pair == LQ_NO_PAIR) *slot = (lq_merge){pair_of(left, right), rank, result};
    return LQ_OK;
}

static lq_status load_merges(lq_tokenizer *t, const lq_gguf *g) {
    const char *key = "tokenizer.ggml.merges";
    const lq_gguf_kv *kv = lq_gguf_find(g, key);
    if (!kv) return lq_fail(LQ_EFORMAT, "key %s is missing", key);
    if (kv->type != LQ_GGUF_ARRAY || kv->elem != LQ_GGUF_STRING)
        return lq_fail(LQ_EFORMAT, "key %s must be an array of strings", key);
    if (kv->n > INT32_MAX / 4)
        return lq_fail(LQ_EFORMAT, "%llu merges: too many", (unsigned long long)kv->n);
    for (t->merge_bits = 1; UINT64_C(1) << t->merge_bits < 2 * kv->n; t->merge_bits++) continue;
    t->merge = lq_alloc_array(INT64_C(1) << t->merge_bits, sizeof *t->merge);
    if (!t->merge) return LQ_EMEM;
    for (int64_t i = 0; i < INT64_C(1) << t->merge_bits; i++) t->merge[i].pair = LQ_NO_PAIR;
    lq_str joined = LQ_STR_INIT;
    lq_status status = LQ_OK;
    for (uint64_t i = 0; i < kv->n && status == LQ_OK; i++)
        status = add_merge(t, (int32_t)i, (const lq_gguf_str *)kv->data + i, &joined);
    lq_str_clear(&joined);
    return status;
}

static lq_status load(lq_tokenizer *t, const lq_gguf *g) {
    LQ_TRY(load_merges(t, g));
    for (int byte = 0; byte < 256; byte++) {
        const char raw = (char)byte;
        char text[4];
        const size_t n = lq_codepoint_write(lq_byte_char((uint8_t)byte), text);
        LQ_TRY(lq_intern_add(&t->strings, text, n, &t->byte_id[byte]));
        t->raw_byte_id[byte] = lq_intern_find(&t->strings, &raw, 1);
        if (t->raw_byte_id[byte] >= t->n_vocab) t->raw_byte_id[byte] = -1;
    }
    return lq_splitter_new(&t->splitter, t->pre);
}

static bool may_join(const void *ctx, const lq_piece *left, const lq_piece *right, double *key,
                     int32_t *id) {
    const lq_merge *m = merge_slot(ctx, pair_of(left->id, right->id));
    if (m->pair == LQ_NO_PAIR) return false;
    *key = m->rank;
    *id = m->result;
    return true;
}

/* A text on its way: whole UTF-8, and where each of its bytes came from. */
typedef struct bpe_text {
    const lq_tokenizer *t;
    lq_str clean;       /* empty: the text itself is whole */
    int32_t *origin;    /* (clean.n + 1), when there is one */
    int64_t cap_origin;
    const char *text;
    size_t n;
    int64_t base;
    lq_merger merger;
    lq_str word;        /* as characters that stand for bytes */
    lq_tokens *out;
} bpe_text;

static lq_status emit(bpe_text *b, int32_t id, int64_t start, int64_t end) {
    if (b->origin)
        return lq_tokens_add(b->out, id, b->base + b->origin[start], b->base + b->origin[end]);
    return lq_tokens_add(b->out, id, b->base + start, b->base + end);
}

/* A string that merges make but that is no token: its stored bytes one by one, dropped when they
 * are no tokens. */
static lq_status emit_bytes(bpe_text *b, int64_t start, int64_t n) {
    for (int64_t i = start; i < start + n; i++) {
        char stored[4];
        const size_t n_stored = lq_codepoint_write(lq_byte_char((uint8_t)b->text[i]), stored);
        int64_t from = i;
        for (size_t k = 0; k < n_stored; k++) {
            const int32_t id = b->t->raw_byte_id[(uint8_t)stored[k]];
            if (id < 0) continue;
            LQ_TRY(emit(b, id, from, i + 1));
            from = i + 1;
        }
    }
    return LQ_OK;
}

/* The word as it would stand in the vocabulary, or -1. */
static int32_t whole_word(bpe_text *b, const char *word, size_t n) {
    if (n > (size_t)b->t->longest) return -1;
    lq_str_reset(&b->word);
    for (size_t i = 0; i < n; i++) {
        char text[4];
        lq_str_add(&b->word, text, lq_codepoint_write(lq_byte_char((uint8_t)word[i]), text));
    }
    const int32_t id = lq_intern_find(&b->t->strings, lq_str_text(&b->word), b->word.n);
    return id < b->t->n_vocab ? id : -1;
}

static lq_status encode_word(bpe_text *b, int64_t start, int32_t n) {
    const lq_tokenizer *t = b->t;
    if (t->pre->flags & LQ_PRE_IGNORE_MERGES) {
        const int32_t id = whole_word(b, b->text + start, (size_t)n);
        LQ_TRY(lq_str_status(&b->word));
        if (id >= 0) return emit(b, id, start, start + n);
    }
    lq_merger_reset(&b->merger);
    for (int32_t i = 0; i < n; i++)
        LQ_TRY(lq_merger_add(&b->merger, t->byte_id[(uint8_t)b->text[start + i]], i, 1));
    LQ_TRY(lq_merger_run(&b->merger, may_join, t));
    for (int32_t i = 0; i >= 0; i = b->merger.piece[i].next) {
        const lq_piece *p = &b->merger.piece[i];
        if (p->id < t->n_vocab)
            LQ_TRY(emit(b, p->id, start + p->start, start + p->start + p->bytes));
        else LQ_TRY(emit_bytes(b, start + p->start, p->bytes));
    }
    return LQ_OK;
}

/* Writes what is no UTF-8 as U+FFFD and overlong forms short. A character that changed length has
 * all its bytes in the origin of its first. */
static lq_status clean_up(bpe_text *b, const char *text, size_t n) {
    for (size_t i = 0; i < n;) {
        uint32_t code;
        char utf8[4];
        const size_t used = lq_codepoint_read(text + i, n - i, &code),
                     bytes = lq_codepoint_write(code, utf8);
        LQ_TRY(lq_reserve((void **)&b->origin, &b->cap_origin, (int64_t)b->clean.n + 5,
                          sizeof *b->origin));
        for (size_t k = 0; k < bytes; k++)
            b->origin[b->clean.n + k] = (int32_t)(k < used ? i + k : i + used);
        lq_str_add(&b->clean, utf8, bytes);
        LQ_TRY(lq_str_status(&b->clean));
        i += used;
        b->origin[b->clean.n] = (int32_t)i;
    }
    b->text = b->clean.s;
    b->n = b->clean.n;
    return LQ_OK;
}

static bool is_clean(const char *text, size_t n) {
    for (size_t i = 0; i < n;) {
        uint32_t code;
        char utf8[4];
        const size_t used = (uint8_t)text[i] < 0x80 ? 1 : lq_codepoint_read(text + i, n - i, &code);
        if ((uint8_t)text[i] >= 0x80 && lq_codepoint_write(code, utf8) != used) return false;
        i += used;
    }
    return true;
}

static lq_status encode(const lq_tokenizer *t, const char *text, size_t n, int64_t base,
                        bool prefix, lq_tokens *out) {
    (void)prefix;
    bpe_text b = {t, LQ_STR_INIT, NULL, 0, text, n, base, LQ_MERGER_INIT, LQ_STR_INIT, out};
    int32_t *words = NULL;
    int64_t n_words = 0, at = 0;
    lq_status status;
    if (!is_clean(text, n)) LQ_GOTO(status, clean_up(&b, text, n));
    LQ_GOTO(status, lq_splitter_run(t->splitter, b.text, b.n, &words, &n_words));
    for (int64_t i = 0; i < n_words; at += words[i++])
        LQ_GOTO(status, encode_word(&b, at, words[i]));
done:
    lq_free(words);
    lq_free(b.origin);
    lq_str_clear(&b.clean);
    lq_str_clear(&b.word);
    lq_merger_clear(&b.merger);
    return status;
}

/* A character that stands for no byte is shown as llama.cpp shows it. */
static void decode(const char *text, size_t n, lq_str *out) {
    for (size_t i = 0; i < n;) {
        uint32_t code;
        i += lq_codepoint_read(text + i, n - i, &code);
        const int byte = lq_char_byte(code);
        if (byte >= 0) {
            lq_str_putc(out, (char)byte);
            continue;
        }
        char utf8[4];
        const size_t bytes = lq_codepoint_write(code, utf8);
        lq_str_puts(out, "[UNK_BYTE_0x");
        for (size_t k = 0; k < bytes; k++) lq_str_printf(out, "%02x", (unsigned)(uint8_t)utf8[k]);
        lq_str_add(out, text, n);
        lq_str_putc(out, ']');
    }
}

const lq_vocab_kind lq_bpe = {
    .name = "gpt2", .bos = 11, .eos = 11, .unknown = -1, .add_bos = false, .space_prefix = false,
    .clean_spaces = true, .load = load, .encode = encode, .decode = decode,
};
