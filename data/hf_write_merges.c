/* The merges of a tokenizer.json. Byte-level BPE has them. SPM has scores: it joins the neighbours
 * whose token has the best one, so every cut of every token into two tokens is a merge, the best
 * token's first. Tokens with equal scores (runs of spaces in Llama 2's) are joined from the left,
 * which lets the first of them grow as long as it can: the longer token goes first. */
#include "codepoint.h"
#include "hf_write_parts.h"

#include <stdlib.h>
#include <string.h>

typedef struct cut { float score; int32_t bytes, id, left, right; } cut;
typedef struct cut_list { cut *at; int64_t n, cap; } cut_list;

/* ---- byte-level BPE -------------------------------------------------------------------------- */

static bool is_token(const lq_tokenizer *t, const char *s, size_t n) {
    const int32_t id = lq_intern_find(&t->strings, s, n);
    return id >= 0 && id < t->n_vocab;
}

/* "left right"; read before (bpe.c), so there is a space. */
static lq_status add_bpe_merge(lq_str *out, const lq_tokenizer *t, const lq_gguf_str *line,
                               lq_str *joined) {
    const char *space = memchr(line->s + 1, ' ', line->n - 1), *right = space + 1;
    const size_t n_left = (size_t)(space - line->s), n_right = line->n - n_left - 1;
    lq_str_reset(joined);
    lq_str_add(joined, line->s, n_left);
    lq_str_add(joined, right, n_right);
    LQ_TRY(lq_str_status(joined));
    if (!is_token(t, line->s, n_left) || !is_token(t, right, n_right) ||
        !is_token(t, joined->s, joined->n))
        return lq_fail(LQ_EUNSUPPORTED, "the merge '%.*s' is of strings that are no tokens",
                       (int)(line->n < 100 ? line->n : 100), line->s);
    lq_str_putc(out, '[');
    LQ_TRY(lq_json_quote(out, line->s, n_left));
    lq_str_puts(out, ", ");
    LQ_TRY(lq_json_quote(out, right, n_right));
    lq_str_putc(out, ']');
    return LQ_OK;
}

lq_status lq_hf_bpe_merges(lq_str *out, const lq_tokenizer *t, const lq_gguf *g) {
    const lq_gguf_kv *kv = lq_gguf_find(g, "tokenizer.ggml.merges");
    lq_str joined = LQ_STR_INIT;
    lq_status status = LQ_OK;
    for (uint64_t i = 0; i < kv->n && status == LQ_OK; i++) {
        lq_str_puts(out, i ? ",\n" : "\n");
        status = add_bpe_merge(out, t, (const lq_gguf_str *)kv->data + i, &joined);
    }
    lq_str_clear(&joined);
    return status;
}

/* ---- SPM ------------------------------------------------------------------------------------- */

static lq_status add_cuts(cut_list *list, const lq_tokenizer *t, int32_t id) {
    size_t n;
    const char *text = lq_intern_text(&t->strings, id, &n);
    for (size_t k = lq_codepoint_length(text[0]); k < n; k += lq_codepoint_length(text[k])) {
        const int32_t left = lq_intern_find(&t->strings, text, k);
        const int32_t right = lq_intern_find(&t->strings, text + k, n - k);
        if (left < 0 || right < 0) continue;
        LQ_TRY(lq_reserve((void **)&list->at, &list->cap, list->n + 1, sizeof *list->at));
        list->at[list->n++] = (cut){t->score[id], (int32_t)n, id, left, right};
    }
    return LQ_OK;
}

static int best_first(const void *a, const void *b) {
    const cut *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    if (x->bytes != y->bytes) return x->bytes > y->bytes ? -1 : 1;
    if (x->id != y->id) return x->id < y->id ? -1 : 1;
    return (x->left > y->left) - (x->left < y->left);
}

static lq_status add_spm_merge(lq_str *out, const lq_tokenizer *t, const cut *c) {
    lq_str_putc(out, '[');
    LQ_TRY(lq_json_quote_token(out, t, c->left));
    lq_str_puts(out, ", ");
    LQ_TRY(lq_json_quote_token(out, t, c->right));
    lq_str_putc(out, ']');
    return LQ_OK;
}

lq_status lq_hf_spm_merges(lq_str *out, const lq_tokenizer *t) {
    cut_list list = {NULL, 0, 0};
    lq_status status = LQ_OK;
    for (int32_t id = 0; id < t->n_vocab && status == LQ_OK; id++) status = add_cuts(&list, t, id);
    if (status == LQ_OK && list.n) qsort(list.at, (size_t)list.n, sizeof *list.at, best_first);
    for (int64_t i = 0; i < list.n && status == LQ_OK; i++) {
        lq_str_puts(out, i ? ",\n" : "\n");
        status = add_spm_merge(out, t, &list.at[i]);
    }
    lq_free(list.at);
    return status;
}
