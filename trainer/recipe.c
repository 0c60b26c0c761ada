/* A recipe: runs in sequence, each starting from what the one before it exported, in directories of
 * their own below output_dir. Fine-tuning in floating point comes first, then the quantized model
 * is trained from that adapter, with the floating-point model as its teacher. A finished phase that
 * is resumed trains nothing and exports the same bytes again: resuming needs no record. */
#include "recipe.h"

#include "atomic_file.h"
#include "json_text.h"

#include <math.h>
#include <string.h>

enum { LORA, QAD, N_PHASES };
static const char *const phase_name[N_PHASES] = {"lora", "qad"};

typedef struct recipe {
    const lq_config *config;
    const loquat_callbacks *callbacks;
    char *dir[N_PHASES];
    json_t *record[N_PHASES];
    lq_output output;
} recipe;

/* ---- directories ----------------------------------------------------------------------------- */

static bool resumes(const lq_config *c) {
    return c->resume_from_checkpoint && *c->resume_from_checkpoint;
}

static lq_status remove_file(const char *dir, const char *name) {
    char *path = lq_path_join(dir, name);
    if (!path) return LQ_EMEM;
    const lq_status status = lq_remove_file(path);
    lq_free(path);
    return status;
}

/* A new recipe must not be continued with what an earlier one left. */
static lq_status discard_phase(const char *dir) {
    char *checkpoints = lq_path_join(dir, "checkpoints");
    if (!checkpoints) return LQ_EMEM;
    const lq_status status = lq_checkpoint_discard(checkpoints);
    lq_free(checkpoints);
    LQ_TRY(status);
    LQ_TRY(remove_file(dir, LQ_RUN_IMATRIX));
    return remove_file(dir, "run.json");
}

static lq_status begin(const recipe *r) {
    const lq_config *c = r->config;
    lq_str text = LQ_STR_INIT;
    if (resumes(c) && strcmp(c->resume_from_checkpoint, "auto") != 0)
        return lq_fail(LQ_ECONFIG, "resume_from_checkpoint: found '%s'; a recipe goes on where it "
                       "stopped, wanted auto", c->resume_from_checkpoint);
    char *path = lq_path_join(c->output_dir, "config.yaml");
    lq_status status = path ? LQ_OK : LQ_EMEM;
    if (status == LQ_OK && !resumes(c)) {
        if (!c->overwrite_output_dir && lq_file_exists(path))
            status = lq_output_taken(c->output_dir);
        for (int i = 0; i < N_PHASES && status == LQ_OK; i++) status = discard_phase(r->dir[i]);
        if (status == LQ_OK) status = remove_file(c->output_dir, "run.json");
    }
    if (status == LQ_OK) status = lq_config_dump(c, &text);
    if (status == LQ_OK) status = lq_write_file(path, lq_str_text(&text), text.n);
    lq_str_clear(&text);
    lq_free(path);
    return status;
}

/* ---- phases ---------------------------------------------------------------------------------- */

/* Where the first phase left its adapter; NULL before it has. */
static const char *adapter_of(const json_t *record) {
    return json_string_value(json_object_get(lq_record_artifact(record, "adapter"), "path"));
}

static lq_status phase_config(lq_config **out, const recipe *r, int phase) {
    const lq_config *c = r->config;
    const char *given = c->exports.output_dir && *c->exports.output_dir ? c->exports.output_dir
                                                                        : c->output_dir;
    const char *adapter = adapter_of(r->record[LORA]);
    const lq_phase_paths paths = {
        .output_dir = r->dir[phase],
        .export_dir = phase == LORA ? r->dir[phase] : given,
        .adapter = adapter ? adapter : "null",
    };
    return lq_config_phase(out, c, phase_name[phase], &paths);
}

/* Mistakes in the second phase's values come up before the first has trained. */
static lq_status check_phases(const recipe *r) {
    for (int i = 0; i < N_PHASES; i++) {
        lq_config *c = NULL;
        LQ_TRY(phase_config(&c, r, i));
        lq_config_free(c);
    }
    return LQ_OK;
}

static lq_status parse_record(json_t **out, const char *text) {
    json_error_t error;
    *out = json_loads(text, 0, &error);
    return *out ? LQ_OK : lq_fail(LQ_EFORMAT, "run.json:%d: %s", error.line, error.text);
}

static lq_status run_phase(recipe *r, int phase) {
    lq_config *c = NULL;
    lq_trainer *t = NULL;
    char *text = NULL;
    lq_log(LQ_LOG_INFO, "phase %d of %d: %s", phase + 1, N_PHASES, phase_name[phase]);
    LQ_TRY(phase_config(&c, r, phase));
    lq_status status = lq_trainer_open(&t, c, r->callbacks);
    if (status == LQ_OK) status = lq_trainer_run(t, &text);
    lq_trainer_close(t);
    if (status == LQ_OK) status = parse_record(&r->record[phase], text);
    lq_free(text);
    return status;
}

