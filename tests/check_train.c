/* What training promises: the loss falls, the exported file is what was validated, packing and
 * checkpointing change nothing, a bad number stops the run with the last good checkpoint kept. */
#include "atomic_file.h"
#include "run_fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The number after "key": in JSON text; NaN if absent. */
static double number_after(const char *json, const char *key) {
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\":", key);
    const char *at = strstr(json, quoted);
    return at ? strtod(at + strlen(quoted), NULL) : (double)NAN;
}

static double evaluate(const char *model, const char *data, bool rounds) {
    const fixture_result r =
        fixture_loquat("evaluate %s --data %s --json --threads 1 --activation-dtype %s", model,
                       data, rounds ? "runtime" : "off");
    ck_assert_msg(r.exit_status == 0, "%s", r.err);
    return number_after(r.out, "loss");
}

#define EXPERTS "lora_target_modules: [q_proj, gate_proj, up_proj, down_proj]\n"

static const struct { int64_t n_expert; const char *extra; } modes[] = {
    {0, ""},
    {0, "export: {quantize: [Q4_0]}\n"},
    {0, "qat: {weight_dtype: q4_0, mode: merged}\n"},
    {0, "qat: {weight_dtype: q8_0, mode: merged}\nuse_rslora: true\n"},
    {0, "qat: {weight_dtype: q4_0, mode: separate}\n"},
    {0, "adapter: full\n"},
    {5, EXPERTS},
    {5, EXPERTS "gradient_checkpointing: true\nqat: {weight_dtype: q4_0, mode: merged}\n"},
    {5, EXPERTS "qat: {weight_dtype: q4_0, mode: separate}\n"},
    {5, "adapter: full\n"},
    {0, "qat: {weight_dtype: IQ4_NL, imatrix: auto}\n"},
    {0, "qat: {weight_dtype: q4_0, mode: separate, imatrix: auto, output_tensor_type: q4_0,\n"
        "      tensor_type: ['attn_v=q8_0', 'blk.1.ffn_(up|down)=f16']}\n"},
    {0, "qat: {weight_dtype: Q4_K_M, requantize_every: 4}\nema_decay: 0.5\n"},
    {0, "qat: {weight_dtype: q3_k, mode: separate, imatrix: auto}\n"},
    {0, "qat: {weight_dtype: q4_0, mode: merged, activation_dtype: runtime}\n"},
    {0, "qat: {weight_dtype: q8_0, mode: separate, activation_dtype: runtime}\n"},
    {0, "qat: {weight_dtype: q4_0, mode: separate}\ninit_lora_weights: loftq\n"},
    {5, EXPERTS "qat: {weight_dtype: q4_0, mode: merged, activation_dtype: runtime}\n"},
    {5, EXPERTS "qat: {weight_dtype: q4_0, mode: separate}\ninit_lora_weights: loftq\n"},
    {0, "qat: {weight_dtype: q4_0, mode: separate, imatrix: auto}\ninit_lora_weights: qera\n"},
    {0, "init_lora_weights: pissa\nbase_quant: q8_0\nlora_dropout: 0.05\n"
        "gradient_checkpointing: true\nuse_rslora: true\n"},
    {0, "init_lora_weights: pissa\nqat: {weight_dtype: q4_0, mode: merged}\n"},
    {0, "init_lora_weights: pissa\nqat: {weight_dtype: q4_0, mode: separate}\n"},
    {0, "adapter: scales\nbase_quant: q4_0\n"},
    {0, "adapter: scales\nbase_quant: q8_0\ngradient_checkpointing: true\nema_decay: 0.5\n"},
    {0, "use_dora: true\nexport: {quantize: [F32]}\n"},
    {0, "use_dora: true\ngradient_checkpointing: true\nqat: {weight_dtype: q4_0, mode: merged}\n"},
};

/* With the training data as validation data, the recorded loss is reproduced from the exported
 * files alone. */
