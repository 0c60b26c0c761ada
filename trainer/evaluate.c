/* loquat_evaluate: perplexity, divergence from a reference, masked loss and exact match, as one
 * JSON object. */
#include "atomic_file.h"
#include "dataset.h"
#include "json_text.h"
#include "perplexity.h"
#include "runtime.h"
#include "scorer.h"

#include <math.h>
#include <string.h>

static void set_real(json_t *o, const char *key, double value) {
    json_object_set_new(o, key, isfinite(value) ? json_real(value) : json_null());
}

static void set_int(json_t *o, const char *key, int64_t value) {
    json_object_set_new(o, key, json_integer(value));
}

/* ---- perplexity ------------------------------------------------------------------------------ */

static void put_divergence(json_t *out, lq_divergence *d) {
    lq_divergence_summary kl;
    lq_divergence_summarize(d, &kl);
    set_real(out, "kl_divergence", kl.kl_mean);
    set_real(out, "kl_divergence_error", kl.kl_error);
    set_real(out, "kl_divergence_median", kl.kl_median);
    set_real(out, "kl_divergence_90", kl.kl_90);
    set_real(out, "kl_divergence_99", kl.kl_99);
    set_real(out, "kl_divergence_99_9", kl.kl_99_9);
    set_real(out, "kl_divergence_max", kl.kl_max);
    set_real(out, "same_top", kl.same_top);
    set_real(out, "mean_delta_p", kl.mean_delta_p);
    set_real(out, "rms_delta_p", kl.rms_delta_p);
    set_real(out, "ln_ppl_ratio", kl.ln_ppl_ratio);
    set_real(out, "ln_ppl_ratio_error", kl.ln_ppl_ratio_error);
}

static lq_status evaluate_text(loquat_model *s, loquat_model *reference,
                               const loquat_evaluate_options *o, json_t *out) {
    const lq_perplexity_options options = {
        .text_path = o->perplexity,
        .n_ctx = o->ctx_size > 0 ? o->ctx_size : 512,
        .chunks = o->chunks,
        .save_logits = o->save_all_logits,
        .base_logits = o->kl_divergence_base,
        .reference = reference,
    };
    lq_perplexity p;
    LQ_TRY(lq_perplexity_run(s, &options, &p));
    const double n = (double)p.tokens, nll = p.nll / n, variance = p.nll_squared / n - nll * nll;
    set_real(out, "perplexity", exp(nll));
    set_real(out, "perplexity_error",
             n > 1 && variance > 0 ? exp(nll) * sqrt(variance / (n - 1)) : 0);
    set_real(out, "nll", nll);
    set_int(out, "tokens", p.tokens);
    if (p.divergence.n) put_divergence(out, &p.divergence);
    lq_divergence_clear(&p.divergence);
    return LQ_OK;
}

/* ---- exact match ----------------------------------------------------------------------------- */

/* The last trained run of an example: [start, end) within its tokens. */
static void last_trained_run(const lq_dataset *d, const lq_example *e, int64_t *start,
                             int64_t *end) {
    const uint8_t *mask = d->mask + e->first;
    *end = e->n;
    while (*end > 0 && !mask[*end - 1]) --*end;
    *start = *end;
    while (*start > 0 && mask[*start - 1]) --*start;
}

static bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

/* Equal but for white space around. */
static bool same_answer(const char *a, size_t na, const char *b, size_t nb) {
    while (na && is_space(a[na - 1])) na--;
    while (nb && is_space(b[nb - 1])) nb--;
    while (na && is_space(*a)) a++, na--;
    while (nb && is_space(*b)) b++, nb--;
    return na == nb && memcmp(a, b, na) == 0;
}

typedef struct answer { lq_str prompt, expected, got; } answer;

static lq_status answer_example(loquat_model *s, const lq_dataset *d, const lq_example *e,
                                const loquat_generate_options *generate, answer *a) {
    const lq_tokenizer *tok = s->model->tokenizer;
    const int32_t *ids = d->ids + e->first;
    int64_t start, end;
    last_trained_run(d, e, &start, &end);
    lq_str_reset(&a->prompt);
    lq_str_reset(&a->expected);
    lq_str_reset(&a->got);
    if (start == 0)
        return lq_fail(LQ_EVALUE,
                       "record %lld: everything is trained, nothing is left as the prompt of an "
                       "exact match",
                       (long long)e->line);
    while (end > start && lq_token_is_eog(tok, ids[end - 1])) end--;
    LQ_TRY(lq_detokenize(tok, ids, start, true, &a->prompt));
    for (int64_t t = start; t < end; t++) LQ_TRY(lq_token_piece(tok, ids[t], false, &a->expected));
    LQ_TRY(lq_session_continue(s, ids, start, generate, &a->got));
    return LQ_OK;
}

