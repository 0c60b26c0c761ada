/* SPM, the `llama` model: characters join into the token with the highest score, ties from the
 * left; what is no token in the end becomes the byte tokens <0xHH>. Spaces are U+2581 inside, and
 * one is put in front of a text where add_space_prefix says so. Where no token of the vocabulary
 * has a space behind something else, nothing joins there, so the words are done one by one: the
 * same tokens, sooner. */
#include "tokenizer_parts.h"

#include "codepoint.h"
#include "merger.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define SPACE_MARK "\xe2\x96\x81"
enum { SPACE_MARK_BYTES = 3 };

/* <0xHH>, else the byte itself, else the unknown token (0 unless the file says otherwise). */
static int32_t byte_token(const lq_tokenizer *t, int byte) {
    char name[8];
    snprintf(name, sizeof name, "<0x%02X>", (unsigned)byte);
    const int32_t id = lq_token_find(t, name);
    if (id >= 0) return id;
    const char raw[2] = {(char)byte, 0};
    const int32_t raw_id = byte ? lq_token_find(t, raw) : -1;
    return raw_id >= 0 ? raw_id : t->unknown;
}

static bool is_mark(const char *s, size_t n) {
    return n >= SPACE_MARK_BYTES && memcmp(s, SPACE_MARK, SPACE_MARK_BYTES) == 0;
}

/* Bytes of the character at text[0..n), cut off by the end. */
static size_t character_bytes(const char *text, size_t n) {
    const size_t whole = lq_codepoint_length(text[0]);
    return whole < n ? whole : n;
}

/* Bytes of text[0..n) up to the first mark behind something else. */
static size_t word_bytes(const char *text, size_t n) {
    size_t i = 0;
    while (is_mark(text + i, n - i)) i += SPACE_MARK_BYTES;
    while (i < n && !is_mark(text + i, n - i)) i += character_bytes(text + i, n - i);
    return i;
}

static lq_status load(lq_tokenizer *t, const lq_gguf *g) {
    (void)g;
    t->spans_words = false;
    for (int32_t id = 0; id < t->n_vocab; id++) {
        size_t n;
        const char *text = lq_intern_text(&t->strings, id, &n);
        if (isnan(t->score[id]))
            return lq_fail(LQ_EFORMAT, "score of token %d ('%s') is not a number", id, text);
        if (word_bytes(text, n) < n) t->spans_words = true;
    }
    for (int byte = 0; byte < 256; byte++) t->byte_id[byte] = byte_token(t, byte);
    return LQ_OK;
}

typedef struct spm_text {
    const lq_tokenizer *t;
    const char *text;   /* with marks for spaces */
} spm_text;

static bool may_join(const void *ctx, const lq_piece *left, const lq_piece *right, double *key,
                     int32_t *id) {
    const spm_text *s = ctx;
    *id =
        lq_intern_find(&s->t->strings, s->text + left->start, (size_t)(left->bytes + right->bytes));
    if (*id < 0) return false;
    *key = -(double)s->t->score[*id];
    return true;
}

/* Walks the original text along with the marked one, where a space has three bytes. */
typedef struct cursor { const char *text; int64_t n, at, marked; } cursor;

/* How many bytes of the original have begun before byte `marked` of the marked text. */
static int64_t original(cursor *c, int64_t marked) {
    while (c->marked < marked && c->at < c->n)
        c->marked += c->text[c->at++] == ' ' ? SPACE_MARK_BYTES : 1;
    return c->at;
}

/* A text on its way through the model. */
typedef struct spm_job {
    const lq_tokenizer *t;
    lq_str marked;
    lq_merger merger;
    cursor at;
    int64_t base;
    lq_tokens *out;
} spm_job;

static lq_status emit(spm_job *job, int32_t id, int64_t start, int64_t end) {
    const int64_t from = original(&job->at, start);
    return lq_tokens_add(job->out, id, job->base + from, job->base + original(&job->at, end));
}

static lq_status emit_bytes(spm_job *job, const lq_piece *p) {
    for (int32_t i = p->start; i < p->start + p->bytes; i++)
        LQ_TRY(emit(job, job->t->byte_id[(uint8_t)job->marked.s[i]], i, i + 1));
    return LQ_OK;
}

static void mark_spaces(const char *text, size_t n, bool prefix, lq_str *out) {
    if (prefix) lq_str_add(out, SPACE_MARK, SPACE_MARK_BYTES);
    for (size_t i = 0; i < n;) {
        const char *space = memchr(text + i, ' ', n - i);
        const size_t run = space ? (size_t)(space - text) - i : n - i;
        lq_str_add(out, text + i, run);
        if (space) lq_str_add(out, SPACE_MARK, SPACE_MARK_BYTES);
        i += run + 1;
    }
}

static lq_status encode_word(spm_job *job, size_t start, size_t end) {
    const char *text = job->marked.s;
    lq_merger_reset(&job->merger);
    for (size_t i = start; i < end;) {
        const size_t bytes = character_bytes(text + i, end - i);
        const int32_t id = lq_intern_find(&job->t->strings, text + i, bytes);
        LQ_TRY(lq_merger_add(&job->merger, id, (int32_t)i, (int32_t)bytes));
        i += bytes;
    }
    const spm_text rule = {job->t, text};
    LQ_TRY(lq_merger_run(&job->merger, may_join, &rule));
    for (int32_t i = 0; i >= 0; i = job->merger.piece[i].next) {
        const lq_piece *p = &job->merger.piece[i];
        if (p->id >= 0) LQ_TRY(emit(job, p->id, p->start, p->start + p->bytes));
        else LQ_TRY(emit_bytes(job, p));
    }
    return LQ_OK;
}

static lq_status encode(const lq_tokenizer *t, const char *text, size_t n, int64_t base,
                        bool prefix, lq_tokens *out) {
    spm_job job = {
        t,    LQ_STR_INIT, LQ_MERGER_INIT, {text, (int64_t)n, 0, prefix ? SPACE_MARK_BYTES : 0},
        base, out};
    mark_spaces(text, n, prefix, &job.marked);
    lq_status status = lq_str_status(&job.marked);
    for (size_t at = 0, bytes = 0; status == LQ_OK && at < job.marked.n; at += bytes) {
        const size_t left = job.marked.n - at;
        bytes = t->spans_words ? left : word_bytes(job.marked.s + at, left);
        status = encode_word(&job, at, at + bytes);
    }
    lq_merger_clear(&job.merger);
    lq_str_clear(&job.marked);
    return status;
}

static void decode(const char *text, size_t n, lq_str *out) {
    for (size_t i = 0; i < n;) {
        const bool mark = is_mark(text + i, n - i);
        lq_str_putc(out, mark ? ' ' : text[i]);
        i += mark ? SPACE_MARK_BYTES : 1;
    }
}

const lq_vocab_kind lq_spm = {
    .name = "llama", .bos = 1, .eos = 2, .unknown = 0, .add_bos = true, .space_prefix = true,
    .clean_spaces = false, .load = load, .encode = encode, .decode = decode,
};
