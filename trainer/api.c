/* The public interface over the folders: each function checks, calls and translates; no logic
 * lives here. */
#include "atomic_file.h"
#include "best.h"
#include "export.h"
#include "json_text.h"
#include "loquat.h"
#include "recipe.h"
#include "session.h"
#include "trainer.h"

#include <omp.h>
#include <string.h>

#ifndef LOQUAT_VERSION
#define LOQUAT_VERSION "unknown"
#endif

_Static_assert(sizeof(loquat_setting) == sizeof(lq_override) &&
                   offsetof(loquat_setting, value) == offsetof(lq_override, value),
               "settings are passed on as overrides");
_Static_assert((int)LOQUAT_EDEVICE == (int)LQ_EDEVICE && (int)LOQUAT_EBUSY == (int)LQ_EBUSY,
               "loquat_status mirrors lq_status");

const char *loquat_version(void) { return LOQUAT_VERSION; }
const char *loquat_error(void) { return lq_error(); }
void loquat_free(void *out) { lq_free(out); }

void loquat_set_log(void (*fn)(void *ctx, loquat_log_level level, const char *line), void *ctx) {
    lq_set_log((lq_log_fn)fn, ctx);
}

void loquat_set_threads(int n) { omp_set_num_threads(n > 0 ? n : omp_get_num_procs()); }

loquat_status loquat_set_device(const char *name) {
    return (loquat_status)lq_set_session_device(name);
}

loquat_status loquat_train(const char *config_path, const loquat_setting *settings,
                           size_t n_settings, const loquat_callbacks *callbacks,
                           char **out_record) {
    lq_config *config = NULL;
    lq_trainer *t = NULL;
    if (out_record) *out_record = NULL;
    lq_status status =
        lq_config_load(&config, config_path, (const lq_override *)settings, (int)n_settings);
    if (status != LQ_OK) return (loquat_status)status;
    if (config->recipe.n) {
        status = lq_recipe_run(config, callbacks, out_record);
        lq_config_free(config);
        return (loquat_status)status;
    }
    status = lq_trainer_open(&t, config, callbacks);
    if (status == LQ_OK) status = lq_trainer_run(t, out_record);
    lq_trainer_close(t);
    return (loquat_status)status;
}

loquat_status loquat_config_help(char **out_text) {
    lq_str text = LQ_STR_INIT;
    lq_status status = lq_config_help(&text);
    *out_text = lq_str_take(&text);
    if (status == LQ_OK && !*out_text) status = LQ_EMEM;
    return (loquat_status)status;
}

bool loquat_config_is_key(const char *name, bool *takes_value) {
    return lq_config_is_key(name, takes_value);
}

/* ---- export of a run ------------------------------------------------------------------------- */

static lq_status artifacts_text(const lq_artifacts *l, char **out) {
    lq_str text = LQ_STR_INIT;
    json_t *object = json_pack("{s:o}", "artifacts", lq_artifacts_json(l));
    const lq_status status = lq_json_print(&text, object, JSON_INDENT(2));
    json_decref(object);
    lq_str_putc(&text, '\n');
    *out = status == LQ_OK ? lq_str_take(&text) : NULL;
    lq_str_clear(&text);
    return status == LQ_OK && !*out ? LQ_EMEM : status;
}

static lq_status load_config_of(lq_config **out, const char *dir) {
    char *path = lq_path_join(dir, "config.yaml");
    const lq_status status = path ? lq_config_load(out, path, NULL, 0) : LQ_EMEM;
    lq_free(path);
    return status;
}

/* The configuration and the directory of a run, or of a recipe's last phase. */
static lq_status open_run_config(lq_config **out, char **dir, const char *run_dir) {
    lq_config *config = NULL;
    if (!lq_file_exists_in(run_dir, "config.yaml"))
        return lq_fail(LQ_EIO, "%s: is no run's directory, it has no config.yaml", run_dir);
    LQ_TRY(load_config_of(&config, run_dir));
    lq_status status = lq_recipe_last_dir(dir, config, run_dir);
    if (status == LQ_OK) status = load_config_of(out, *dir);
    lq_config_free(config);
    return status;
}