/* ---- the report ------------------------------------------------------------------------------ */

static double value_of(const json_t *record, const char *key) {
    const json_t *value = json_object_get(record, key);
    return json_is_number(value) ? json_number_value(value) : (double)NAN;
}

/* Both phases validated the same examples, so that their losses can be compared. */
static bool same_validation(const recipe *r) {
    static const char *const keys[] = {"data", "validation", "split"};
    for (int i = 0; i < LQ_ARRAY_LEN(keys); i++)
        if (!json_equal(json_object_get(r->record[LORA], keys[i]),
                        json_object_get(r->record[QAD], keys[i])))
            return false;
    return true;
}

/* The losses that tell what the recipe was good for; the share of what rounding alone costs that
 * the second phase won back. */
static json_t *summary(const recipe *r) {
    const double floating = value_of(r->record[LORA], "final_eval_loss");
    const double rounded = value_of(r->record[QAD], "start_eval_loss");
    const double trained = value_of(r->record[QAD], "final_eval_loss");
    const bool comparable = same_validation(r) && rounded > floating;
    const double recovered =
        comparable ? (rounded - trained) / (rounded - floating) : (double)NAN;
    if (isfinite(trained))
        lq_log(LQ_LOG_INFO,
               "validation loss: %.4f in floating point, %.4f quantized at once, %.4f trained "
               "quantized", floating, rounded, trained);
    if (recovered > 0 && recovered <= 1) /* above: it also learned more from the labels */
        lq_log(LQ_LOG_INFO, "%.0f %% of what quantization costs is won back", 100 * recovered);
    return json_pack("{s:o, s:o, s:o, s:o}", "floating_point", lq_json_number(floating),
                     "quantized_at_once", lq_json_number(rounded), "trained_quantized",
                     lq_json_number(trained), "recovered", lq_json_number(recovered));
}

static lq_status write_report(const recipe *r, char **out_text) {
    lq_str text = LQ_STR_INIT;
    lq_status status = LQ_OK;
    char *path = lq_path_join(r->config->output_dir, "run.json");
    json_t *report = json_pack(
        "{s:s, s:[s, s], s:f, s:o, s:O, s:O, s:O, s:O}", "version", loquat_version(), "recipe",
        phase_name[LORA], phase_name[QAD], "seconds",
        value_of(r->record[LORA], "seconds") + value_of(r->record[QAD], "seconds"), "eval_loss",
        summary(r), "base",
        json_object_get(r->record[QAD], "base"), "artifacts",
        json_object_get(r->record[QAD], "artifacts"), phase_name[LORA], r->record[LORA],
        phase_name[QAD], r->record[QAD]);
    LQ_GOTO(status, path ? LQ_OK : LQ_EMEM);
    LQ_GOTO(status, lq_json_print(&text, report, JSON_INDENT(2) | JSON_REAL_PRECISION(17)));
    LQ_GOTO(status, lq_write_file(path, text.s, text.n));
    if (out_text) *out_text = lq_str_take(&text);
done:
    json_decref(report);
    lq_str_clear(&text);
    lq_free(path);
    return status;
}

/* When the first phase did not begin, there is nothing to go on with. */
static void undo(const recipe *r) {
    if (!r->output.made_lock || !r->dir[LORA] || lq_file_exists(r->dir[LORA])) return;
    remove_file(r->output.dir, "config.yaml");
    lq_output_undo(&r->output);
}

lq_status lq_recipe_run(const lq_config *c, const loquat_callbacks *callbacks, char **out_record) {
    recipe r = {.config = c, .callbacks = callbacks, .output = LQ_OUTPUT_INIT};
    lq_status status = LQ_OK;
    for (int i = 0; i < N_PHASES; i++) {
        r.dir[i] = lq_path_join(c->output_dir, phase_name[i]);
        LQ_GOTO(status, r.dir[i] ? LQ_OK : LQ_EMEM);
    }
    LQ_GOTO(status, check_phases(&r));
    LQ_GOTO(status, lq_output_open(&r.output, c->output_dir));
    LQ_GOTO(status, begin(&r));
    for (int i = 0; i < N_PHASES; i++) LQ_GOTO(status, run_phase(&r, i));
    LQ_GOTO(status, write_report(&r, out_record));
done:
    if (status != LQ_OK) undo(&r);
    for (int i = 0; i < N_PHASES; i++) {
        json_decref(r.record[i]);
        lq_free(r.dir[i]);
    }
    lq_output_close(&r.output);
    return status;
}

lq_status lq_recipe_last_dir(char **out, const lq_config *c, const char *run_dir) {
    *out = c->recipe.n ? lq_path_join(run_dir, phase_name[QAD]) : lq_strdup(run_dir);
    return *out ? LQ_OK : LQ_EMEM;
}
