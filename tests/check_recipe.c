/* `recipe: [lora, qad]` (trainer/recipe.c): one command for both phases; what its directory holds
 * and says; mistakes found before anything is trained; a directory of an earlier recipe. Killing it
 * is check_resume's. */
#include "run_fixture.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define RECIPE                                                                                     \
    "recipe: [lora, qad]\nlora_dropout: 0.1\nqat: {weight_dtype: q4_0, mode: merged}\n"            \
    "lora: {max_steps: 20}\nqad: {max_steps: 30, learning_rate: 2e-3}\n"

static const char *below(const fixture_run *f, const char *name) {
    static char path[400];
    snprintf(path, sizeof path, "%s/%s", f->out, name);
    return path;
}

static void train(const fixture_run *f, const char *options) {
    const fixture_result r = fixture_loquat("train %s %s", f->config, options);
    ck_assert_msg(r.exit_status == 0, "%s", r.err);
}

static void refused(const fixture_run *f, const char *options, const char *says) {
    const fixture_result r = fixture_loquat("train %s %s", f->config, options);
    ck_assert_msg(r.exit_status == 2 && test_contains(r.err, says), "exit %d, wanted '%s': %s",
                  r.exit_status, says, r.err);
}

static double loss(const json_t *report, const char *key) {
    return json_number_value(json_object_get(json_object_get(report, "eval_loss"), key));
}

static double seconds(const json_t *record) {
    ck_assert(json_is_real(json_object_get(record, "seconds")));
    return json_number_value(json_object_get(record, "seconds"));
}

START_TEST(one_command_makes_a_better_file) {
    fixture_run f;
    fixture_make(&f, "recipe", 1, RECIPE);
    train(&f, "");
    json_t *report = json_load_file(below(&f, "run.json"), 0, NULL);
    ck_assert_ptr_nonnull(report);
    const double floating = loss(report, "floating_point"),
                 rounded = loss(report, "quantized_at_once"),
                 trained = loss(report, "trained_quantized"), won = loss(report, "recovered");
    ck_assert_msg(floating < rounded && trained < rounded, "losses %g, %g, %g", floating, rounded,
                  trained);
    ck_assert_double_eq_tol(won, (rounded - trained) / (rounded - floating), 1e-9);
    const json_t *phases = json_object_get(report, "recipe");
    ck_assert_str_eq(json_string_value(json_array_get(phases, 1)), "qad");
    ck_assert(json_is_object(json_object_get(report, "lora")));
    ck_assert_double_eq_tol(seconds(report),
                            seconds(json_object_get(report, "lora")) +
                                seconds(json_object_get(report, "qad")), 1e-9);
    json_decref(report);
    const fixture_result r =
        fixture_loquat("evaluate %s --data %s --json --threads 1", f.out, f.data);
    ck_assert_msg(r.exit_status == 0, "%s", r.err);
}
END_TEST

/* The second phase is what two commands would have done. */
START_TEST(same_as_two_commands) {
    fixture_run whole, first, second;
    char adapter[400], a[400];
    fixture_make(&whole, "one", 6, "recipe: [lora, qad]\nqat: {weight_dtype: q4_0}\n");
    fixture_make(&first, "first", 6, "");
    fixture_make(&second, "second", 6, "qat: {weight_dtype: q4_0}\nkd: {}\n");
    train(&whole, "");
    train(&first, "");
    snprintf(adapter, sizeof adapter, "--lora-model-dir %s/model-F32-LoRA.gguf", first.out);
    train(&second, adapter);
    snprintf(a, sizeof a, "%s/model-Q4_0.gguf", second.out);
    ck_assert(fixture_same_file(a, below(&whole, "model-Q4_0.gguf")));
}
END_TEST

START_TEST(export_again) {
    fixture_run f;
    char copy[400], command[900];
    fixture_make(&f, "export-recipe", 4, "recipe: [lora, qad]\nqat: {weight_dtype: q8_0}\n");
    train(&f, "");
    snprintf(copy, sizeof copy, "%s/copy.gguf", f.dir);
    snprintf(command, sizeof command, "mv '%s' '%s'", below(&f, "model-Q8_0.gguf"), copy);
    ck_assert_int_eq(system(command), 0);
    const fixture_result r = fixture_loquat("export %s", f.out);
    ck_assert_msg(r.exit_status == 0, "%s", r.err);
    ck_assert(fixture_same_file(copy, below(&f, "model-Q8_0.gguf")));
}
END_TEST

START_TEST(mistakes_come_before_training) {
    fixture_run f;
    fixture_make(&f, "mistakes", 2, RECIPE);
    refused(&f, "--qad num_epochs=few", "qad: --num-epochs: found 'few'");
    refused(&f, "--qad lora_r=3", "lora_r: is the same in all phases");
    refused(&f, "--qat off", "recipe: its second phase quantizes");
    refused(&f, "--resume-from-checkpoint somewhere", "a recipe goes on where it stopped");
    ck_assert_int_ne(access(below(&f, "lora/metrics.jsonl"), F_OK), 0);
}
END_TEST

START_TEST(earlier_recipe_is_kept_or_replaced) {
    fixture_run f;
    fixture_make(&f, "earlier", 2, "recipe: [lora, qad]\nqat: {weight_dtype: q4_0}\n");
    train(&f, "");
    refused(&f, "", "holds an earlier run");
    refused(&f, "--resume-from-checkpoint auto --seed 3", "these keys differ: seed");
    refused(&f, "--resume-from-checkpoint auto --kd.alpha 0.75", "these keys differ: kd.alpha");
    train(&f, "--resume-from-checkpoint auto");
    train(&f, "--overwrite-output-dir true --seed 3");
}
END_TEST

START_TEST(plan_has_both_phases) {
    fixture_run f;
    fixture_make(&f, "recipe-plan", 2, RECIPE);
    fixture_result r = fixture_loquat("plan %s", f.config);
    ck_assert_msg(r.exit_status == 0, "%s", r.err);
    ck_assert(test_contains(r.out, "phase lora\n") && test_contains(r.out, "\nphase qad\n"));
    r = fixture_loquat("plan %s --json", f.config);
    json_t *plan = json_loads(r.out, 0, NULL);
    ck_assert(json_is_object(json_object_get(plan, "lora")));
    ck_assert_int_eq(
        json_integer_value(json_object_get(json_object_get(plan, "qad"), "steps")), 30);
    json_decref(plan);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("recipe");
    TCase *tc = tcase_create("recipe");
    tcase_set_timeout(tc, 180);
    tcase_add_test(tc, one_command_makes_a_better_file);
    tcase_add_test(tc, same_as_two_commands);
    tcase_add_test(tc, export_again);
    tcase_add_test(tc, mistakes_come_before_training);
    tcase_add_test(tc, earlier_recipe_is_kept_or_replaced);
    tcase_add_test(tc, plan_has_both_phases);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
