/* Whole runs on device 'cuda', emulated: the CPU's losses, its files, checkpoints that move between
 * devices, and what is said when there is no such device. */
#include "run_fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_NUMBERS = 200 };

typedef struct curve { double v[MOST_NUMBERS]; int n; } curve;

/* All numbers after "key" in a file of JSON lines. */
static void read_numbers(curve *c, const char *path, const char *key) {
    char quoted[64], line[4096];
    FILE *const f = fopen(path, "r");
    ck_assert_msg(f != NULL, "%s cannot be read", path);
    snprintf(quoted, sizeof quoted, "\"%s\":", key);
    while (fgets(line, sizeof line, f)) {
        const char *const at = strstr(line, quoted);
        if (!at) continue;
        ck_assert_int_lt(c->n, MOST_NUMBERS);
        c->v[c->n++] = strtod(at + strlen(quoted), NULL);
    }
    fclose(f);
}

static curve curve_of(const char *dir) {
    static const char *const keys[] = {"loss", "eval_loss", "grad_norm"};
    curve c = {.n = 0};
    char path[400];
    snprintf(path, sizeof path, "%s/metrics.jsonl", dir);
    for (int i = 0; i < LQ_ARRAY_LEN(keys); i++) read_numbers(&c, path, keys[i]);
    return c;
}

static void train(const char *program, const fixture_run *f, const char *out, const char *options) {
    fixture_program(program);
    const fixture_result r = fixture_loquat(
        "train %s --output-dir %s --micro-batch-size 2 --val-set-size 2 %s", f->config, out, options);
    ck_assert_msg(r.exit_status == 0, "train %s: %s", options, r.err);
}

static void close_curves(const char *what, const char *a, const char *b, double tolerance) {
    const curve x = curve_of(a), y = curve_of(b);
    ck_assert_msg(x.n == y.n && x.n > 6, "%s: %d numbers and %d", what, x.n, y.n);
    for (int i = 0; i < x.n; i++)
        ck_assert_msg(fabs(x.v[i] - y.v[i]) <= tolerance * fmax(1, fabs(x.v[i])),
                      "%s: number %d of %d is %.9g on the CPU, %.9g on the device", what, i, x.n,
                      x.v[i], y.v[i]);
}

/* ---- curves ---------------------------------------------------------------------------------- */

static const struct { const char *extra; double tolerance; } modes[] = {
    {"", 1e-4},
    {"gradient_checkpointing: true\nlora_dropout: 0.1\nneftune_noise_alpha: 5\n", 1e-4},
    {"sample_packing: true\nloraplus_lr_ratio: 4\nema_decay: 0.5\noptimizer: sgd\n", 1e-4},
    {"use_dora: true\n", 1e-4},
    {"init_lora_weights: pissa\n", 1e-4},
    {"adapter: full\n", 1e-4},
    {"adapter: scales\nbase_quant: q4_0\n", 1e-4},
    {"qat: {weight_dtype: q4_0, mode: separate}\n", 1e-4},
    {"kd: {teacher: self, alpha: 0.5}\n", 1e-4},
    {"kd: {teacher: self, alpha: 0.5, top_k: 5}\n", 1e-4},
    /* a sum's last bit can move a code, and one code of this tiny model is 1e-4 of its loss */
    {"qat: {weight_dtype: q4_0, mode: merged}\n", 1e-3},
    {"qat: {weight_dtype: q8_0, mode: merged}\nuse_dora: true\n", 1e-3},
    {"qat: {weight_dtype: q8_0, mode: merged}\ninit_lora_weights: pissa\n", 1e-3},
    {"qat: {weight_dtype: q4_0, mode: merged, ste: clipped}\n", 1e-3},
};

/* A run with these options on the CPU, and on the device. */
static void same_curve(const fixture_run *f, const char *what, const char *options,
                       const char *device, double tolerance) {
    char cpu[300], cuda[300], all[200];
    snprintf(cpu, sizeof cpu, "%s/cpu", f->dir);
    snprintf(cuda, sizeof cuda, "%s/cuda", f->dir);
    snprintf(all, sizeof all, "%s --device cpu", options);
    train(NULL, f, cpu, all);
    snprintf(all, sizeof all, "%s %s", options, device);
    train(LOQUAT_EMULATED, f, cuda, all);
    close_curves(what, cpu, cuda, tolerance);
}

START_TEST(curve_is_the_cpus) {
    fixture_run f;
    char name[32];
    snprintf(name, sizeof name, "curve-%d", _i);
    fixture_make(&f, name, 4, modes[_i].extra);
    same_curve(&f, modes[_i].extra, "", "--device cuda --bf16 false", modes[_i].tolerance);
}
END_TEST

START_TEST(bf16_follows_the_curve) {
    fixture_run f;
    fixture_make(&f, "bf16", 4, "qat: {weight_dtype: q4_0, mode: separate}\n");
    same_curve(&f, "bf16", "", "--device cuda", 0.05);
}
END_TEST