static lq_status put_prediction(lq_str *lines, const answer *a, bool match) {
    json_t *o = json_pack("{s:o, s:o, s:o, s:b}", "prompt", lq_json_string(&a->prompt),
                          "expected", lq_json_string(&a->expected), "got", lq_json_string(&a->got),
                          "match", match);
    const lq_status status = lq_json_print(lines, o, JSON_COMPACT);
    lq_str_putc(lines, '\n');
    json_decref(o);
    return status;
}

static lq_status exact_match(loquat_model *s, const loquat_evaluate_options *o, const lq_dataset *d,
                             json_t *out) {
    const loquat_generate_options generate = {.max_new_tokens =
                                                  o->max_new_tokens > 0 ? o->max_new_tokens : 128};
    answer a = {LQ_STR_INIT, LQ_STR_INIT, LQ_STR_INIT};
    lq_str lines = LQ_STR_INIT;
    lq_status status = LQ_OK;
    int64_t matches = 0;
    for (int64_t i = 0; i < d->n; i++) {
        LQ_GOTO(status, answer_example(s, d, &d->example[i], &generate, &a));
        const bool match =
            same_answer(lq_str_text(&a.expected), a.expected.n, lq_str_text(&a.got), a.got.n);
        matches += match;
        if (o->predictions) LQ_GOTO(status, put_prediction(&lines, &a, match));
    }
    if (o->predictions)
        LQ_GOTO(status, lq_write_file(o->predictions, lq_str_text(&lines), lines.n));
    set_real(out, "exact_match", (double)matches / (double)d->n);
done:
    lq_str_clear(&lines);
    lq_str_clear(&a.prompt);
    lq_str_clear(&a.expected);
    lq_str_clear(&a.got);
    return status;
}

/* ---- data ------------------------------------------------------------------------------------ */

/* Compares at every trained token; log_p (V) is scratch. */
static lq_status compare_example(loquat_model *s, loquat_model *reference, const int32_t *ids,
                                 const uint8_t *mask, int64_t n, float *log_p, lq_divergence *d) {
    const int64_t V = s->model->hp.n_vocab;
    const float *logits, *base; /* (n,V) */
    LQ_TRY(lq_session_forward(s, ids, n, &logits));
    LQ_TRY(lq_session_forward(reference, ids, n, &base));
    for (int64_t t = 0; t + 1 < n; t++) {
        if (!mask[t + 1]) continue;
        lq_log_softmax(base + t * V, log_p, V);
        lq_divergence_add(d, log_p, logits + t * V, lq_log_sum_exp(logits + t * V, V), V,
                          ids[t + 1]);
    }
    return LQ_OK;
}

static lq_status compare_data(loquat_model *s, loquat_model *reference, const lq_dataset *data,
                              int64_t n_labels, json_t *out) {
    lq_divergence d = {0};
    lq_status status = LQ_OK;
    float *log_p = lq_alloc_array(s->model->hp.n_vocab, sizeof *log_p);
    LQ_GOTO(status, log_p ? LQ_OK : LQ_EMEM);
    LQ_GOTO(status, lq_divergence_init(&d, n_labels));
    for (int64_t i = 0; i < data->n; i++) {
        const lq_example *e = &data->example[i];
        LQ_GOTO(status, compare_example(s, reference, data->ids + e->first, data->mask + e->first,
                                        e->n, log_p, &d));
    }
    put_divergence(out, &d);
done:
    lq_divergence_clear(&d);
    lq_free(log_p);
    return status;
}

static lq_status evaluate_data(loquat_model *s, loquat_model *reference,
                               const loquat_evaluate_options *o, json_t *out) {
    const lq_data_source source = {.path = o->data, .weight = 1};
    const lq_data_options options = {
        .sequence_len = s->model->hp.n_ctx_train,
        .excess = LQ_EXCESS_RAISE,
        .chat_template = s->chat_template,
        .chat_template_source =
            s->chat_template ? lq_tokenizer_chat_template(s->model->tokenizer) : NULL,
    };
    lq_dataset d = {0};
    lq_scorer *scorer = NULL;
    lq_loss loss;
    lq_status status = LQ_OK;
    LQ_GOTO(status, lq_dataset_load(&d, &source, 1, s->model->tokenizer, &options));
    LQ_GOTO(status, lq_scorer_new(&scorer, s->model, lq_session_patch(s), &d, 512, NULL));
    LQ_GOTO(status, lq_scorer_run(scorer, &loss));
    set_real(out, "loss", loss.nll / (double)loss.labels);
    set_real(out, "accuracy", (double)loss.correct / (double)loss.labels);
    set_int(out, "examples", d.n);
    set_int(out, "trained_tokens", loss.labels);
    if (reference) LQ_GOTO(status, compare_data(s, reference, &d, loss.labels, out));
    if (o->exact_match) LQ_GOTO(status, exact_match(s, o, &d, out));
done:
    lq_scorer_free(scorer);
    lq_dataset_clear(&d);
    return status;
}

