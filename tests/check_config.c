/* Reading configurations: values in all spellings, mistakes with their lines, rules between
 * keys, the dump, the difference, failing memory, and the presets. */
#include "test_util.h"

#include "config.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>

#define BASE "base_model: m.gguf\ndatasets: d.jsonl\n"

static lq_config *parse(const char *yaml) {
    lq_config *c = NULL;
    const lq_status status = lq_config_parse(&c, yaml, "run.yaml");
    ck_assert_msg(status == LQ_OK, "%s\n%s", lq_error(), yaml);
    return c;
}

START_TEST(the_defaults_suit_a_few_hundred_examples) {
    lq_config *c = parse(BASE);
    ck_assert_str_eq(c->base_model, "m.gguf");
    ck_assert_int_eq(c->datasets.n, 1);
    ck_assert_str_eq(c->datasets.e[0].path, "d.jsonl");
    ck_assert(c->datasets.e[0].weight == 1 && !c->datasets.e[0].type);
    ck_assert_str_eq(c->adapter, "lora");
    ck_assert(c->lora_r == 16 && c->lora_alpha == 32 && c->learning_rate == 2e-4 &&
              c->warmup_ratio == 0.05);
    ck_assert(c->lora_target_modules.n == 1 &&
              strcmp(c->lora_target_modules.s[0], "all-linear") == 0);
    ck_assert_ptr_null(c->lora_target_modules.s[1]);
    ck_assert(strcmp(c->lr_scheduler, "cosine") == 0 && c->cosine_min_lr_ratio == 0 &&
              c->num_epochs == 3);
    const int64_t sequences = c->micro_batch_size * c->gradient_accumulation_steps;
    ck_assert(sequences >= 8 && sequences <= 16);
    ck_assert(!c->train_on_inputs && c->val_set_size == 0.1 && c->load_best_model_at_end &&
              c->early_stopping_patience == 3);
    ck_assert(!c->has_qat && !c->has_kd && !c->lora_model_dir && !c->data);
    lq_config_free(c);
}
END_TEST

START_TEST(values_have_many_spellings) {
    static const char *const yaml[] = {
        BASE
        "learning_rate: 1e-5\nuse_rslora: yes\nlora_r: 8\nlora_target_modules: [q_proj, v_proj]\n",
        BASE "learning_rate: \"1e-5\"\nuse_rslora: On\nr: '8'\ntarget_modules: q_proj, v_proj\n",
        BASE "learning_rate: 1.0E-05\nuse_rslora: TRUE\nlora-rank: 8.0\ntarget_modules:\n  - "
             "q_proj\n  - v_proj\n",
        BASE "learning_rate: .00001\npeft_use_rslora: \"true\"\nlora_r: 0.8e1\ntarget_modules:\n- "
             "q_proj\n- \"v_proj\"\n",
        "{\"base_model\": \"m.gguf\", \"datasets\": [{\"path\": \"d.jsonl\"}], \"learning_rate\": "
        "1e-5, \"use_rslora\": true, "
        "\"lora_r\": 8, \"lora_target_modules\": [\"q_proj\", \"v_proj\"]}",
    };
    lq_config *first = parse(yaml[0]);
    ck_assert(first->learning_rate == 1e-5 && first->use_rslora && first->lora_r == 8 &&
              first->lora_target_modules.n == 2);
    for (int i = 1; i < LQ_ARRAY_LEN(yaml); i++) {
        lq_str diff = LQ_STR_INIT;
        lq_config *c = parse(yaml[i]);
        ck_ok(lq_config_diff(first, c, false, &diff));
        ck_assert_str_eq(lq_str_text(&diff), "");
        lq_config_free(c);
    }
    lq_config_free(first);
}
END_TEST