/* More batches on their way than a net has buffers for. */
START_TEST(batches_pile_up) {
    fixture_run f;
    fixture_make(&f, "pile", 3, "");
    same_curve(&f, "six batches a step", "--gradient-accumulation-steps 6",
               "--device cuda --bf16 false", 1e-4);
}
END_TEST

/* ---- waits ----------------------------------------------------------------------------------- */

/* How often a run of so many steps waited for the device. */
static int64_t waits_of(const char *extra, int steps) {
    fixture_run f;
    char path[400];
    fixture_make(&f, "waits", steps, extra);
    snprintf(path, sizeof path, "%s/waits", f.dir);
    ck_assert_int_eq(setenv("EMULATED_WAITS", path, 1), 0);
    train(LOQUAT_EMULATED, &f, f.out, "--device cuda --eval-steps 99 --save-steps 99 "
          "--logging-steps 99");
    ck_assert_int_eq(unsetenv("EMULATED_WAITS"), 0);
    FILE *const file = fopen(path, "r");
    long long n = 0;
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fscanf(file, "%lld", &n), 1);
    fclose(file);
    return n;
}

static const struct { const char *extra; int waits; } steps[] = {
    {"lora_dropout: 0.1\n", 1},
    {"qat: {weight_dtype: q4_0, mode: merged}\n", 1},
    {"kd: {teacher: self, alpha: 0.5}\n", 1},
    {"kd: {teacher: self, alpha: 0.5, top_k: 5}\n", 1},
};

START_TEST(steps_wait_once) {
    const int64_t few = waits_of(steps[_i].extra, 2), more = waits_of(steps[_i].extra, 4);
    ck_assert_msg(more - few == 2 * steps[_i].waits, "%s: %lld waits in 2 steps", steps[_i].extra,
                  (long long)(more - few));
}
END_TEST

/* ---- checkpoints ----------------------------------------------------------------------------- */

#define DEVICE(name) "--device " name " --bf16 false"

/* A run of 4 steps whose second half is on another device, and one that stays. */
static const struct { const char *first, *second; bool same_bits; } moves[] = {
    {DEVICE("cuda"), DEVICE("cpu"), false},
    {DEVICE("cpu"), DEVICE("cuda"), false},
    {DEVICE("cuda"), DEVICE("cuda"), true},
};

static const char *program_of(const char *device) {
    return strstr(device, "cuda") ? LOQUAT_EMULATED : NULL;
}

/* Step 2's checkpoint is where the run stopped. */
static void stop_after_two(const char *out) {
    char command[800];
    snprintf(command, sizeof command, "rm '%s/checkpoints/'*4*", out);
    ck_assert_int_eq(system(command), 0);
}

START_TEST(checkpoints_move) {
    fixture_run f;
    char name[32], stays[300], moved[300], options[200], a[400], b[400];
    snprintf(name, sizeof name, "move-%d", _i);
    fixture_make(&f, name, 4, "qat: {weight_dtype: q4_0, mode: separate}\n"
                              "init_lora_weights: pissa\n");
    snprintf(stays, sizeof stays, "%s/stays", f.dir);
    snprintf(moved, sizeof moved, "%s/moved", f.dir);
    train(program_of(moves[_i].first), &f, stays, moves[_i].first);
    train(program_of(moves[_i].first), &f, moved, moves[_i].first);
    stop_after_two(moved);
    snprintf(options, sizeof options, "%s --resume-from-checkpoint auto", moves[_i].second);
    train(program_of(moves[_i].second), &f, moved, options);
    close_curves("moved", stays, moved, 1e-4);
    snprintf(a, sizeof a, "%s/model-F32-LoRA.gguf", stays);
    snprintf(b, sizeof b, "%s/model-F32-LoRA.gguf", moved);
    if (moves[_i].same_bits) ck_assert(fixture_same_file(a, b));
}
END_TEST

/* ---- export ---------------------------------------------------------------------------------- */

static const char *const merged[] = {
    "qat: {weight_dtype: q4_0, mode: merged}\n",
    "qat: {weight_dtype: q8_0, mode: merged}\nuse_dora: true\n",
};

/* The blocks that the device validated are built again by the CPU. */
START_TEST(exported_again_on_the_cpu) {
    fixture_run f;
    char name[32], out[300], model[400], shipped[400];
    const char *const type = _i ? "Q8_0" : "Q4_0";
    snprintf(name, sizeof name, "export-%d", _i);
    fixture_make(&f, name, 3, merged[_i]);
    snprintf(out, sizeof out, "%s/out", f.dir);
    snprintf(model, sizeof model, "%s/model-%s.gguf", out, type);
    snprintf(shipped, sizeof shipped, "%s/shipped.gguf", f.dir);
    train(LOQUAT_EMULATED, &f, out, "--device cuda");
    ck_assert_int_eq(rename(model, shipped), 0);
    fixture_program(NULL);
    const fixture_result r = fixture_loquat("export %s", out);
    ck_assert_msg(r.exit_status == 0, "%s", r.err);
    ck_assert(fixture_same_file(shipped, model));
}
END_TEST