START_TEST(validated_is_shipped) {
    fixture_run f;
    char name[32], command[3000];
    snprintf(name, sizeof name, "shipped-%d", _i);
    const tiny_model model = {.n_ff = 64, .tied = true, .n_expert = modes[_i].n_expert};
    fixture_make_of(&f, name, 30, modes[_i].extra, &model);
    if (strstr(modes[_i].extra, "_K_M") || strstr(modes[_i].extra, "q3_k")) fixture_widen(&f);
    snprintf(command, sizeof command,
             "sed -i 's|^val_set_size.*|test_datasets: [{path: %s}]|' '%s'", f.data, f.config);
    ck_assert_int_eq(system(command), 0);
    const bool rounds = strstr(modes[_i].extra, "runtime");
    const double before = evaluate(f.model, f.data, rounds);
    const fixture_result r = fixture_loquat("train %s --json", f.config);
    ck_assert_msg(r.exit_status == 0, "%s", r.err);
    const double best = number_after(r.out, "best_eval_loss");
    ck_assert_msg(best < before - 0.5, "loss %g before, %g after", before, best);
    if (strstr(modes[_i].extra, "quantize") || strstr(modes[_i].extra, "full"))
        return; /* exported in another precision than validated */
    /* Plain PiSSA is shipped as the difference from the base: the same sum in another order. */
    const bool other_sum = strstr(modes[_i].extra, "pissa") && !strstr(modes[_i].extra, "qat");
    ck_assert_double_eq_tol(evaluate(f.out, f.data, rounds), best, other_sum ? 1e-6 : 1e-8);
}
END_TEST

/* Packing and checkpointing are about speed and memory: the first evaluation after a step is the
 * same number. */
START_TEST(checkpointing_is_bit_identical) {
    fixture_run plain, checkpointed;
    char a[400], b[400];
    fixture_make(&plain, "plain", 6, "qat: {weight_dtype: q4_0, mode: merged}\n");
    fixture_make(&checkpointed, "checkpointed", 6,
                 "qat: {weight_dtype: q4_0, mode: merged}\ngradient_checkpointing: true\n");
    ck_assert_int_eq(fixture_loquat("train %s", plain.config).exit_status, 0);
    ck_assert_int_eq(fixture_loquat("train %s", checkpointed.config).exit_status, 0);
    snprintf(a, sizeof a, "%s/model-Q4_0.gguf", plain.out);
    snprintf(b, sizeof b, "%s/model-Q4_0.gguf", checkpointed.out);
    ck_assert_msg(fixture_same_file(a, b), "gradient_checkpointing changed the result");
}
END_TEST

START_TEST(continues_from_an_adapter) {
    fixture_run first, second;
    fixture_make(&first, "first", 20, "");
    fixture_make(&second, "second", 10, "qat: {weight_dtype: q4_0, mode: merged}\n");
    ck_assert_int_eq(fixture_loquat("train %s", first.config).exit_status, 0);
    fixture_result r = fixture_loquat("train %s --lora-model-dir %s/model-F32-LoRA.gguf",
                                      second.config, first.out);
    ck_assert_msg(r.exit_status == 0, "%s", r.err);
    char metrics[900];
    snprintf(metrics, sizeof metrics, "grep -m1 eval_loss %s/metrics.jsonl > %s/first-eval",
             second.out, second.out);
    ck_assert_int_eq(system(metrics), 0);
    snprintf(metrics, sizeof metrics, "%s/first-eval", second.out);
    FILE *f = fopen(metrics, "r");
    char line[512] = "";
    ck_assert_ptr_nonnull(fgets(line, sizeof line, f));
    fclose(f);
    const double start = number_after(line, "eval_loss");
    ck_assert_msg(start < 4,
                  "step 0 of the continuation has loss %g: the adapter was not taken over", start);
}
END_TEST

/* Every token goes to two experts of every layer. */
START_TEST(load_of_experts_is_logged) {
    fixture_run f;
    char path[400], line[4096];
    fixture_make_of(&f, "load", 1, "", &(tiny_model){.n_expert = 5, .n_layer = 2});
    const fixture_result r = fixture_loquat("train %s", f.config);
    ck_assert_msg(r.exit_status == 0, "%s", r.err);
    snprintf(path, sizeof path, "%s/metrics.jsonl", f.out);
    FILE *file = fopen(path, "r");
    ck_assert_ptr_nonnull(file);
    const char *load = NULL;
    while (!load && fgets(line, sizeof line, file)) load = strstr(line, "\"expert_load\": [[");
    fclose(file);
    ck_assert_ptr_nonnull(load);
    long long n[10];
    ck_assert_int_eq(sscanf(load, "\"expert_load\": [[%lld, %lld, %lld, %lld, %lld], [%lld, %lld, "
                                  "%lld, %lld, %lld]]}", &n[0], &n[1], &n[2], &n[3], &n[4], &n[5],
                            &n[6], &n[7], &n[8], &n[9]), 10);
    const double tokens = number_after(line, "tokens");
    ck_assert_double_eq((double)(n[0] + n[1] + n[2] + n[3] + n[4]), 2 * tokens);
    ck_assert_double_eq((double)(n[5] + n[6] + n[7] + n[8] + n[9]), 2 * tokens);
}
END_TEST