START_TEST(inverted_aliases_mean_the_opposite) {
    static const struct {
        const char *yaml;
        bool train_on_inputs;
    } cases[] = {
        {"train_on_inputs: true\n", true},     {"mask_prompt: true\n", false},
        {"mask_prompt: no\n", true},           {"completion_only_loss: off\n", true},
        {"completion_only_loss: on\n", false}, {"mask_prompt:\n", false},
    };
    for (int i = 0; i < LQ_ARRAY_LEN(cases); i++) {
        char yaml[128];
        snprintf(yaml, sizeof yaml, BASE "%s", cases[i].yaml);
        lq_config *c = parse(yaml);
        ck_assert_msg(c->train_on_inputs == cases[i].train_on_inputs, "%s", cases[i].yaml);
        lq_config_free(c);
    }
}
END_TEST

START_TEST(nested_values_are_read) {
    lq_config *c = parse("model: m.gguf\n"
                         "datasets:\n"
                         "  - path: a.jsonl\n"
                         "    type: chat_template\n"
                         "    weight: 2\n"
                         "  - b.jsonl\n"
                         "test_datasets: {path: t.jsonl, split: test}\n"
                         "lora_rank_pattern: {q_proj: 4, \"blk.0.*\": 2}\n"
                         "layers_to_transform: [0, 3]\n"
                         "optim: adamw_torch\n"
                         "qat:\n"
                         "  weight_dtype: Q8_0\n"
                         "qat.mode: separate\n"
                         "export: {outtype: f16}\n");
    ck_assert_int_eq(c->datasets.n, 2);
    ck_assert(strcmp(c->datasets.e[0].type, "messages") == 0 && c->datasets.e[0].weight == 2);
    ck_assert_str_eq(c->datasets.e[1].path, "b.jsonl");
    ck_assert(c->test_datasets.n == 1 && strcmp(c->test_datasets.e[0].split, "test") == 0);
    ck_assert(c->lora_rank_pattern.n == 2 && c->lora_rank_pattern.e[1].value == 2);
    ck_assert_str_eq(c->lora_rank_pattern.e[1].key, "blk.0.*");
    ck_assert(c->lora_layers_to_transform.n == 2 && c->lora_layers_to_transform.v[1] == 3);
    ck_assert(c->has_qat && strcmp(c->qat.weight_dtype, "Q8_0") == 0 &&
              strcmp(c->qat.mode, "separate") == 0);
    ck_assert(strcmp(c->optimizer, "adamw") == 0 && strcmp(c->exports.outtype, "f16") == 0);
    lq_config_free(c);
}
END_TEST

START_TEST(an_empty_section_is_none_and_an_empty_mapping_is_defaults) {
    lq_config *c = parse(BASE "qat:\n");
    ck_assert(!c->has_qat);
    lq_config_free(c);
    c = parse(BASE "qat: {}\n");
    ck_assert(c->has_qat && strcmp(c->qat.mode, "merged") == 0 &&
              strcmp(c->qat.weight_dtype, "q4_0") == 0);
    lq_config_free(c);
}
END_TEST

/* ---- mistakes -------------------------------------------------------------------------------- */