/* ---- the other verbs ------------------------------------------------------------------------- */

static double loss_of(const char *program, const fixture_run *f, const char *options) {
    fixture_program(program);
    const fixture_result r =
        fixture_loquat("evaluate %s --data %s --json %s", f->model, f->data, options);
    ck_assert_msg(r.exit_status == 0, "%s", r.err);
    const char *const at = strstr(r.out, "\"loss\":");
    ck_assert_ptr_nonnull(at);
    return strtod(at + 7, NULL);
}

START_TEST(other_verbs) {
    fixture_run f;
    fixture_make(&f, "verbs", 2, "");
    const double cpu = loss_of(NULL, &f, "");
    ck_assert_double_eq_tol(loss_of(LOQUAT_EMULATED, &f, "--device cuda"), cpu, 1e-5);
    char text[2000];
    fixture_program(NULL);
    fixture_result r = fixture_loquat("chat %s --prompt hello --max-new-tokens 8", f.model);
    ck_assert_msg(r.exit_status == 0, "%s", r.err);
    snprintf(text, sizeof text, "%s", r.out);
    fixture_program(LOQUAT_EMULATED);
    r = fixture_loquat("chat %s --prompt hello --max-new-tokens 8 --device cuda", f.model);
    ck_assert_msg(r.exit_status == 0, "%s", r.err);
    ck_assert_str_eq(r.out, text);
    r = fixture_loquat("plan %s --device cuda", f.config);
    ck_assert_msg(r.exit_status == 0 && test_contains(r.out, "MB of the device's memory"), "%s%s",
                  r.out, r.err);
    r = fixture_loquat("train %s --device auto --json", f.config);
    ck_assert_msg(r.exit_status == 0 && test_contains(r.err, "device cuda:0: ") &&
                      test_contains(r.out, "\"device\": \"cuda:0\""), "%s%s", r.out, r.err);
}
END_TEST

/* ---- errors ---------------------------------------------------------------------------------- */

static const struct { const char *options, *message; } mistakes[] = {
    {"--device cuda:1", "the last is cuda:0"},
    {"--device tpu", "wanted auto, cpu, cuda or cuda:N"},
    {"--device cpu --bf16 true", "keeps activations in F32"},
};

START_TEST(mistakes_are_named) {
    fixture_run f;
    fixture_make(&f, "mistakes", 2, "");
    fixture_program(LOQUAT_EMULATED);
    const fixture_result r = fixture_loquat("train %s %s", f.config, mistakes[_i].options);
    ck_assert_int_ne(r.exit_status, 0);
    ck_assert_msg(strstr(r.err, mistakes[_i].message), "found '%s', wanted '%s'", r.err,
                  mistakes[_i].message);
}
END_TEST

START_TEST(what_is_too_large_is_named) {
    fixture_run f;
    fixture_make(&f, "large", 2, "");
    fixture_program(LOQUAT_EMULATED);
    ck_assert_int_eq(setenv("EMULATED_BYTES", "1000000", 1), 0);
    const fixture_result r = fixture_loquat("train %s --device cuda", f.config);
    ck_assert_int_eq(unsetenv("EMULATED_BYTES"), 0);
    ck_assert_int_ne(r.exit_status, 0);
    static const char *const parts[] = {"micro_batch_size", "activations of ",
                                        "device 'cuda:0'", "GB wanted", "of 0.001 GB are free"};
    for (int i = 0; i < LQ_ARRAY_LEN(parts); i++)
        ck_assert_msg(strstr(r.err, parts[i]), "found '%s', wanted '%s'", r.err, parts[i]);
}
END_TEST

static TCase *add_case(Suite *suite, const char *name) {
    TCase *const tcase = tcase_create(name);
    tcase_set_timeout(tcase, 120);
    suite_add_tcase(suite, tcase);
    return tcase;
}

int main(void) {
    Suite *const suite = suite_create("device_runs");
    TCase *const runs = add_case(suite, "runs"), *const queue = add_case(suite, "queue");
    TCase *const mistaken = add_case(suite, "mistakes");
    tcase_add_loop_test(runs, curve_is_the_cpus, 0, LQ_ARRAY_LEN(modes));
    tcase_add_test(runs, bf16_follows_the_curve);
    tcase_add_loop_test(runs, checkpoints_move, 0, LQ_ARRAY_LEN(moves));
    tcase_add_loop_test(runs, exported_again_on_the_cpu, 0, LQ_ARRAY_LEN(merged));
    tcase_add_test(runs, other_verbs);
    tcase_add_test(queue, batches_pile_up);
    tcase_add_loop_test(mistaken, mistakes_are_named, 0, LQ_ARRAY_LEN(mistakes));
    if (strstr(LOQUAT_EMULATED, "emulated")) { /* a GPU neither counts waits nor has little memory */
        tcase_add_loop_test(queue, steps_wait_once, 0, LQ_ARRAY_LEN(steps));
        tcase_add_test(mistaken, what_is_too_large_is_named);
    }
    return test_run(suite);
}