/* all-linear leaves experts out; dropout cannot be had on them. */
START_TEST(experts_are_asked_for) {
    fixture_run f;
    fixture_make_of(&f, "asked", 1, "", &(tiny_model){.n_expert = 5});
    fixture_result r = fixture_loquat("train %s", f.config);
    ck_assert_msg(r.exit_status == 0 && test_contains(r.err, "adapter: 8 weights"), "%s", r.err);
    fixture_make_of(&f, "dropout", 1, EXPERTS "lora_dropout: 0.1\n",
                    &(tiny_model){.n_expert = 5});
    r = fixture_loquat("train %s", f.config);
    ck_assert_msg(r.exit_status == 1 && test_contains(r.err, "an adapter per expert"), "%s", r.err);
}
END_TEST

/* Only where a format clips does the clipped estimator differ. */
START_TEST(clipped_estimator) {
    static const struct { const char *type, *file; bool differs; } formats[] = {
        {"q4_0", "model-Q4_0.gguf", true},
        {"q8_0", "model-Q8_0.gguf", false},
    };
    for (int i = 0; i < LQ_ARRAY_LEN(formats); i++) {
        fixture_run identity, clipped;
        char extra[100], a[400], b[400];
        snprintf(extra, sizeof extra, "qat: {weight_dtype: %s, mode: merged}\n", formats[i].type);
        fixture_make(&identity, "identity", 6, extra);
        fixture_make(&clipped, "clipped", 6, extra);
        ck_assert_int_eq(fixture_loquat("train %s", identity.config).exit_status, 0);
        const fixture_result r = fixture_loquat("train %s --qat.ste clipped", clipped.config);
        ck_assert_msg(r.exit_status == 0, "%s", r.err);
        snprintf(a, sizeof a, "%s/%s", identity.out, formats[i].file);
        snprintf(b, sizeof b, "%s/%s", clipped.out, formats[i].file);
        ck_assert_int_eq(fixture_same_file(a, b), !formats[i].differs);
    }
}
END_TEST

START_TEST(clipped_estimator_refused) {
    fixture_run f;
    fixture_make(&f, "no-clip", 2, "qat: {weight_dtype: iq4_nl, ste: clipped}\n");
    const fixture_result r = fixture_loquat("train %s", f.config);
    ck_assert_msg(r.exit_status != 0 &&
                      test_contains(r.err, "qat.ste: clipped is not possible for blk.0.attn_q") &&
                      test_contains(r.err, "IQ4_NL"), "%s", r.err);
}
END_TEST

/* A directory that nothing can be made of is said before the training, not after it. */
START_TEST(unwritable_directory_is_said_first) {
    fixture_run f;
    const tiny_model model = {.rope_freqs = true};
    fixture_make_of(&f, "no-directory", 2, "export: {merged_safetensors: true}\n", &model);
    const fixture_result r = fixture_loquat("train %s", f.config);
    ck_assert_msg(r.exit_status == 1 &&
                      test_contains(r.err, "no config.json can be made of it") &&
                      !test_contains(r.err, "step 1/2") && !lq_is_directory(f.out),
                  "exit %d: %s", r.exit_status, r.err);
}
END_TEST

START_TEST(exploding_run_stops) {
    fixture_run f;
    fixture_make(
        &f, "exploding", 200,
        "max_grad_norm: 0\nloss_watchdog_patience: 2\noptimizer: sgd\nlr_scheduler: constant\n");
    const fixture_result r =
        fixture_loquat("train %s --learning-rate 10 --lora-alpha 1e6", f.config);
    ck_assert_msg(r.exit_status == 1 &&
                      (test_contains(r.err, "non-finite") || test_contains(r.err, "not finite")),
                  "exit %d: %s", r.exit_status, r.err);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("train");
    TCase *tc = tcase_create("train");
    tcase_set_timeout(tc, 180);
    tcase_add_loop_test(tc, validated_is_shipped, 0, LQ_ARRAY_LEN(modes));
    tcase_add_test(tc, checkpointing_is_bit_identical);
    tcase_add_test(tc, continues_from_an_adapter);
    tcase_add_test(tc, load_of_experts_is_logged);
    tcase_add_test(tc, experts_are_asked_for);
    tcase_add_test(tc, clipped_estimator);
    tcase_add_test(tc, clipped_estimator_refused);
    tcase_add_test(tc, unwritable_directory_is_said_first);
    tcase_add_test(tc, exploding_run_stops);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
