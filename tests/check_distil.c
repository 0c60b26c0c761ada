/* Runs with a teacher (trainer/teacher.c): of itself a model learns nothing; the divergence falls;
 * the stored top tokens stand for the whole distribution, and are computed once; a bigger teacher;
 * teachers that do not fit. */
#include "run_fixture.h"
#include "tiny_model.h"

#include <glob.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- metrics.jsonl --------------------------------------------------------------------------- */

enum { MAX_VALUES = 64 };
typedef struct values { double v[MAX_VALUES]; int n; } values;

/* The numbers of a key, in the order of the file. */
static values metrics_of(const fixture_run *f, const char *key) {
    char path[300], quoted[64], line[1024];
    values found = {.n = 0};
    snprintf(path, sizeof path, "%s/metrics.jsonl", f->out);
    snprintf(quoted, sizeof quoted, "\"%s\": ", key);
    FILE *file = fopen(path, "r");
    ck_assert_ptr_nonnull(file);
    while (fgets(line, sizeof line, file) && found.n < MAX_VALUES) {
        const char *at = strstr(line, quoted);
        if (at) found.v[found.n++] = strtod(at + strlen(quoted), NULL);
    }
    fclose(file);
    ck_assert_msg(found.n > 0, "%s has no %s", path, key);
    return found;
}

static double last(const values *x) { return x->v[x->n - 1]; }

static void train(const fixture_run *f, const char *options) {
    const fixture_result r = fixture_loquat("train %s %s", f->config, options);
    ck_assert_msg(r.exit_status == 0, "%s", r.err);
}

/* ---- self ------------------------------------------------------------------------------------ */

START_TEST(of_itself_a_model_learns_nothing) {
    fixture_run f;
    fixture_make(&f, "itself", 4, "kd: {alpha: 1}\n");
    train(&f, "");
    const values loss = metrics_of(&f, "loss"), kl = metrics_of(&f, "eval_kl"),
                 norm = metrics_of(&f, "grad_norm"), eval = metrics_of(&f, "eval_loss");
    for (int i = 0; i < loss.n; i++) ck_assert_double_eq(loss.v[i], 0);
    for (int i = 0; i < norm.n; i++) ck_assert_double_eq(norm.v[i], 0);
    for (int i = 0; i < kl.n; i++) ck_assert_double_eq(kl.v[i], 0);
    ck_assert_double_eq(eval.v[0], last(&eval));
    ck_assert_double_gt(eval.v[0], 1);
}
END_TEST

/* Two phases: labels first, then the quantized model after the one that the labels made. */
START_TEST(quantized_model_approaches_its_teacher) {
    fixture_run first, second;
    char options[400];
    fixture_make(&first, "labels", 20, "");
    fixture_make(&second, "quantized", 30,
                 "qat: {weight_dtype: q4_0, mode: merged}\nkd: {alpha: 1}\n");
    train(&first, "");
    snprintf(options, sizeof options,
             "--lora-model-dir %s/model-F32-LoRA.gguf --learning-rate 2e-3", first.out);
    train(&second, options);
    const values kl = metrics_of(&second, "eval_kl");
    double least = kl.v[0];
    for (int i = 0; i < kl.n; i++) least = fmin(least, kl.v[i]);
    ck_assert_double_gt(kl.v[0], 0);
    ck_assert_msg(least < 0.8 * kl.v[0], "KL %g at first, %g at best", kl.v[0], least);
}
END_TEST

START_TEST(checkpointing_changes_nothing) {
    fixture_run plain, checkpointed;
    char a[400], b[400];
    static const char kd[] = "qat: {weight_dtype: q4_0, mode: separate}\nkd: {temperature: 2}\n";
    fixture_make(&plain, "kd-plain", 6, kd);
    fixture_make(&checkpointed, "kd-checkpointed", 6, kd);
    train(&plain, "");
    train(&checkpointed, "--gradient-checkpointing true");
    snprintf(a, sizeof a, "%s/model-F32-LoRA.gguf", plain.out);
    snprintf(b, sizeof b, "%s/model-F32-LoRA.gguf", checkpointed.out);
    ck_assert(fixture_same_file(a, b));
}
END_TEST

