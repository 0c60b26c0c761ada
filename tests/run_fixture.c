/* See run_fixture.h. */
#include "run_fixture.h"

#include "str.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

void fixture_write(const char *path, const char *text) {
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(text, 1, strlen(text), f), strlen(text));
    ck_assert_int_eq(fclose(f), 0);
}

static void write_data(const char *path) {
    static const char *const colours[] = {"red", "blue", "green", "white", "black", "pink"};
    lq_str s = LQ_STR_INIT;
    for (int i = 0; i < 36; i++)
        lq_str_printf(&s, "{\"prompt\": \"make it %s, number %d\", \"completion\": \" %s %d\"}\n",
                      colours[i % 6], i, colours[i % 6], i * 7 % 10);
    fixture_write(path, lq_str_text(&s));
    lq_str_clear(&s);
}

void fixture_make(fixture_run *f, const char *name, int steps, const char *extra) {
    const tiny_model model = {.n_embd = 64, .n_ff = 96, .tied = true};
    fixture_make_of(f, name, steps, extra, &model);
}

void fixture_make_of(fixture_run *f, const char *name, int steps, const char *extra,
                     const tiny_model *model) {
    lq_str yaml = LQ_STR_INIT;
    char command[300];
    snprintf(f->dir, sizeof f->dir, "%s", test_path(name));
    mkdir(f->dir, 0755);
    snprintf(f->model, sizeof f->model, "%s/model.gguf", f->dir);
    snprintf(f->data, sizeof f->data, "%s/data.jsonl", f->dir);
    snprintf(f->config, sizeof f->config, "%s/run.yaml", f->dir);
    snprintf(f->out, sizeof f->out, "%s/out", f->dir);
    /* of another turn of a looping test */
    snprintf(command, sizeof command, "rm -rf '%s'", f->out);
    ck_assert_int_eq(system(command), 0);
    ck_ok(tiny_model_write(f->model, model));
    write_data(f->data);
    lq_str_printf(&yaml,
                  "base_model: %s\ndatasets:\n  - path: %s\noutput_dir: %s\nsequence_len: "
                  "128\nval_set_size: 6\n"
                  "micro_batch_size: 4\ngradient_accumulation_steps: 2\nmax_steps: %d\neval_steps: "
                  "3\nsave_steps: 2\n"
                  "logging_steps: 1\nlearning_rate: 0.01\nthreads: 1\n%s%s",
                  f->model, f->data, f->out, steps,
                  strstr(extra, "adapter: ") ? "" : "lora_r: 4\nlora_alpha: 8\n", extra);
    fixture_write(f->config, lq_str_text(&yaml));
    lq_str_clear(&yaml);
}

void fixture_widen(const fixture_run *f) {
    const tiny_model model = {.n_embd = 256, .n_ff = 256, .n_layer = 1, .tied = true};
    ck_ok(tiny_model_write(f->model, &model));
}

static char *slurp(const char *path) {
    FILE *f = fopen(path, "rb");
    ck_assert_msg(f != NULL, "%s cannot be read", path);
    lq_str s = LQ_STR_INIT;
    char block[4096];
    for (size_t n; (n = fread(block, 1, sizeof block, f)) > 0;) lq_str_add(&s, block, n);
    fclose(f);
    return lq_str_take(&s);
}

bool fixture_same_file(const char *a, const char *b) {
    char command[600];
    snprintf(command, sizeof command, "cmp -s '%s' '%s'", a, b);
    return system(command) == 0;
}

static const char *program = LOQUAT_PROGRAM;

void fixture_program(const char *path) { program = path ? path : LOQUAT_PROGRAM; }

fixture_result fixture_loquat(const char *fmt, ...) {
    static char *out, *err;
    char args[2048], command[3000], out_path[256], err_path[256];
    va_list list;
    va_start(list, fmt);
    vsnprintf(args, sizeof args, fmt, list);
    va_end(list);
    snprintf(out_path, sizeof out_path, "%s", test_path("stdout"));
    snprintf(err_path, sizeof err_path, "%s", test_path("stderr"));
    snprintf(command, sizeof command, "%s %s >'%s' 2>'%s' </dev/null", program, args,
             out_path, err_path);
    const int status = system(command);
    lq_free(out);
    lq_free(err);
    out = slurp(out_path);
    err = slurp(err_path);
    return (fixture_result){WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), out,
                            err};
}
