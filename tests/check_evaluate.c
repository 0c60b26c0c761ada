/* evaluate against a reference: a model, and the logits file of that model, say the same; what
 * cannot be compared is refused by name. */
#include "run_fixture.h"
#include "tiny_model.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char dir[200];

static const char *below(const char *name) {
    static char path[4][256];
    static int next;
    char *p = path[next++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", dir, name);
    return p;
}

/* One model in F32 and in Q4_0, one of another vocabulary; two texts of many chunks of 32. */
static void setup(void) {
    fixture_run f;
    char text[2048] = "";
    fixture_make(&f, "evaluate", 2, "");
    snprintf(dir, sizeof dir, "%s", f.dir);
    ck_assert_int_eq(chdir(dir), 0);
    ck_ok(tiny_model_write(below("q4.gguf"), &(tiny_model){.fmt = &lq_q4_0, .n_ff = 96}));
    ck_ok(tiny_model_write(below("f32.gguf"), &(tiny_model){.n_ff = 96}));
    ck_ok(tiny_model_write(below("big.gguf"), &(tiny_model){.n_vocab = 400}));
    for (int i = 0; i < 100; i++) snprintf(text + strlen(text), 20, "a%d b c%d ", i, i * i % 17);
    fixture_write(below("text.txt"), text);
    text[100] = 'x';
    fixture_write(below("other.txt"), text);
}

static json_t *evaluate(const char *args) {
    json_error_t error;
    const fixture_result r = fixture_loquat("evaluate %s --json", args);
    ck_assert_msg(r.exit_status == 0, "loquat evaluate %s: %s", args, r.err);
    json_t *o = json_loads(r.out, 0, &error);
    ck_assert_msg(o != NULL, "%s: %s", error.text, r.out);
    return o;
}

static double value(const json_t *o, const char *key) {
    const json_t *v = json_object_get(o, key);
    ck_assert_msg(json_is_number(v), "no number '%s'", key);
    return json_number_value(v);
}

static void save_logits(void) {
    json_decref(
        evaluate("f32.gguf --perplexity text.txt --ctx-size 32 --save-all-logits base.kld"));
}

static const char *const keys[] = {
    "kl_divergence", "kl_divergence_error", "kl_divergence_median", "kl_divergence_90",
    "kl_divergence_99", "kl_divergence_99_9", "kl_divergence_max", "same_top", "mean_delta_p",
    "rms_delta_p", "ln_ppl_ratio", "ln_ppl_ratio_error"};

START_TEST(model_and_its_logits_file_agree) {
    save_logits();
    json_t *a = evaluate("q4.gguf --perplexity text.txt --ctx-size 32 --reference f32.gguf");
    json_t *b = evaluate("q4.gguf --perplexity text.txt --kl-divergence-base base.kld");
    json_t *base = evaluate("f32.gguf --perplexity text.txt --ctx-size 32");
    ck_assert_double_gt(value(a, "kl_divergence"), 0);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        ck_assert_double_eq_tol(value(a, keys[i]), value(b, keys[i]),
                                1e-4 + 1e-2 * fabs(value(a, keys[i])));
    ck_assert_double_eq_tol(value(a, "ln_ppl_ratio"), value(a, "nll") - value(base, "nll"), 1e-6);
    json_decref(a);
    json_decref(b);
    json_decref(base);
}
END_TEST

START_TEST(same_model_does_not_diverge) {
    static const char *const on[] = {"--perplexity text.txt --ctx-size 32", "--data data.jsonl"};
    char args[200];
    snprintf(args, sizeof args, "q4.gguf %s --reference q4.gguf", on[_i]);
    json_t *o = evaluate(args);
    ck_assert_double_eq_tol(value(o, "kl_divergence_max"), 0, 1e-5);
    ck_assert_double_eq(value(o, "same_top"), 1);
    ck_assert_double_eq_tol(value(o, "ln_ppl_ratio"), 0, 1e-6);
    json_decref(o);
}
END_TEST

START_TEST(data_ratio_is_the_difference_of_losses) {
    json_t *o = evaluate("q4.gguf --data data.jsonl --reference f32.gguf");
    json_t *base = evaluate("f32.gguf --data data.jsonl");
    ck_assert_double_gt(value(o, "kl_divergence"), 0);
    ck_assert_double_eq_tol(value(o, "ln_ppl_ratio"), value(o, "loss") - value(base, "loss"), 1e-5);
    json_decref(o);
    json_decref(base);
}
END_TEST

static const struct { const char *args; int exit_status; const char *says; } refused[] = {
    {"q4.gguf --perplexity text.txt --reference big.gguf", 1, "has a vocabulary of 400"},
    {"q4.gguf --perplexity text.txt --reference nowhere.gguf", 1, "nowhere.gguf"},
    {"q4.gguf --reference f32.gguf", 2, "nothing to evaluate"},
    {"q4.gguf --reference f32.gguf --perplexity text.txt --data data.jsonl", 2, "either"},
    {"q4.gguf --reference f32.gguf --kl-divergence-base base.kld", 2, "give one of them"},
    {"big.gguf --kl-divergence-base base.kld", 1, "has a vocabulary of 320, the model 400"},
    {"q4.gguf --perplexity other.txt --kl-divergence-base base.kld", 1, "another text than"},
    {"q4.gguf --kl-divergence-base cut.kld", 1, "ends too early"},
    {"q4.gguf --kl-divergence-base text.txt", 1, "is not a logits file"},
};

START_TEST(refused_by_name) {
    save_logits();
    ck_assert_int_eq(system("head -c -1 base.kld >cut.kld"), 0);
    const fixture_result r = fixture_loquat("evaluate %s", refused[_i].args);
    ck_assert_msg(r.exit_status == refused[_i].exit_status &&
                      test_contains(r.err, refused[_i].says),
                  "loquat evaluate %s: exit %d: %s", refused[_i].args, r.exit_status, r.err);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("evaluate");
    TCase *tc = tcase_create("evaluate");
    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_add_test(tc, model_and_its_logits_file_agree);
    tcase_add_loop_test(tc, same_model_does_not_diverge, 0, 2);
    tcase_add_test(tc, data_ratio_is_the_difference_of_losses);
    tcase_add_loop_test(tc, refused_by_name, 0, (int)(sizeof refused / sizeof refused[0]));
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
