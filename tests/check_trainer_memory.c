/* Memory that runs out at any moment: opening a model, opening, running, resuming and exporting a
 * run, generating and evaluating. Every failed allocation is LQ_EMEM, leaves no temporary file and
 * no leak (the sanitizer build tells), and the same call then works and makes the same bytes.
 * Opening a run and resuming it, nearly the same in all modes, share the work: each mode fails
 * every fifth allocation, another fifth each. All else fails one by one. Jansson, which cannot tell
 * a lack of memory from broken JSON, must only fail in order. */
#include "run_fixture.h"
#include "str.h"
#include "tiny_model.h"
#include "trainer.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- failing --------------------------------------------------------------------------------- */

static struct { int64_t left; bool failed; } countdown;
static bool jansson_fails; /* its allocations instead of ours */
static bool armed;

static bool fail_when_zero(void *ctx, size_t bytes) {
    (void)ctx;
    (void)bytes;
    if (countdown.left-- != 0) return true;
    countdown.failed = true;
    return false;
}

static void *json_alloc(size_t bytes) {
    return armed && jansson_fails && !fail_when_zero(NULL, bytes) ? NULL : malloc(bytes);
}

static void arm(void) {
    armed = true;
    if (!jansson_fails) lq_set_alloc_hook(fail_when_zero, NULL);
}

static void disarm(void) {
    armed = false;
    lq_set_alloc_hook(NULL, NULL);
}

static void no_temporary_files(const char *dir, const char *what, int64_t n) {
    DIR *d = opendir(dir);
    if (!d) return; /* not made yet */
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        ck_assert_msg(!strstr(e->d_name, ".tmp"), "%s: allocation %lld failed and left %s/%s", what,
                      (long long)n + 1, dir, e->d_name);
    closedir(d);
}

/* One use of the library that arms around what is tested and releases everything. */
typedef lq_status attempt(const fixture_run *f);

/* Fails allocation first, first + step, ... (from 0) until there is none left to fail. */
static void fail_some(const char *what, attempt *fn, const fixture_run *f, int64_t first,
                      int64_t step) {
    char checkpoints[300];
    snprintf(checkpoints, sizeof checkpoints, "%s/checkpoints", f->out);
    for (int64_t n = first;; n += step) {
        countdown.left = n;
        countdown.failed = false;
        lq_error_clear();
        const lq_status status = fn(f);
        for (const char *const *dir = (const char *const[]){f->dir, f->out, checkpoints, NULL};
             *dir; dir++)
            no_temporary_files(*dir, what, n);
        if (!countdown.failed) {
            ck_assert_msg(status == LQ_OK, "%s: after the failures: %s", what, lq_error());
            ck_assert_msg(n > first, "%s: allocates nothing; the hook is not reached", what);
            return;
        }
        const bool said = status == LQ_EMEM && test_contains(lq_error(), "out of memory");
        ck_assert_msg(jansson_fails || said, "%s: allocation %lld failed, got '%s' (%s)", what,
                      (long long)n + 1, lq_status_text(status), lq_error());
    }
}

static void fail_each(const char *what, attempt *fn, const fixture_run *f) {
    fail_some(what, fn, f, 0, 1);
}

/* ---- a run ----------------------------------------------------------------------------------- */

static lq_config *config_of(const fixture_run *f, const char *resume) {
    const lq_override settings[] = {{"overwrite_output_dir", "true"},
                                    {"resume_from_checkpoint", resume}};
    lq_config *c = NULL;
    ck_ok(lq_config_load(&c, f->config, settings, LQ_ARRAY_LEN(settings)));
    return c;
}

static lq_status load_config(const fixture_run *f) {
    lq_config *c = NULL;
    arm();
    const lq_status status = lq_config_load(&c, f->config, NULL, 0);
    disarm();
    lq_config_free(c);
    return status;
}

static lq_status open_model(const fixture_run *f) {
    lq_model *m = NULL;
    arm();
    const lq_status status = lq_model_open(&m, f->model, true);
    disarm();
    lq_model_close(m);
    return status;
}

static lq_status open_with(const fixture_run *f, const char *resume) {
    lq_trainer *t = NULL;
    lq_config *c = config_of(f, resume);
    arm();
    const lq_status status = lq_trainer_open(&t, c, NULL);
    disarm();
    lq_trainer_close(t);
    return status;
}

static lq_status open_run(const fixture_run *f) { return open_with(f, ""); }
static lq_status resume_run(const fixture_run *f) { return open_with(f, "auto"); }

/* A step, an evaluation, a checkpoint, the exports and the record. */
static lq_status run_to_the_end(const fixture_run *f) {
    lq_trainer *t = NULL;
    char *record = NULL;
    ck_ok(lq_trainer_open(&t, config_of(f, ""), NULL));
    arm();
    const lq_status status = lq_trainer_run(t, &record);
    disarm();
    ck_assert(status == LQ_OK || !record);
    lq_free(record);
    lq_trainer_close(t);
    return status;
}

static lq_status export_run(const fixture_run *f) {
    char *text = NULL;
    arm();
    const lq_status status = (lq_status)loquat_export(f->out, NULL, &text);
    disarm();
    lq_free(text);
    return status;
}

/* ---- a model in use -------------------------------------------------------------------------- */

static lq_status open_deployed(const fixture_run *f) {
    loquat_model *m = NULL;
    arm();
    const lq_status status = (lq_status)loquat_model_open(&m, f->out, NULL, 0);
    disarm();
    loquat_model_close(m);
    return status;
}

