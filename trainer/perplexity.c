/* See perplexity.h. Chunks are independent sequences; logits of one chunk are all that is ever
 * held. */
#include "perplexity.h"

#include "logits_file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct scan {
    loquat_model *s;
    int64_t n_ctx, n_chunk, V;
    const int32_t *tokens;       /* (n_chunk * n_ctx) */
    int32_t *window;             /* (n_ctx) tokens with BOS in front */
    float *logits;               /* (n_ctx, V) */
    lq_logits_writer *writer;    /* NULL: not saving */
    lq_logits_reader *base;      /* NULL: not comparing */
    float *base_log_p;           /* (V) */
    float *kl;                   /* one per compared position */
    int64_t n_kl, same_top;
    double delta_p_squared, ratio, ratio_squared; /* sums; ratio = nll - nll of the base */
} scan;

static double log_sum_exp(const float *x, int64_t n) {
    float max = x[0];
    for (int64_t i = 1; i < n; i++) max = x[i] > max ? x[i] : max;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)expf(x[i] - max);
    return (double)max + log(sum);
}

static int64_t top(const float *x, int64_t n) {
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

/* KL(base || this) over tokens that the file can represent (16 nats below its top). */
static lq_status compare(scan *c, const float *logits, double lse, int32_t target) {
    const float *log_base = c->base_log_p;
    LQ_TRY(lq_logits_read(c->base, c->base_log_p));
    double kl = 0;
    for (int64_t i = 0; i < c->V; i++)
        if (log_base[i] > -16)
            kl += exp((double)log_base[i]) * ((double)log_base[i] - ((double)logits[i] - lse));
    const double p = exp((double)logits[target] - lse), p_base = exp((double)log_base[target]);
    const double ratio = (double)log_base[target] - ((double)logits[target] - lse);
    c->kl[c->n_kl++] = (float)kl;
    c->same_top += top(logits, c->V) == top(log_base, c->V);
    c->delta_p_squared += (p - p_base) * (p - p_base);
    c->ratio += ratio;
    c->ratio_squared += ratio * ratio;
    return LQ_OK;
}

static lq_status score_chunk(scan *c, const int32_t *tokens, lq_perplexity *sum) {
    const lq_tokenizer *tok = c->s->model->tokenizer;
    memcpy(c->window, tokens, (size_t)c->n_ctx * sizeof *tokens);
    if (lq_tokenizer_adds_bos(tok)) c->window[0] = lq_tokenizer_bos(tok);
    LQ_TRY(lq_session_logits(c->s, c->window, c->n_ctx, c->logits));
    for (int64_t j = c->n_ctx / 2; j < c->n_ctx - 1; j++) {
        const float *row = c->logits + j * c->V;
        const double lse = log_sum_exp(row, c->V), nll = lse - (double)row[tokens[j + 1]];
        if (!isfinite(nll))
            return lq_fail(LQ_ENONFINITE, "the loss at position %lld is not finite", (long long)j);
        sum->nll += nll;
        sum->nll_squared += nll * nll;
        sum->tokens++;
        if (c->writer) LQ_TRY(lq_logits_write(c->writer, row));
        if (c->base) LQ_TRY(compare(c, row, lse, tokens[j + 1]));
    }
    return LQ_OK;
}

static int ascending(const void *a, const void *b) {
    const float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

static double percentile(const float *sorted, int64_t n, double share) {
    const double at = share * (double)(n - 1);
    const int64_t i = (int64_t)at;
    const double rest = at - (double)i;
    return i + 1 < n ? (1 - rest) * (double)sorted[i] + rest * (double)sorted[i + 1]
                     : (double)sorted[n - 1];
}

static void summarize(scan *c, lq_divergence *out) {
    const double n = (double)c->n_kl;
    double sum = 0;
    qsort(c->kl, (size_t)c->n_kl, sizeof *c->kl, ascending);
    for (int64_t i = 0; i < c->n_kl; i++) sum += (double)c->kl[i];
    const double mean = c->ratio / n, variance = c->ratio_squared / n - mean * mean;
    *out = (lq_divergence){
        .n = c->n_kl,
        .kl_mean = sum / n,
        .kl_median = percentile(c->kl, c->n_kl, 0.5),
        .kl_90 = percentile(c->kl, c->n_kl, 0.9),
        .kl_99 = percentile(c->kl, c->n_kl, 0.99),
        .kl_99_9 = percentile(c->kl, c->n_kl, 0.999),
        .kl_max = (double)c->kl[c->n_kl - 1],
        .same_top = (double)c->same_top / n,
        .rms_delta_p = sqrt(c->delta_p_squared / n),
        .ln_ppl_ratio = mean,
        .ln_ppl_ratio_error = n > 1 && variance > 0 ? sqrt(variance / (n - 1)) : 0,
    };
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

static lq_status plan_chunks(scan *c, const lq_perplexity_options *o, const lq_tokens *text) {
    if (text->n / 2 < c->n_ctx)
        return lq_fail(
            LQ_EVALUE, "%s: has %lld tokens; perplexity with a context of %lld needs twice as many",
            o->text_path, (long long)text->n, (long long)c->n_ctx);
    c->n_chunk = text->n / c->n_ctx;
    if (o->chunks > 0 && o->chunks < c->n_chunk) c->n_chunk = o->chunks;
    c->tokens = text->id;
    return LQ_OK;
}

static lq_status open_base(scan *c, const lq_perplexity_options *o, lq_logits_reader *base) {
    LQ_TRY(lq_logits_open(base, o->base_logits));
    if (base->n_vocab != c->V)
        return lq_fail(LQ_ESHAPE, "%s: has a vocabulary of %lld, the model %lld", o->base_logits,
                       (long long)base->n_vocab, (long long)c->V);
    c->base = base;
    c->n_ctx = base->n_ctx;
    c->n_chunk = o->chunks > 0 && o->chunks < base->n_chunk ? o->chunks : base->n_chunk;
    c->tokens = base->tokens;
    c->kl = lq_alloc_array(c->n_chunk * c->n_ctx, sizeof *c->kl);
    c->base_log_p = lq_alloc_array(c->V, sizeof *c->base_log_p);
    return c->kl && c->base_log_p ? LQ_OK : LQ_EMEM;
}

lq_status lq_perplexity_run(loquat_model *s, const lq_perplexity_options *o, lq_perplexity *out,
                            lq_divergence *kl) {
    scan c = {.s = s, .n_ctx = o->n_ctx, .V = s->model->hp.n_vocab};
    lq_tokens text = LQ_TOKENS_INIT;
    lq_logits_writer writer = {0};
    lq_logits_reader base = {0};
    lq_status status = LQ_OK;
    *out = (lq_perplexity){0};
    *kl = (lq_divergence){0};
    if (o->base_logits) {
        if (o->text_path)
            lq_log(LQ_LOG_INFO, "%s: the tokens of this file are scored; %s is not read",
                   o->base_logits, o->text_path);
        LQ_GOTO(status, open_base(&c, o, &base));
    } else {
        LQ_GOTO(status, read_tokens(s->model->tokenizer, o->text_path, &text));
        LQ_GOTO(status, plan_chunks(&c, o, &text));
    }
    c.window = lq_alloc_array(c.n_ctx, sizeof *c.window);
    c.logits = lq_alloc_array(c.n_ctx * c.V, sizeof *c.logits);
    LQ_GOTO(status, c.window && c.logits ? LQ_OK : LQ_EMEM);
    if (o->save_logits) {
        LQ_GOTO(status,
                lq_logits_create(&writer, o->save_logits, c.n_ctx, c.V, c.n_chunk, c.tokens));
        c.writer = &writer;
    }
    for (int64_t i = 0; i < c.n_chunk; i++)
        LQ_GOTO(status, score_chunk(&c, c.tokens + i * c.n_ctx, out));
    if (c.writer) {
        c.writer = NULL;
        LQ_GOTO(status, lq_logits_commit(&writer));
    }
    if (c.n_kl) summarize(&c, kl);
done:
    if (c.writer) lq_logits_abort(&writer);
    lq_logits_close(&base);
    lq_tokens_clear(&text);
    lq_free(c.window);
    lq_free(c.logits);
    lq_free(c.kl);
    lq_free(c.base_log_p);
    return status;
}
