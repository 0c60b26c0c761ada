/* See perplexity.h. Chunks are independent sequences; logits of one chunk are all that is ever
 * held. */
#include "perplexity.h"

#include "logits_file.h"

#include <math.h>
#include <string.h>

typedef struct scan {
    const lq_perplexity_options *o;
    loquat_model *s;
    int64_t n_ctx, n_chunk, V;
    const int32_t *tokens;       /* (n_chunk * n_ctx) */
    int32_t *window;             /* (n_ctx) tokens with BOS in front */
    lq_logits_writer *writer;    /* NULL: not saving */
    lq_logits_reader *base;      /* NULL: no logits file to compare with */
    float *base_log_p;           /* (V); NULL: not comparing */
} scan;

/* Base log-probabilities of the next position: from the file, or from the reference's logits. */
static lq_status next_base_row(scan *c, const float *reference_row) {
    if (c->base) return lq_logits_read(c->base, c->base_log_p);
    lq_log_softmax(reference_row, c->base_log_p, c->V);
    return LQ_OK;
}

static lq_status score_chunk(scan *c, const int32_t *tokens, lq_perplexity *sum) {
    const lq_tokenizer *tok = c->s->model->tokenizer;
    const float *logits, *reference = NULL; /* (n_ctx, V) */
    memcpy(c->window, tokens, (size_t)c->n_ctx * sizeof *tokens);
    if (lq_tokenizer_adds_bos(tok)) c->window[0] = lq_tokenizer_bos(tok);
    LQ_TRY(lq_session_forward(c->s, c->window, c->n_ctx, &logits));
    if (c->o->reference)
        LQ_TRY(lq_session_forward(c->o->reference, c->window, c->n_ctx, &reference));
    for (int64_t j = c->n_ctx / 2; j < c->n_ctx - 1; j++) {
        const float *row = logits + j * c->V;
        const double lse = lq_log_sum_exp(row, c->V), nll = lse - (double)row[tokens[j + 1]];
        if (!isfinite(nll))
            return lq_fail(LQ_ENONFINITE, "the loss at position %lld is not finite", (long long)j);
        sum->nll += nll;
        sum->nll_squared += nll * nll;
        sum->tokens++;
        if (c->writer) LQ_TRY(lq_logits_write(c->writer, row));
        if (!c->base_log_p) continue;
        LQ_TRY(next_base_row(c, reference ? reference + j * c->V : NULL));
        lq_divergence_add(&sum->divergence, c->base_log_p, row, lse, c->V, tokens[j + 1]);
    }
    return LQ_OK;
}

/* The text without one trailing newline, as llama-perplexity reads it. */
static lq_status read_tokens(const lq_tokenizer *tok, const char *path, lq_tokens *out) {
    char *text = NULL;
    size_t n;
    LQ_TRY(lq_read_file(&text, &n, path));
    if (n > 0 && text[n - 1] == '\n') n--;
    const lq_status status = lq_tokenize(tok, text, n, LQ_TOK_BOS | LQ_TOK_EOS, out);
    lq_free(text);
    return status;
}

static lq_status plan_chunks(scan *c, const lq_tokens *text) {
    if (text->n / 2 < c->n_ctx)
        return lq_fail(
            LQ_EVALUE, "%s: has %lld tokens; perplexity with a context of %lld needs twice as many",
            c->o->text_path, (long long)text->n, (long long)c->n_ctx);
    c->n_chunk = text->n / c->n_ctx;
    if (c->o->chunks > 0 && c->o->chunks < c->n_chunk) c->n_chunk = c->o->chunks;
    c->tokens = text->id;
    return LQ_OK;
}

/* The file's own tokens are scored; a text given with it must be the one it was made from. */
static lq_status same_text(const scan *c, const lq_tokens *text) {
    const int64_t n = c->base->n_chunk * c->base->n_ctx;
    for (int64_t i = 0; i < n; i++)
        if (i >= text->n || text->id[i] != c->base->tokens[i])
            return lq_fail(LQ_EVALUE,
                           "%s: was made from another text than %s: they differ at token %lld of "
                           "%lld",
                           c->o->base_logits, c->o->text_path, (long long)i, (long long)n);
    return LQ_OK;
}

static lq_status open_base(scan *c, lq_logits_reader *base, const lq_tokens *text) {
    LQ_TRY(lq_logits_open(base, c->o->base_logits));
    c->base = base;
    if (base->n_vocab != c->V)
        return lq_fail(LQ_ESHAPE, "%s: has a vocabulary of %lld, the model %lld",
                       c->o->base_logits, (long long)base->n_vocab, (long long)c->V);
    if (c->o->text_path) LQ_TRY(same_text(c, text));
    const int64_t chunks = c->o->chunks;
    c->n_ctx = base->n_ctx;
    c->n_chunk = chunks > 0 && chunks < base->n_chunk ? chunks : base->n_chunk;
    c->tokens = base->tokens;
    return LQ_OK;
}

static lq_status run_chunks(scan *c, lq_perplexity *out) {
    const int64_t scored = c->n_chunk * (c->n_ctx - 1 - c->n_ctx / 2);
    c->window = lq_alloc_array(c->n_ctx, sizeof *c->window);
    if (!c->window) return LQ_EMEM;
    if (c->base || c->o->reference) {
        LQ_TRY(lq_divergence_init(&out->divergence, scored));
        c->base_log_p = lq_alloc_array(c->V, sizeof *c->base_log_p);
        if (!c->base_log_p) return LQ_EMEM;
    }
    for (int64_t i = 0; i < c->n_chunk; i++)
        LQ_TRY(score_chunk(c, c->tokens + i * c->n_ctx, out));
    return LQ_OK;
}

lq_status lq_perplexity_run(loquat_model *s, const lq_perplexity_options *o, lq_perplexity *out) {
    scan c = {.o = o, .s = s, .n_ctx = o->n_ctx, .V = s->model->hp.n_vocab};
    lq_tokens text = LQ_TOKENS_INIT;
    lq_logits_writer writer = {0};
    lq_logits_reader base = {0};
    lq_status status = LQ_OK;
    *out = (lq_perplexity){0};
    if (o->text_path) LQ_GOTO(status, read_tokens(s->model->tokenizer, o->text_path, &text));
    LQ_GOTO(status, o->base_logits ? open_base(&c, &base, &text) : plan_chunks(&c, &text));
    if (o->save_logits) {
        LQ_GOTO(status,
                lq_logits_create(&writer, o->save_logits, c.n_ctx, c.V, c.n_chunk, c.tokens));
        c.writer = &writer;
    }
    LQ_GOTO(status, run_chunks(&c, out));
    if (c.writer) {
        c.writer = NULL;
        LQ_GOTO(status, lq_logits_commit(&writer));
    }
done:
    if (c.writer) lq_logits_abort(&writer);
    if (status != LQ_OK) lq_divergence_clear(&out->divergence);
    lq_logits_close(&base);
    lq_tokens_clear(&text);
    lq_free(c.window);
    lq_free(c.base_log_p);
    return status;
}
