/* Rules between keys: each is broken by one configuration; those just inside the rules are fine. */
#include "test_util.h"

#include "config.h"

#define BASE "base_model: m.gguf\ndatasets: d.jsonl\n"

static const struct { const char *yaml, *message; } broken[] = {
    {BASE "warmup_steps: 5\nwarmup_ratio: 0.2\n",
     "run.yaml:3: warmup_steps: cannot be given together with warmup_ratio"},
    {BASE "evals_per_epoch: 2\neval_steps: 5\n",
     "run.yaml:4: eval_steps: cannot be given together with evals_per_epoch"},
    {BASE "save_steps: 0.5\nsaves_per_epoch: 5\n",
     "run.yaml:3: save_steps: cannot be given together with saves_per_epoch"},
    {BASE "data: dir\n", "run.yaml:3: data: cannot be given together with datasets"},
    {BASE "test_datasets: t.jsonl\nval_set_size: 0.2\n",
     "run.yaml:4: val_set_size: cannot be given together"},
    {BASE "lr_scheduler: linear\ncosine_min_lr_ratio: 0.1\n",
     "run.yaml:4: cosine_min_lr_ratio: has no meaning"},
    {BASE "lora_model_dir: x\ninit_lora_weights: gaussian\n",
     "run.yaml:4: init_lora_weights: has no meaning with lora_model_dir"},
    {BASE "optimizer: sgd\nadam_beta2: 0.99\n",
     "run.yaml:4: adam_beta2: has no meaning with optimizer: sgd"},
    {BASE "chat_template: jinja\n", "run.yaml:3: chat_template: found jinja, but"},
    {BASE "chat_template: chatml\nchat_template_jinja: t\n",
     "run.yaml:3: chat_template: cannot be given together"},
    {BASE "qat: {mode: merged}\nlora_dropout: 0.1\n",
     "run.yaml:4: lora_dropout: not possible with qat.mode merged"},
    {BASE "qat: {mode: merged}\nexport: {lora: true}\n",
     "run.yaml:4: export.lora: qat.mode merged exports one model"},
    {BASE "qat: {mode: separate, requantize_every: 4}\n",
     "run.yaml:3: qat.requantize_every: has no meaning with qat.mode separate"},
    {BASE "qat: {mode: separate}\nexport: {quantize: [F16]}\n",
     "run.yaml:4: export.quantize: a run with qat exports what"},
    {BASE "adapter: full\nqat: {mode: merged}\n",
     "run.yaml:4: qat: not possible with adapter: full"},
    {BASE "adapter: full\nlora_r: 8\n", "run.yaml:4: lora_r: has no meaning with adapter: full"},
    {BASE "adapter: full\nlora_model_dir: x\n",
     "run.yaml:4: lora_model_dir: has no meaning with adapter: full"},
    {BASE "adapter: full\nexport: {lora: true}\n",
     "run.yaml:4: export.lora: adapter: full has no adapter to export"},
    {BASE "qat: {mode: separate, ste: clipped}\n",
     "run.yaml:3: qat.ste: has no meaning with qat.mode separate"},
    {BASE "adapter: scales\nlora_r: 8\n",
     "run.yaml:4: lora_r: has no meaning with adapter: scales"},
    {BASE "adapter: scales\nexport: {quantize: [F16]}\n",
     "run.yaml:4: export.quantize: adapter: scales exports one model"},
    {BASE "adapter: scales\nqat: {}\n", "run.yaml:4: qat: not possible with adapter: scales"},
    {BASE "use_dora: true\nlora_dropout: 0.1\n",
     "run.yaml:4: lora_dropout: not possible with use_dora"},
    {BASE "use_dora: true\nexport: {lora: true}\n",
     "run.yaml:4: export.lora: llama.cpp's adapters have no magnitudes"},
    {BASE "qat: {mode: separate}\nuse_dora: true\n",
     "run.yaml:4: use_dora: not possible with qat.mode separate"},
    {BASE "qat: {ste: clipped}\nuse_dora: true\n", "run.yaml:3: qat.ste: clipped is not possible"},
    {BASE "qat: {}\nrecipe: [lora, qad]\nuse_dora: true\n",
     "run.yaml:5: use_dora: not possible with a recipe"},
    {BASE "recipe: [lora, qad]\n", "run.yaml:3: recipe: its second phase quantizes"},
    {BASE "qat: {}\nrecipe: [qad, lora]\n", "run.yaml:4: recipe: wanted [lora, qad]"},
    {BASE "qat: {}\nrecipe: [lora, qad]\ninit_lora_weights: loftq\n",
     "run.yaml:5: init_lora_weights: not possible with a recipe"},
    {BASE "qat: {}\nrecipe: [lora, qad]\ninit_lora_weights: pissa\n",
     "run.yaml:5: init_lora_weights: not possible with a recipe"},
    {BASE "metric_for_best_model: eval_kl\n",
     "run.yaml:3: metric_for_best_model: eval_kl is the divergence from a teacher"},
    {BASE "qat: {}\ninit_lora_weights: loftq\n",
     "run.yaml:4: init_lora_weights: corrects a quantized base"},
    {BASE "qat: {mode: separate}\ninit_lora_weights: qera\n",
     "run.yaml:4: init_lora_weights: qera weighs columns by their activations"},
    {BASE "use_dora: true\ninit_lora_weights: pissa\n",
     "run.yaml:4: init_lora_weights: pissa is not possible with use_dora"},
    {BASE "qat: {mode: separate}\ninit_lora_weights: pissa\nexport: {peft: true}\n",
     "run.yaml:5: export.peft: not possible with init_lora_weights: pissa"},
    {BASE "qat: {}\nrecipe: [lora]\n", "run.yaml:4: recipe: wanted [lora, qad]"},
    {BASE "qad: {max_steps: 3}\n", "run.yaml:3: qad: has no meaning without recipe"},
    {BASE "qat: {}\nrecipe: [lora, qad]\nqad: {max_stepz: 3}\n",
     "run.yaml:5: qad: max_stepz: unknown key"},
    {BASE "qat: {}\nrecipe: [lora, qad]\nqad: {lora_r: 3}\n",
     "run.yaml:5: qad: lora_r: is the same in all phases"},
    {BASE "qat: {}\nrecipe: [lora, qad]\nlora: {kd.alpha: 1}\n",
     "run.yaml:5: lora: its keys are those of training and data"},
};