static const struct { const char *yaml, *message; } wrong[] = {
    {BASE "learing_rate: 1\n",
     "run.yaml:3: learing_rate: unknown key; did you mean 'learning_rate'?"},
    {BASE "qat:\n  moed: merged\n", "run.yaml:4: qat.moed: unknown key; did you mean 'qat.mode'?"},
    {BASE "lora_r: many\n", "run.yaml:3: lora_r: found 'many', wanted a whole number"},
    {BASE "lora_r: 8.5\n", "run.yaml:3: lora_r: found '8.5', wanted a whole number"},
    {BASE "lora_r: 99999999999999999999\n",
     "run.yaml:3: lora_r: found '99999999999999999999', wanted a whole number"},
    {BASE "lora_r: 0\n", "run.yaml:3: lora_r: found 0, wanted at least 1 and at most 4096"},
    {BASE "lora_r: [8]\n", "run.yaml:3: lora_r: found a list, wanted a whole number"},
    {BASE "learning_rate: nan\n", "run.yaml:3: learning_rate: found 'nan', wanted a number"},
    {BASE "learning_rate: 0x1p-3\n", "wanted a number"},
    {BASE "learning_rate: 0\n", "run.yaml:3: learning_rate: found 0, wanted more than 0"},
    {BASE "eval_steps: 2.5\n",
     "run.yaml:3: eval_steps: found 2.5, wanted a share below 1 or a whole number"},
    {BASE "sample_packing: maybe\n",
     "run.yaml:3: sample_packing: found 'maybe', wanted true or false"},
    {BASE "lr_scheduler: cosin\n",
     "run.yaml:3: lr_scheduler: found 'cosin', wanted one of: constant, linear, cosine"},
    {BASE "lora_r: 8\n\nr: 8\n", "run.yaml:5: lora_r: given again; line 3 has it already"},
    {BASE "lora_r: 8\nlora_r: 9\n", "run.yaml:4: lora_r: given again; line 3 has it already"},
    {BASE "qat: {mode: merged}\nqat.mode: merged\n", "run.yaml:4: qat.mode: given again; line 3"},
    {BASE "qat: {mode: merged}\nqat: {}\n", "run.yaml:4: qat: given again; line 3"},
    {BASE "qat: true\n", "run.yaml:3: qat: wanted its keys"},
    {BASE "qat: [merged]\n", "run.yaml:3: qat: wanted its keys"},
    {BASE "lora_target_modules: {q: 1}\n",
     "run.yaml:3: lora_target_modules: found a mapping, wanted a list of names"},
    {BASE "lora_target_modules: [q, [v]]\n",
     "run.yaml:3: lora_target_modules: found a list, wanted a list of names"},
    {BASE "lora_rank_pattern: {q: x}\n",
     "run.yaml:3: lora_rank_pattern: q: found 'x', wanted a number"},
    {BASE "lora_rank_pattern: {q: 1, q: 2}\n", "q: given twice"},
    {BASE "lora_rank_pattern: [q]\n", "wanted names and numbers"},
    {BASE "layers_to_transform: [1.5]\n", "found '1.5', wanted a whole number"},
    {BASE "layers_to_transform: [-1]\n", "wanted at least 0"},
    {"base_model: m\ndatasets:\n  - path: a\n    tpye: text\n",
     "run.yaml:4: datasets: unknown field 'tpye'"},
    {"base_model: m\ndatasets:\n  - path: a\n    type: txt\n",
     "run.yaml:4: datasets: found 'txt', wanted one of: messages"},
    {"base_model: m\ndatasets:\n  - path: a\n    weight: 0\n",
     "run.yaml:4: datasets: weight: found '0'"},
    {"base_model: m\ndatasets:\n  - type: text\n", "run.yaml:3: datasets: entry 1 has no path"},
    {"datasets: d.jsonl\n", "run.yaml: base_model: wanted: the model to start from"},
    {"base_model:\ndatasets: d.jsonl\n", "run.yaml:1: base_model: wanted: the model to start from"},
    {"base_model: m.gguf\n", "run.yaml: datasets: wanted: the files to train on"},
    {BASE "output_dir: ''\n", "run.yaml:3: output_dir: found '', wanted text"},
    {BASE "run_name: \"a\\0b\"\n", "run.yaml:3: run_name: found a NUL byte"},
    {BASE "? [a]\n: b\n", "run.yaml:3: found a list where a key should be"},
    {BASE "a: [1\nb: 2\n", "run.yaml:4: "},
    {BASE "lora_r: 8\n\tlora_alpha: 2\n", "run.yaml:4: "},
    {BASE "run_name: \"\xff\"\n", "run.yaml:3: invalid leading UTF-8 octet"},
    {BASE "---\nlora_r: 8\n", "run.yaml:4: a second document begins"},
    {"- base_model\n", "run.yaml:1: wanted keys and values"},
    {"text\n", "run.yaml:1: wanted keys and values"},
    {BASE "kd: {alpha: 1.3}\n", "run.yaml:3: kd.alpha: "},
    {BASE "kd: {divergence: jsd}\n", "run.yaml:3: kd.divergence: "},
};