loquat_status loquat_export(const char *run_dir, const loquat_export_options *options,
                            char **out_text) {
    static const loquat_export_options none = {NULL, 0, false, false};
    const loquat_export_options *o = options ? options : &none;
    lq_config *config = NULL;
    lq_best best = {.model = NULL};
    lq_artifacts artifacts = {0};
    lq_status status = LQ_OK;
    char *last_dir = NULL;
    *out_text = NULL;
    LQ_GOTO(status, open_run_config(&config, &last_dir, run_dir));
    LQ_GOTO(status, lq_best_open(&best, config, last_dir));
    lq_log(LQ_LOG_INFO, "exporting the parameters of step %lld", (long long)best.step);
    config->exports.peft |= o->peft;
    config->exports.merged_safetensors |= o->merged_safetensors;
    LQ_GOTO(status, lq_export_run(best.adapter, config, best.template_source, run_dir,
                                  o->n_types ? o->types : NULL, (int)o->n_types, &artifacts));
    LQ_GOTO(status, artifacts_text(&artifacts, out_text));
done:
    lq_artifacts_clear(&artifacts);
    lq_best_close(&best);
    lq_config_free(config);
    lq_free(last_dir);
    return (loquat_status)status;
}

static lq_status check_output(const char *output, const char *input) {
    if (!lq_is_same_file(output, input)) return LQ_OK;
    return lq_fail(LQ_EVALUE, "%s: is one of the files that are being merged", output);
}

loquat_status loquat_merge(const char *model, const loquat_lora *loras, size_t n_loras,
                           const char *output, const char *type) {
    lq_lineage lineage = {.base_path = model, .version = loquat_version()};
    const lq_types_text text = {.what = "--type", .type = type};
    lq_types types = {0};
    loquat_model *s = NULL;
    lq_status status = LQ_OK;
    LQ_GOTO(status, lq_types_open(&types, &text));
    LQ_GOTO(status, check_output(output, model));
    for (size_t i = 0; i < n_loras; i++) LQ_GOTO(status, check_output(output, loras[i].path));
    LQ_GOTO(status, (lq_status)loquat_model_open(&s, model, loras, n_loras));
    status = lq_model_check_finite(s->model);
    if (status != LQ_OK) LQ_GOTO(status, lq_fail_context(status, "%s: ", model));
    lineage.chat_template = s->template_source;
    if (!s->lora) LQ_GOTO(status, lq_adapter_load(&s->lora, s->model, NULL, 0));
    LQ_GOTO(status, lq_export_merged(s->lora, output, &types.request, &lineage));
done:
    loquat_model_close(s);
    lq_types_clear(&types);
    return (loquat_status)status;
}

/* ---- tokens, logits, text -------------------------------------------------------------------- */

int64_t loquat_model_vocabulary(const loquat_model *m) { return m->model->hp.n_vocab; }
bool loquat_model_chats(const loquat_model *m) { return m->chat_template != NULL; }

static lq_status need_tokenizer(const loquat_model *m) {
    return m->model->tokenizer
               ? LQ_OK
               : lq_fail(LQ_EUNSUPPORTED, "%s: has no tokenizer", lq_gguf_path(m->model->file));
}