static lq_status generate(const fixture_run *f) {
    const loquat_generate_options options = {.max_new_tokens = 3};
    static const char messages[] = "[{\"role\": \"user\", \"content\": \"make it red\"}]";
    loquat_model *m = NULL;
    char *text = NULL;
    ck_ok((lq_status)loquat_model_open(&m, f->out, NULL, 0));
    arm();
    const lq_status status = (lq_status)loquat_generate(m, messages, NULL, &options, &text);
    disarm();
    lq_free(text);
    loquat_model_close(m);
    return status;
}

static lq_status evaluate(const fixture_run *f) {
    char logits[300], predictions[300];
    snprintf(logits, sizeof logits, "%s/logits", f->dir);
    snprintf(predictions, sizeof predictions, "%s/predictions.jsonl", f->dir);
    const loquat_evaluate_options options = {.perplexity = f->data,
                                             .ctx_size = 32,
                                             .chunks = 1,
                                             .save_all_logits = logits,
                                             .data = f->data,
                                             .exact_match = true,
                                             .max_new_tokens = 1,
                                             .predictions = predictions};
    loquat_model *m = NULL;
    char *text = NULL;
    ck_ok((lq_status)loquat_model_open(&m, f->out, NULL, 0));
    arm();
    const lq_status status = (lq_status)loquat_evaluate(m, &options, &text);
    disarm();
    lq_free(text);
    loquat_model_close(m);
    return status;
}

/* ---- the tests ------------------------------------------------------------------------------- */

/* One layer and eight short conversations: few allocations, all of the paths. */
static void make_fixture(fixture_run *f, const char *name, const char *extra) {
    static const char chatml[] =
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    const tiny_model model = {.n_embd = 32,
                              .n_ff = 32,
                              .n_layer = 1,
                              .n_head = 2,
                              .n_head_kv = 1,
                              .tied = true,
                              .chat_template = chatml};
    lq_str data = LQ_STR_INIT;
    fixture_make(f, name, 1, extra);
    ck_ok(tiny_model_write(f->model, &model));
    for (int i = 0; i < 8; i++)
        lq_str_printf(&data, "{\"messages\": [{\"role\": \"user\", \"content\": \"make it %d\"}, "
                      "{\"role\": \"assistant\", \"content\": \"%d\"}]}\n", i, 7 * i % 10);
    fixture_write(f->data, lq_str_text(&data));
    lq_str_clear(&data);
}

static const struct { const char *name, *extra, *files[3];
} modes[] = {
    {"merged", "qat: {weight_dtype: q4_0, mode: merged}\nema_decay: 0.9\n", {"model-Q4_0.gguf"}},
    {"separate",
     "qat: {weight_dtype: q8_0, mode: separate}\nlora_dropout: 0.1\nsample_packing: true\n",
     {"model-base-Q8_0.gguf", "model-F32-LoRA.gguf"}},
    {"late",
     "qat: {weight_dtype: q4_0, mode: merged, fake_quant_after_n_steps: 1}\n",
     {"model-Q4_0.gguf"}},
    {"plain",
     "gradient_checkpointing: true\nneftune_noise_alpha: 5\nloraplus_lr_ratio: 4\nexport: "
     "{quantize: [q8_0]}\n",
     {"model-Q8_0.gguf"}},
    {"full", "adapter: full\n", {"model-F16.gguf"}},
    {"distilled", "qat: {weight_dtype: q4_0, mode: merged}\nkd: {}\n", {"model-Q4_0.gguf"}},
    {"top", "kd: {top_k: 3}\n", {"model-F32-LoRA.gguf"}},
};

START_TEST(run_of_every_mode) {
    fixture_run f, calm;
    make_fixture(&f, modes[_i].name, modes[_i].extra);
    fail_some("open a run", open_run, &f, _i, LQ_ARRAY_LEN(modes));
    fail_each("run to the end", run_to_the_end, &f);
    fail_some("resume", resume_run, &f, _i, LQ_ARRAY_LEN(modes));
    make_fixture(&calm, "calm", modes[_i].extra);
    countdown.left = -1; /* nothing fails */
    ck_ok(run_to_the_end(&calm));
    for (const char *const *file = modes[_i].files; *file; file++) {
        char a[400], b[400];
        snprintf(a, sizeof a, "%s/%s", f.out, *file);
        snprintf(b, sizeof b, "%s/%s", calm.out, *file);
        ck_assert_msg(fixture_same_file(a, b), "%s and %s differ", a, b);
    }
}
END_TEST

START_TEST(model_in_use) {
    fixture_run f;
    make_fixture(&f, "use", modes[1].extra); /* separate: base and adapter */
    fail_each("load a configuration", load_config, &f);
    fail_each("open a model", open_model, &f);
    countdown.left = -1;
    ck_ok(run_to_the_end(&f));
    fail_each("export a run", export_run, &f);
    fail_each("open a run's model", open_deployed, &f);
    fail_each("generate", generate, &f);
    fail_each("evaluate", evaluate, &f);
}
END_TEST

START_TEST(jansson_without_memory) {
    fixture_run f;
    make_fixture(&f, "jansson", modes[1].extra);
    json_set_alloc_funcs(json_alloc, free);
    jansson_fails = true;
    fail_some("open a run", open_run, &f, 0, 3);
    fail_each("run to the end", run_to_the_end, &f);
    fail_each("export a run", export_run, &f);
    fail_each("open a run's model", open_deployed, &f);
    fail_each("generate", generate, &f);
    fail_some("evaluate", evaluate, &f, 0, 3);
    jansson_fails = false;
    json_set_alloc_funcs(malloc, free);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("trainer_memory");
    TCase *tc = tcase_create("trainer_memory");
    tcase_set_timeout(tc, 240);
    tcase_add_loop_test(tc, run_of_every_mode, 0, LQ_ARRAY_LEN(modes));
    tcase_add_test(tc, model_in_use);
    tcase_add_test(tc, jansson_without_memory);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