/* ---- stored tokens --------------------------------------------------------------------------- */

static char stored_path[400];

static const char *stored(const fixture_run *f) {
    char pattern[300];
    glob_t found;
    snprintf(pattern, sizeof pattern, "%s/teacher-*.h5", f->out);
    ck_assert_int_eq(glob(pattern, 0, NULL, &found), 0);
    ck_assert_uint_eq(found.gl_pathc, 1);
    snprintf(stored_path, sizeof stored_path, "%s", found.gl_pathv[0]);
    globfree(&found);
    return stored_path;
}

#define Q4 "qat: {weight_dtype: q4_0, mode: merged}\n"

START_TEST(top_tokens_stand_for_all) {
    static const char *const divergences[] = {"forward_kl", "reverse_kl"};
    fixture_run all, top;
    char extra[200];
    snprintf(extra, sizeof extra, Q4 "kd: {alpha: 1, temperature: 1.5, divergence: %s}\n",
             divergences[_i]);
    fixture_make(&all, "all", 6, extra);
    fixture_make(&top, "top", 6, extra);
    train(&all, "--learning-rate 1e-5 --sample-packing true"); /* so that the runs stay close */
    train(&top, "--learning-rate 1e-5 --sample-packing true --kd.top-k 300");
    const values a = metrics_of(&all, "eval_kl"), b = metrics_of(&top, "eval_kl"),
                 la = metrics_of(&all, "loss"), lb = metrics_of(&top, "loss");
    ck_assert_double_gt(a.v[0], 0);
    ck_assert_int_eq(a.n, b.n);
    for (int i = 0; i < a.n; i++) ck_assert_double_eq_tol(a.v[i], b.v[i], 0.05 * a.v[i] + 1e-7);
    for (int i = 0; i < la.n; i++) ck_assert_double_eq_tol(la.v[i], lb.v[i], 0.05 * la.v[i] + 1e-7);
}
END_TEST

static bool asked_again(const fixture_run *f, const char *options, const char *says) {
    const fixture_result r =
        fixture_loquat("train %s --overwrite-output-dir true %s", f->config, options);
    ck_assert_msg(r.exit_status == 0, "%s", r.err);
    ck_assert_msg(!says || test_contains(r.err, says), "%s", r.err);
    return test_contains(r.err, "most likely tokens for");
}

START_TEST(top_tokens_are_computed_once) {
    fixture_run f;
    char command[600];
    fixture_make(&f, "once", 2, "kd: {top_k: 4}\n");
    ck_assert(asked_again(&f, "", NULL));
    ck_assert(!asked_again(&f, "--learning-rate 1e-3", NULL));
    snprintf(command, sizeof command, "truncate -s -100 '%s'", stored(&f));
    ck_assert_int_eq(system(command), 0);
    ck_assert(asked_again(&f, "", "the teacher is asked again"));
    ck_assert(!asked_again(&f, "", NULL));
    ck_assert(asked_again(&f, "--kd.temperature 2", NULL));
    ck_assert(asked_again(&f, "--kd.top-k 5", NULL));
    ck_assert(asked_again(&f, "--val-set-size 5", NULL));
}
END_TEST

/* ---- other teachers -------------------------------------------------------------------------- */

static void write_teacher(char path[300], const fixture_run *f, const tiny_model *model) {
    snprintf(path, 300, "%s/teacher.gguf", f->dir);
    ck_ok(tiny_model_write(path, model));
}

static const char *const ways[] = {"", "--kd.top-k 8"};