START_TEST(a_mistake_has_file_line_and_advice) {
    lq_config *c;
    ck_fails(lq_config_parse(&c, wrong[_i].yaml, "run.yaml"), LQ_ECONFIG, wrong[_i].message);
    ck_assert_ptr_null(c);
}
END_TEST

START_TEST(all_mistakes_come_at_once) {
    lq_config *c;
    const lq_override o[] = {{"--lora-alfa", "1"}, {"--qat.mode", "both"}, {"--num-epochs", "-1"}};
    FILE *f = fopen(test_path("bad.yaml"), "w");
    fputs("lora_r: x\nlearing_rate: 1\nreport_to: tensorboard\n", f);
    fclose(f);
    ck_fails(lq_config_load(&c, test_path("bad.yaml"), o, LQ_ARRAY_LEN(o)), LQ_ECONFIG, "");
    static const char *const parts[] = {
        "bad.yaml:1: lora_r: found 'x', wanted a whole number\n",
        "bad.yaml:2: learing_rate: unknown key; did you mean 'learning_rate'?\n",
        "bad.yaml:3: report_to: 'tensorboard' is not supported by this version yet, wanted one of: "
        "none\n",
        "\n--lora-alfa: unknown key; did you mean 'lora_alpha'?\n",
        "\n--qat.mode: found 'both', wanted one of: merged, separate\n",
        "\n--num-epochs: found -1, wanted more than 0",
        "base_model: wanted",
        "datasets: wanted",
    };
    for (int i = 0; i < LQ_ARRAY_LEN(parts); i++)
        ck_assert_msg(test_contains(lq_error(), parts[i]), "%s lacks %s", lq_error(), parts[i]);
}
END_TEST

START_TEST(many_mistakes_are_counted) {
    lq_str yaml = LQ_STR_INIT;
    lq_config *c;
    for (int i = 0; i < 100; i++) lq_str_printf(&yaml, "unknown_%d: 1\n", i);
    ck_fails(lq_config_parse(&c, lq_str_text(&yaml), "f"), LQ_ECONFIG, "\nand 62 more");
    lq_str_clear(&yaml);
}
END_TEST

START_TEST(a_missing_file_is_named) {
    lq_config *c;
    ck_fails(lq_config_load(&c, "/no/such/run.yaml", NULL, 0), LQ_ECONFIG,
             "/no/such/run.yaml: No such file");
    ck_fails(lq_config_load(&c, "/tmp", NULL, 0), LQ_ECONFIG, "/tmp: ");
    ck_fails(lq_config_load(&c, "/dev/zero", NULL, 0), LQ_ECONFIG, "/dev/zero: more than 1 MiB");
}
END_TEST

/* ---- difference ------------------------------------------------------------------------------ */

START_TEST(the_difference_names_keys) {
    lq_config *a = parse(BASE "lora_r: 8\nlogging_steps: 5\nqat: {mode: merged}\n");
    lq_config *b =
        parse(BASE "lora_r: 9\nlogging_steps: 6\nqat: {mode: separate}\nexport: {outtype: f16}\n");
    lq_config *c = parse(BASE "lora_r: 9\n");
    lq_str diff = LQ_STR_INIT;
    ck_ok(lq_config_diff(a, b, false, &diff));
    ck_assert_str_eq(lq_str_text(&diff), "lora_r, logging_steps, qat.mode, export.outtype");
    lq_str_clear(&diff);
    ck_ok(lq_config_diff(a, b, true, &diff));
    ck_assert_str_eq(lq_str_text(&diff), "lora_r, qat.mode");
    lq_str_clear(&diff);
    ck_ok(lq_config_diff(b, c, true, &diff));
    ck_assert_str_eq(lq_str_text(&diff), "qat");
    lq_str_clear(&diff);
    lq_config_free(a);
    lq_config_free(b);
    lq_config_free(c);
}
END_TEST