START_TEST(a_broken_rule_is_named) {
    lq_config *c;
    ck_fails(lq_config_parse(&c, broken[_i].yaml, "run.yaml"), LQ_ECONFIG, broken[_i].message);
    ck_assert_ptr_null(c);
}
END_TEST

static const char *const kept[] = {
    BASE "warmup_steps: 5\n",
    BASE "warmup_ratio: 0.2\nwarmup_steps: 0\n",
    BASE "eval_steps: 0.25\nsave_steps: 100\n",
    "base_model: m\ndata: dir\n",
    BASE "test_datasets: t.jsonl\n",
    BASE "test_datasets: t.jsonl\nval_set_size: 0\n",
    BASE "lr_scheduler: cosine\ncosine_min_lr_ratio: 0.1\n",
    BASE "chat_template: jinja\nchat_template_jinja: t.jinja\n",
    BASE "chat_template_jinja: t.jinja\n",
    BASE "qat: {mode: separate}\nlora_dropout: 0.1\nexport: {outtype: f16, lora: true}\n",
    BASE "lora_dropout: 0.1\nexport: {quantize: [F16, Q4_0], lora: true}\n",
    BASE "adapter: scales\nlora_target_modules: [q_proj]\n",
    BASE "adapter: full\nlora_r: 16\nexport: {quantize: [F16]}\n",
    BASE "recipe: [lora, qad]\nqat: {mode: merged}\nlora_dropout: 0.1\n"
         "lora: {num_epochs: 2}\nqad: {kd.alpha: 0.9, learning-rate: 1e-4, qat.ste: identity}\n",
};

START_TEST(what_keeps_the_rules_is_fine) {
    lq_config *c = NULL;
    ck_ok(lq_config_parse(&c, kept[_i], "run.yaml"));
    lq_config_free(c);
}
END_TEST

/* ---- phases ---------------------------------------------------------------------------------- */

static const char two_phases[] =
    BASE "recipe: [lora, qad]\nqat: {weight_dtype: q8_0}\nlora_dropout: 0.1\nlearning_rate: 0.01\n"
         "lora: {num_epochs: 2}\nqad: {kd.alpha: 0.9, learning-rate: 1e-4}\n";

START_TEST(phases_have_their_own_values) {
    lq_config *c = NULL, *lora = NULL, *qad = NULL;
    ck_ok(lq_config_parse(&c, two_phases, "run.yaml"));
    ck_ok(lq_config_phase(&lora, c, "lora", &(lq_phase_paths){"out/lora", "null", "null"}));
    ck_ok(lq_config_phase(&qad, c, "qad", &(lq_phase_paths){"out/qad", "out", "a.gguf"}));
    ck_assert(!lora->recipe.n && !qad->recipe.n && !lora->qad.n && !qad->qad.n);
    ck_assert(!lora->has_qat && !lora->has_kd && qad->has_qat && qad->has_kd);
    ck_assert_str_eq(lora->output_dir, "out/lora");
    ck_assert_str_eq(qad->output_dir, "out/qad");
    ck_assert_str_eq(qad->exports.output_dir, "out");
    ck_assert_str_eq(qad->lora_model_dir, "a.gguf");
    ck_assert_str_eq(qad->qat.weight_dtype, "q8_0");
    ck_assert(!lora->lora_model_dir && !lora->exports.output_dir);
    ck_assert_double_eq(lora->learning_rate, 0.01);
    ck_assert_double_eq(qad->learning_rate, 1e-4);
    ck_assert_double_eq(lora->num_epochs, 2);
    ck_assert_double_eq(qad->num_epochs, 3);
    ck_assert_double_eq(lora->lora_dropout, 0.1);
    ck_assert_double_eq(qad->lora_dropout, 0);
    ck_assert_double_eq(qad->kd.alpha, 0.9);
    lq_config_free(c);
    lq_config_free(lora);
    lq_config_free(qad);
}
END_TEST

START_TEST(mistake_in_a_phase_is_named) {
    lq_config *c = NULL, *qad = NULL;
    ck_ok(lq_config_parse(&c, BASE "recipe: [lora, qad]\nqat: {}\nqad: {num_epochs: few}\n", "y"));
    ck_fails(lq_config_phase(&qad, c, "qad", &(lq_phase_paths){"out/qad", "out", "a.gguf"}),
             LQ_ECONFIG, "qad: --num-epochs: found 'few'");
    lq_config_free(c);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("config_check");
    TCase *tc = tcase_create("config_check");
    tcase_add_loop_test(tc, a_broken_rule_is_named, 0, LQ_ARRAY_LEN(broken));
    tcase_add_loop_test(tc, what_keeps_the_rules_is_fine, 0, LQ_ARRAY_LEN(kept));
    tcase_add_test(tc, phases_have_their_own_values);
    tcase_add_test(tc, mistake_in_a_phase_is_named);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
