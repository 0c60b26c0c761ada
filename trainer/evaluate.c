/* loquat_evaluate: perplexity, divergence from a reference, masked loss and exact match, as one
 * JSON object. */
#include "example_scores.h"
#include "exact_match.h"
#include "json_text.h"
#include "perplexity.h"
#include "runtime.h"
#include "scorer.h"

#include <math.h>

static void set_real(json_t *o, const char *key, double value) {
    json_object_set_new(o, key, lq_json_number(value));
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

/* ---- data ------------------------------------------------------------------------------------ */

static lq_status compare_data(loquat_model *s, loquat_model *reference, const lq_dataset *data,
                              int64_t n_labels, json_t *out) {
    lq_divergence d;
    LQ_TRY(lq_divergence_init(&d, n_labels));
    const lq_status status = lq_score_examples(s, reference, data, NULL, &d);
    if (status == LQ_OK) put_divergence(out, &d);
    lq_divergence_clear(&d);
    return status;
}

static lq_status evaluate_data(loquat_model *s, loquat_model *reference,
                               const loquat_evaluate_options *o, json_t *out) {
    lq_dataset d = {0};
    lq_scorer *scorer = NULL;
    lq_loss loss;
    double match;
    lq_status status = LQ_OK;
    LQ_GOTO(status, lq_session_dataset(&d, s, o->data));
    LQ_GOTO(status, lq_scorer_new(&scorer, s->dev, s->model, lq_session_patch(s), &d, 512, NULL));
    LQ_GOTO(status, lq_scorer_run(scorer, &loss));
    set_real(out, "loss", loss.nll / (double)loss.labels);
    set_real(out, "accuracy", (double)loss.correct / (double)loss.labels);
    set_int(out, "examples", d.n);
    set_int(out, "trained_tokens", loss.labels);
    if (reference) LQ_GOTO(status, compare_data(s, reference, &d, loss.labels, out));
    if (o->exact_match) {
        LQ_GOTO(status, lq_exact_match(s, &d, o->max_new_tokens, o->predictions, &match));
        set_real(out, "exact_match", match);
    }
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