loquat_status loquat_tokenize(const loquat_model *m, const char *text, size_t n, unsigned flags,
                              int32_t **out_ids, size_t *out_n) {
    lq_tokens tokens = LQ_TOKENS_INIT;
    const unsigned how = (flags & LOQUAT_TOKENIZE_NO_BOS ? 0 : LQ_TOK_BOS | LQ_TOK_EOS) |
                         (flags & LOQUAT_TOKENIZE_SPECIAL ? LQ_TOK_SPECIAL : 0);
    *out_ids = NULL;
    lq_status status = need_tokenizer(m);
    if (status == LQ_OK) status = lq_tokenize(m->model->tokenizer, text, n, how, &tokens);
    if (status == LQ_OK) {
        *out_ids = lq_alloc_array(tokens.n, sizeof **out_ids);
        if (!*out_ids) status = LQ_EMEM;
        else if (tokens.n) memcpy(*out_ids, tokens.id, (size_t)tokens.n * sizeof **out_ids);
        *out_n = (size_t)tokens.n;
    }
    lq_tokens_clear(&tokens);
    return (loquat_status)status;
}

loquat_status loquat_detokenize(const loquat_model *m, const int32_t *ids, size_t n,
                                char **out_text, size_t *out_n) {
    lq_str text = LQ_STR_INIT;
    lq_status status = need_tokenizer(m);
    if (status == LQ_OK) status = lq_detokenize(m->model->tokenizer, ids, (int64_t)n, true, &text);
    *out_n = text.n;
    *out_text = lq_str_take(&text);
    if (status == LQ_OK && !*out_text) status = LQ_EMEM;
    return (loquat_status)status;
}

loquat_status loquat_logits(loquat_model *m, const int32_t *ids, size_t n, float *logits) {
    return (loquat_status)lq_session_logits(m, ids, (int64_t)n, logits);
}

static lq_status render(const loquat_model *m, const char *messages_json, lq_str *out) {
    const lq_tokenizer *tok = m->model->tokenizer;
    json_error_t error;
    if (!m->chat_template)
        return lq_fail(LQ_EUNSUPPORTED,
                       "%s: has no chat template (a `pt` model?): give a plain prompt",
                       lq_gguf_path(m->model->file));
    json_t *messages = json_loads(messages_json, 0, &error);
    if (!messages) return lq_fail(LQ_EFORMAT, "messages: line %d: %s", error.line, error.text);
    const lq_template_options options = {
        .add_generation_prompt = true,
        .bos_token = lq_tokenizer_bos(tok) >= 0 ? lq_token_text(tok, lq_tokenizer_bos(tok)) : NULL,
        .eos_token = lq_tokenizer_eos(tok) >= 0 ? lq_token_text(tok, lq_tokenizer_eos(tok)) : NULL,
    };
    const lq_status status = lq_template_render(m->chat_template, messages, &options, out);
    json_decref(messages);
    return status;
}

loquat_status loquat_generate(loquat_model *m, const char *messages_json, const char *prompt,
                              const loquat_generate_options *options, char **out_text) {
    lq_str rendered = LQ_STR_INIT, text = LQ_STR_INIT, valid = LQ_STR_INIT;
    lq_tokens tokens = LQ_TOKENS_INIT;
    lq_status status = LQ_OK;
    *out_text = NULL;
    LQ_GOTO(status, need_tokenizer(m));
    if (messages_json) LQ_GOTO(status, render(m, messages_json, &rendered));
    else lq_str_puts(&rendered, prompt);
    LQ_GOTO(status, lq_str_status(&rendered));
    /* a rendered conversation is complete: as in training, nothing is added to it */
    LQ_GOTO(status,
            lq_tokenize(m->model->tokenizer, lq_str_text(&rendered), rendered.n,
                        messages_json ? LQ_TOK_SPECIAL : LQ_TOK_BOS | LQ_TOK_SPECIAL, &tokens));
    LQ_GOTO(status, lq_session_continue(m, tokens.id, tokens.n, options, &text));
    lq_utf8_repair(&valid, &text);
    *out_text = lq_str_take(&valid);
    if (!*out_text) status = LQ_EMEM;
done:
    lq_tokens_clear(&tokens);
    lq_str_clear(&rendered);
    lq_str_clear(&text);
    return (loquat_status)status;
}
