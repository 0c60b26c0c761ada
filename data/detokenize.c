/* Tokens to text, as llama_detokenize does it: the piece of every token in order, the space that
 * SPM put in front taken off, and for some BPE models the spaces around punctuation tidied. */
#include "tokenizer_parts.h"

#include <stdlib.h>
#include <string.h>

static void add_piece(const lq_tokenizer *t, int32_t id, bool special, lq_str *out) {
    size_t n;
    const char *text = lq_intern_text(&t->strings, id, &n);
    switch (t->type[id]) {
    case LQ_TOKEN_NORMAL: t->model->decode(text, n, out); break;
    case LQ_TOKEN_USER: lq_str_add(out, text, n); break;
    case LQ_TOKEN_BYTE: lq_str_putc(out, (char)strtol(text + 3, NULL, 16)); break; /* <0xHH> */
    case LQ_TOKEN_CONTROL:
    case LQ_TOKEN_UNKNOWN:
        if (special) lq_str_add(out, text, n);
        break;
    default: break; /* unused */
    }
}

static lq_status check_id(const lq_tokenizer *t, int32_t id) {
    if (id >= 0 && id < t->n_vocab) return LQ_OK;
    return lq_fail(LQ_EVALUE, "token %d is not in the vocabulary of %d", id, t->n_vocab);
}

lq_status lq_token_piece(const lq_tokenizer *t, int32_t id, bool special, lq_str *out) {
    LQ_TRY(check_id(t, id));
    add_piece(t, id, special, out);
    return lq_str_status(out);
}

/* May the space before s[i] go? */
typedef bool (*space_rule)(const char *s, size_t n, size_t i);

static bool before_punctuation(const char *s, size_t n, size_t i) {
    (void)n;
    return s[i] == '?' || s[i] == '!' || s[i] == '.' || s[i] == ',';
}

/* 's 'm 're 've, but not 't 'd 'll. */
static bool before_contraction(const char *s, size_t n, size_t i) {
    if (s[i] != '\'' || i + 1 >= n) return false;
    if (s[i + 1] == 's' || s[i + 1] == 'm') return true;
    return i + 2 < n && (s[i + 1] == 'r' || s[i + 1] == 'v') && s[i + 2] == 'e';
}

/* What is read lies at or behind what is written, so every s[i - 1] is still the old one. */
static size_t drop_spaces(char *s, size_t n, space_rule rule) {
    size_t kept = n ? 1 : 0;
    for (size_t i = 1; i < n; i++) {
        if (s[i - 1] == ' ' && rule(s, n, i)) kept--;
        s[kept++] = s[i];
    }
    return kept;
}

/* Takes the spaces away around an apostrophe that stands alone; a space can go only once. */
static size_t close_apostrophes(char *s, size_t n) {
    size_t kept = n ? 1 : 0;
    for (size_t i = 1; i < n; i++) {
        const bool alone = s[i] == '\'' && i + 1 < n && s[i - 1] == ' ' && s[i + 1] == ' ';
        if (alone) kept--;
        s[kept++] = s[i];
        if (alone) s[++i] = 0;
    }
    return kept;
}

static void tidy_spaces(lq_str *out, size_t from) {
    char *s = out->s + from;
    size_t n = drop_spaces(s, out->n - from, before_punctuation);
    n = close_apostrophes(s, n);
    n = drop_spaces(s, n, before_contraction);
    out->n = from + n;
    out->s[out->n] = 0;
}

static void drop_first_space(lq_str *out, size_t from) {
    if (out->failed || out->n == from || out->s[from] != ' ') return;
    memmove(out->s + from, out->s + from + 1, out->n - from); /* with the NUL */
    out->n--;
}

lq_status lq_detokenize(const lq_tokenizer *t, const int32_t *ids, int64_t n, bool special,
                        lq_str *out) {
    const size_t from = out->n;
    for (int64_t i = 0; i < n; i++) {
        LQ_TRY(check_id(t, ids[i]));
        add_piece(t, ids[i], special, out);
        if (i == 0 && t->space_prefix) drop_first_space(out, from);
    }
    LQ_TRY(lq_str_status(out));
    if (t->clean_spaces && out->n > from) tidy_spaces(out, from);
    return LQ_OK;
}