static lq_status check_options(const loquat_model *s, const loquat_evaluate_options *o) {
    if (!o->perplexity && !o->kl_divergence_base && !o->data)
        return lq_fail(LQ_ECONFIG, "nothing to evaluate: give --perplexity TEXT, "
                                  "--kl-divergence-base FILE or --data FILE");
    if (o->exact_match && !o->data) return lq_fail(LQ_ECONFIG, "--exact-match needs --data");
    if (o->predictions && !o->exact_match)
        return lq_fail(LQ_ECONFIG, "--predictions needs --exact-match");
    if (o->save_all_logits && !o->perplexity && !o->kl_divergence_base)
        return lq_fail(LQ_ECONFIG, "--save-all-logits needs --perplexity");
    if (o->reference && o->kl_divergence_base)
        return lq_fail(LQ_ECONFIG, "--reference and --kl-divergence-base: give one of them");
    if (o->reference && !o->perplexity == !o->data)
        return lq_fail(LQ_ECONFIG, "--reference compares on one thing: give either --perplexity "
                                  "TEXT or --data FILE");
    if (o->ctx_size < 0 || o->ctx_size == 1 || o->ctx_size == 2)
        return lq_fail(LQ_ECONFIG, "--ctx-size: found %lld, wanted 3 or more",
                       (long long)o->ctx_size);
    if (!s->model->tokenizer && (o->perplexity || o->data))
        return lq_fail(LQ_EUNSUPPORTED, "%s: has no tokenizer", lq_gguf_path(s->model->file));
    return LQ_OK;
}

/* "key  value" lines for people. */
static lq_status as_lines(const json_t *o, lq_str *out) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)o, key, value) {
        if (json_is_integer(value))
            lq_str_printf(out, "%-24s %lld\n", key, (long long)json_integer_value(value));
        else if (json_is_real(value))
            lq_str_printf(out, "%-24s %.6g\n", key, json_real_value(value));
        else lq_str_printf(out, "%-24s -\n", key);
    }
    return lq_str_status(out);
}

static lq_status open_reference(loquat_model **out, const loquat_model *m, const char *path) {
    lq_status status = (lq_status)loquat_model_open(out, path, NULL, 0);
    if (status == LQ_OK) status = lq_session_same_vocabulary(m, *out);
    return status == LQ_OK ? LQ_OK : lq_fail_context(status, "--reference: ");
}

loquat_status loquat_evaluate(loquat_model *m, const loquat_evaluate_options *options,
                              char **out_text) {
    lq_status status = LQ_OK;
    lq_str text = LQ_STR_INIT;
    loquat_model *reference = NULL;
    json_t *out = json_object();
    const lq_runtime before = m->model->runtime;
    lq_runtime runtime;
    *out_text = NULL;
    LQ_GOTO(status, out ? LQ_OK : LQ_EMEM);
    LQ_GOTO(status, check_options(m, options));
    LQ_GOTO(status, lq_runtime_from_names(&runtime, m->model, options->activation_dtype,
                                          options->cache_type_k, options->cache_type_v));
    lq_session_set_runtime(m, &runtime);
    if (options->reference)
        LQ_GOTO(status, open_reference(&reference, m, options->reference));
    if (options->perplexity || options->kl_divergence_base)
        LQ_GOTO(status, evaluate_text(m, reference, options, out));
    if (options->data) LQ_GOTO(status, evaluate_data(m, reference, options, out));
    if (options->json) {
        LQ_GOTO(status, lq_json_print(&text, out, JSON_REAL_PRECISION(10)));
        lq_str_putc(&text, '\n');
    } else {
        LQ_GOTO(status, as_lines(out, &text));
    }
    *out_text = lq_str_take(&text);
    if (!*out_text) status = LQ_EMEM;
done:
    lq_session_set_runtime(m, &before);
    loquat_model_close(reference);
    lq_str_clear(&text);
    json_decref(out);
    return (loquat_status)status;
}
