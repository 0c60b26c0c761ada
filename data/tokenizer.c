/* The tokenizer's public face: lists of tokens, text to tokens around the models' encoders, and
 * what callers ask about a vocabulary. See tokenizer.h. */
#include "tokenizer_parts.h"

#include <string.h>

void lq_tokens_clear(lq_tokens *t) {
    lq_free(t->id);
    lq_free(t->start);
    lq_free(t->end);
    *t = (lq_tokens)LQ_TOKENS_INIT;
}

/* The three arrays grow together; cap is what all of them have. */
static lq_status reserve(lq_tokens *t, int64_t want) {
    int64_t cap = t->cap;
    LQ_TRY(lq_reserve((void **)&t->id, &cap, want, sizeof *t->id));
    cap = t->cap;
    LQ_TRY(lq_reserve((void **)&t->start, &cap, want, sizeof *t->start));
    cap = t->cap;
    LQ_TRY(lq_reserve((void **)&t->end, &cap, want, sizeof *t->end));
    t->cap = cap;
    return LQ_OK;
}

lq_status lq_tokens_add(lq_tokens *t, int32_t id, int64_t start, int64_t end) {
    if (t->n == t->cap) LQ_TRY(reserve(t, t->n + 1));
    t->id[t->n] = id;
    t->start[t->n] = start;
    t->end[t->n++] = end;
    return LQ_OK;
}

static lq_status encode_spans(const lq_tokenizer *t, const char *text, const lq_span *span,
                              int64_t n_spans, lq_tokens *out) {
    for (int64_t i = 0; i < n_spans; i++) {
        const lq_span *s = &span[i];
        const bool prefix = t->space_prefix && (i == 0 || span[i - 1].id >= 0);
        if (s->id >= 0) LQ_TRY(lq_tokens_add(out, s->id, s->start, s->end));
        else
            LQ_TRY(t->model->encode(t, text + s->start, (size_t)(s->end - s->start), s->start,
                                    prefix, out));
    }
    return LQ_OK;
}

lq_status lq_tokenize(const lq_tokenizer *t, const char *text, size_t n, unsigned flags,
                      lq_tokens *out) {
    if (n > INT32_MAX / 4)
        return lq_fail(LQ_EVALUE, "text of %zu bytes: at most %d can be tokenized at once", n,
                       INT32_MAX / 4);
    const int64_t before = out->n;
    lq_span *spans = NULL;
    int64_t n_spans = 0;
    lq_status status;
    LQ_GOTO(status, lq_partition(t, text, n, (flags & LQ_TOK_SPECIAL) != 0, &spans, &n_spans));
    if ((flags & LQ_TOK_BOS) && t->add_bos) LQ_GOTO(status, lq_tokens_add(out, t->bos, 0, 0));
    LQ_GOTO(status, encode_spans(t, text, spans, n_spans, out));
    if ((flags & LQ_TOK_EOS) && t->add_eos)
        LQ_GOTO(status, lq_tokens_add(out, t->eos, (int64_t)n, (int64_t)n));
done:
    lq_free(spans);
    if (status != LQ_OK) out->n = before;
    return status;
}

lq_status lq_tokenizer_from_gguf(lq_tokenizer **out, const lq_gguf *g) {
    lq_tokenizer *t = lq_alloc(sizeof *t);
    if (!t) return LQ_EMEM;
    lq_status status;
    LQ_GOTO(status, lq_tokenizer_load_vocab(t, g));
    LQ_GOTO(status, lq_tokenizer_load_special(t, g));
    LQ_GOTO(status, lq_tokenizer_index_special(t));
    *out = t;
    return LQ_OK;
done:
    lq_tokenizer_close(t);
    return lq_fail_context(status, "%s: tokenizer: ", lq_gguf_path(g));
}

void lq_tokenizer_close(lq_tokenizer *t) {
    if (!t) return;
    lq_intern_clear(&t->strings);
    lq_splitter_free(t->splitter);
    lq_free(t->type);
    lq_free(t->score);
    lq_free(t->is_eog);
    lq_free(t->strips_right);
    lq_free(t->chat_template);
    lq_free(t->special);
    lq_free(t->merge);
    lq_free(t);
}

int32_t lq_tokenizer_n_vocab(const lq_tokenizer *t) { return t->n_vocab; }

const char *lq_token_text(const lq_tokenizer *t, int32_t id) {
    size_t n;
    return lq_intern_text(&t->strings, id, &n);
}

int lq_token_type(const lq_tokenizer *t, int32_t id) { return t->type[id]; }

int32_t lq_token_find(const lq_tokenizer *t, const char *text) {
    const int32_t id = lq_intern_find(&t->strings, text, strlen(text));
    return id < t->n_vocab ? id : -1;
}

int32_t lq_tokenizer_bos(const lq_tokenizer *t) { return t->bos; }
int32_t lq_tokenizer_eos(const lq_tokenizer *t) { return t->eos; }
int32_t lq_tokenizer_eot(const lq_tokenizer *t) { return t->eot; }
bool lq_tokenizer_adds_bos(const lq_tokenizer *t) { return t->add_bos; }
bool lq_tokenizer_adds_eos(const lq_tokenizer *t) { return t->add_eos; }
bool lq_token_is_eog(const lq_tokenizer *t, int32_t id) { return t->is_eog[id]; }
const char *lq_tokenizer_model(const lq_tokenizer *t) { return t->model->name; }
const char *lq_tokenizer_pre(const lq_tokenizer *t) { return t->pre ? t->pre->name : ""; }
const char *lq_tokenizer_chat_template(const lq_tokenizer *t) { return t->chat_template; }
const char *lq_tokenizer_fingerprint(const lq_tokenizer *t) { return t->fingerprint; }