/* ---- memory and files ------------------------------------------------------------------------ */

static lq_status load_dump_and_diff(void *ctx) {
    const lq_override o[] = {{"--lora-rank-pattern", "{q: 1, v: 2}"},
                             {"--export.quantize", "F16"},
                             {"--run-name", "x y"}};
    lq_config *c = NULL;
    lq_str text = LQ_STR_INIT, diff = LQ_STR_INIT;
    lq_status status = LQ_OK;
    LQ_GOTO(status, lq_config_load(&c, ctx, o, LQ_ARRAY_LEN(o)));
    LQ_GOTO(status, lq_config_dump(c, &text));
    LQ_GOTO(status, lq_config_help(&text));
    LQ_GOTO(status, lq_config_diff(c, c, true, &diff));
done:
    lq_str_clear(&text);
    lq_str_clear(&diff);
    lq_config_free(c);
    return status;
}

static lq_status report_mistakes(void *ctx) {
    lq_config *c = NULL;
    (void)ctx;
    const lq_status status =
        lq_config_parse(&c, "lora_r: x\nlr_scheduler: y\nlayers_to_transform: [a, 1]\nb: c\n", "f");
    return status == LQ_ECONFIG ? LQ_OK : status;
}

START_TEST(failing_memory_is_an_error) {
    const char *path = test_path("memory.yaml");
    FILE *f = fopen(path, "w");
    fputs("base_model: m\ndatasets:\n  - path: a\n    type: text\n  - b\nlayers_to_transform: [1, "
          "2]\ntarget_modules: q, v\n",
          f);
    fclose(f);
    test_alloc_failures(load_dump_and_diff, (void *)path);
    test_alloc_failures(report_mistakes, NULL);
}
END_TEST

/* Configurations that ship: each is read, and what it says is also what its dump says. */
static int check_directory(const char *directory) {
    int n = 0;
    DIR *dir = opendir(directory);
    ck_assert_msg(dir != NULL, "%s", directory);
    for (const struct dirent *e; (e = readdir(dir));) {
        char path[1024];
        if (!strstr(e->d_name, ".yaml")) continue;
        lq_config *c = NULL, *again = NULL;
        lq_str text = LQ_STR_INIT;
        snprintf(path, sizeof path, "%s/%s", directory, e->d_name);
        ck_ok(lq_config_load(&c, path, NULL, 0));
        ck_ok(lq_config_dump(c, &text));
        ck_ok(lq_config_parse(&again, lq_str_text(&text), "dump"));
        lq_config_free(c);
        lq_config_free(again);
        lq_str_clear(&text);
        n++;
    }
    closedir(dir);
    return n;
}

START_TEST(presets_and_examples_are_valid) {
    ck_assert_int_ge(check_directory(LOQUAT_SOURCE_DIR "/configs/presets"), 3);
    ck_assert_int_ge(check_directory(LOQUAT_SOURCE_DIR "/examples"), 4);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("config");
    TCase *tc = tcase_create("config");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, the_defaults_suit_a_few_hundred_examples);
    tcase_add_test(tc, values_have_many_spellings);
    tcase_add_test(tc, inverted_aliases_mean_the_opposite);
    tcase_add_test(tc, nested_values_are_read);
    tcase_add_test(tc, an_empty_section_is_none_and_an_empty_mapping_is_defaults);
    tcase_add_loop_test(tc, a_mistake_has_file_line_and_advice, 0, LQ_ARRAY_LEN(wrong));
    tcase_add_test(tc, all_mistakes_come_at_once);
    tcase_add_test(tc, many_mistakes_are_counted);
    tcase_add_test(tc, a_missing_file_is_named);
    tcase_add_test(tc, the_difference_names_keys);
    tcase_add_test(tc, failing_memory_is_an_error);
    tcase_add_test(tc, presets_and_examples_are_valid);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