START_TEST(bigger_teacher) {
    fixture_run f;
    char path[300], options[500];
    const tiny_model model = {.arch = "qwen3", .n_embd = 128, .n_ff = 160, .n_layer = 3,
                              .qk_norms = true, .seed = 9};
    fixture_make(&f, "bigger", 40, "kd: {alpha: 1}\n");
    write_teacher(path, &f, &model);
    snprintf(options, sizeof options, "--kd.teacher %s %s", path, ways[_i]);
    train(&f, options);
    const values kl = metrics_of(&f, "eval_kl");
    ck_assert_msg(last(&kl) < 0.9 * kl.v[0], "KL %g at first, %g at last", kl.v[0], last(&kl));
}
END_TEST

static void refused(const fixture_run *f, const char *options, const char *says) {
    const fixture_result r = fixture_loquat("train %s %s", f->config, options);
    ck_assert_msg(r.exit_status != 0 && test_contains(r.err, says), "exit %d, wanted '%s': %s",
                  r.exit_status, says, r.err);
}

START_TEST(teachers_that_do_not_fit) {
    fixture_run f;
    char path[300], options[400], command[700];
    fixture_make(&f, "misfit", 2, "kd: {}\n");
    write_teacher(path, &f, &(tiny_model){.n_vocab = 384});
    snprintf(options, sizeof options, "--kd.teacher %s", path);
    refused(&f, options, "has 384 tokens, the base_model 320");
    write_teacher(path, &f, &(tiny_model){.n_vocab = 320});
    snprintf(command, sizeof command, "LC_ALL=C sed -i 's/.PAD319./[PAD!!!]/' '%s'", path);
    ck_assert_int_eq(system(command), 0);
    refused(&f, options, "has '[PAD!!!]' for token 319, the base_model '[PAD319]'");
    write_teacher(path, &f, &(tiny_model){.no_tokenizer = true});
    refused(&f, options, "has no tokenizer to compare");
    refused(&f, "--kd.teacher nowhere.gguf", "nowhere.gguf");
    refused(&f, "--kd.top-k 320", "kd.top_k: found 320, wanted less than the 320 tokens");
}
END_TEST

START_TEST(another_teacher_does_not_resume) {
    fixture_run f;
    char path[300], options[400];
    fixture_make(&f, "another", 2, "kd: {}\n");
    write_teacher(path, &f, &(tiny_model){.seed = 1});
    snprintf(options, sizeof options, "--kd.teacher %s", path);
    train(&f, options);
    write_teacher(path, &f, &(tiny_model){.seed = 2});
    snprintf(options, sizeof options, "--kd.teacher %s --resume-from-checkpoint auto", path);
    refused(&f, options, "the checkpoint was made with another teacher");
}
END_TEST

START_TEST(plan_counts_the_teacher) {
    fixture_run f;
    fixture_make(&f, "kd-plan", 2, "");
    for (int i = 0; i < 3; i++) {
        static const char *const with[] = {"", "--kd on", "--kd.top-k 8"};
        const fixture_result r = fixture_loquat("plan %s --json %s", f.config, with[i]);
        ck_assert_int_eq(r.exit_status, 0);
        const char *at = strstr(r.out, "\"teacher_bytes\": ");
        ck_assert_ptr_nonnull(at);
        ck_assert((strtoll(at + 17, NULL, 10) > 0) == (i > 0));
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("distil");
    TCase *tc = tcase_create("distil");
    tcase_set_timeout(tc, 180);
    tcase_add_test(tc, of_itself_a_model_learns_nothing);
    tcase_add_test(tc, quantized_model_approaches_its_teacher);
    tcase_add_test(tc, checkpointing_changes_nothing);
    tcase_add_loop_test(tc, top_tokens_stand_for_all, 0, 2);
    tcase_add_test(tc, top_tokens_are_computed_once);
    tcase_add_loop_test(tc, bigger_teacher, 0, LQ_ARRAY_LEN(ways));
    tcase_add_test(tc, teachers_that_do_not_fit);
    tcase_add_test(tc, another_teacher_does_not_resume);
    tcase_add_test(tc, plan_counts_the_teacher);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
