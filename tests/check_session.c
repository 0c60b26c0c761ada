/* A model as it would be deployed: a run directory is found again after it moved, and what is not a
 * model is refused by name. Generation stops at the model's context. */
#include "json_text.h"
#include "run_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Trained as `out`, then moved: run.json still names files below `out`, and a stranger's file of
 * that name is not taken for the run's. */
START_TEST(run_that_moved) {
    static const struct { const char *name, *extra; } modes[] = {
        {"merged", "qat: {weight_dtype: q8_0, mode: merged}\n"},
        {"separate", "qat: {weight_dtype: q8_0, mode: separate}\n"},
        {"base_quant", "base_quant: q4_0\n"}};
    fixture_run f;
    char command[1500];
    fixture_make(&f, modes[_i].name, 2, modes[_i].extra);
    fixture_result r = fixture_loquat("train %s", f.config);
    ck_assert_msg(r.exit_status == 0, "%s", r.err);
    r = fixture_loquat("evaluate %s --data %s --json", f.out, f.data);
    ck_assert_msg(r.exit_status == 0, "%s", r.err);
    char before[1000];
    snprintf(before, sizeof before, "%s", r.out);
    snprintf(command, sizeof command,
             "mv '%s' '%s/moved' && mkdir '%s' && for f in '%s'/moved/*.gguf; do "
             "echo no model >\"%s/${f##*/}\"; done",
             f.out, f.dir, f.out, f.dir, f.out);
    ck_assert_int_eq(system(command), 0);
    r = fixture_loquat("evaluate %s/moved --data %s --json", f.dir, f.data);
    ck_assert_msg(r.exit_status == 0, "%s", r.err);
    ck_assert_str_eq(r.out, before);
}
END_TEST

/* A base without a template: what was trained is rendered as in training, from the files alone. */
static const char *const templated[] = {
    "qat: {weight_dtype: q8_0, mode: merged}\n", "qat: {weight_dtype: q8_0, mode: separate}\n",
    "export: {quantize: [F32]}\n", "",
};

static double number_in(const char *json, const char *key) {
    const char *at = strstr(json, key);
    ck_assert_msg(at != NULL, "no %s in %s", key, json);
    return strtod(at + strlen(key), NULL);
}

START_TEST(template_travels_with_the_files) {
    fixture_run f;
    char config[1500];
    lq_str lines = LQ_STR_INIT;
    for (int i = 0; i < 12; i++)
        lq_str_printf(&lines, "{\"messages\": [{\"role\": \"user\", \"content\": \"say %d\"}, "
                              "{\"role\": \"assistant\", \"content\": \"it is %d\"}]}\n", i, i);
    fixture_make(&f, "templated", 2, "");
    snprintf(config, sizeof config,
             "base_model: %s\ndata: %s\ntest_datasets: [{path: %s}]\noutput_dir: %s\n"
             "max_steps: 2\nlearning_rate: 0.01\nchat_template: chatml\n%s",
             f.model, f.data, f.data, f.out, templated[_i]);
    fixture_write(f.config, config);
    fixture_write(f.data, lq_str_text(&lines));
    lq_str_clear(&lines);
    fixture_result r = fixture_loquat("train %s --json", f.config);
    ck_assert_msg(r.exit_status == 0, "%s", r.err);
    const double trained = number_in(r.out, "\"final_eval_loss\": ");
    r = fixture_loquat("evaluate %s --data %s --json", f.out, f.data);
    ck_assert_msg(r.exit_status == 0, "%s", r.err);
    ck_assert_double_eq_tol(number_in(r.out, "\"loss\": "), trained, 1e-5);
}
END_TEST

/* What was validated is what a run's directory opens as: beside base_quant's weights, not beside
 * those of base_model. */
START_TEST(as_validated) {
    static const char *const extras[] = {"", "base_quant: q4_0\n",
                                         "base_quant: q4_0\nexport: {quantize: [f32]}\n"};
    fixture_run f;
    char command[800], path[300];
    fixture_make(&f, "as_validated", 4, extras[_i]);
    snprintf(command, sizeof command,
             "sed -i 's|^val_set_size.*|test_datasets: [{path: %s}]|' '%s'", f.data, f.config);
    ck_assert_int_eq(system(command), 0);
    fixture_result r = fixture_loquat("train %s", f.config);
    ck_assert_msg(r.exit_status == 0, "%s", r.err);
    snprintf(path, sizeof path, "%s/run.json", f.out);
    json_t *record = json_load_file(path, 0, NULL);
    r = fixture_loquat("evaluate %s --data %s --json", f.out, f.data);
    ck_assert_msg(r.exit_status == 0, "%s", r.err);
    json_t *got = json_loads(r.out, 0, NULL);
    const double want = json_number_value(json_object_get(record, "best_eval_loss"));
    ck_assert_double_eq_tol(json_number_value(json_object_get(got, "loss")), want, 1e-3 * want);
    r = fixture_loquat("evaluate %s --data %s --json", f.model, f.data);
    json_decref(got);
    got = json_loads(r.out, 0, NULL);
    ck_assert_double_gt(json_number_value(json_object_get(got, "loss")), 1.01 * want);
    json_decref(got);
    json_decref(record);
}
END_TEST

/* A run's directory, its PEFT adapter, and what is neither, looked at. */
START_TEST(directories_inspected) {
    fixture_run f;
    fixture_make(&f, "inspected", 2, "export: {peft: true}\n");
    fixture_result r = fixture_loquat("train %s", f.config);
    ck_assert_msg(r.exit_status == 0, "%s", r.err);
    r = fixture_loquat("inspect %s", f.out);
    ck_assert_msg(r.exit_status == 0 && test_contains(r.out, "kind: run\n") &&
                      test_contains(r.out, "config: (") &&
                      test_contains(r.out, "kind adapter, path"),
                  "%s%s", r.out, r.err);
    r = fixture_loquat("inspect %s/model-PEFT", f.out);
    ck_assert_msg(r.exit_status == 0 && test_contains(r.out, "modules by rank:\n  4: "), "%s%s",
                  r.out, r.err);
    r = fixture_loquat("inspect %s", f.dir);
    ck_assert_msg(r.exit_status == 1 &&
                      test_contains(r.err, "adapter_config.json (a PEFT adapter)"),
                  "%s%s", r.out, r.err);
    r = fixture_loquat("export %s --json", f.out);
    json_t *object = json_loads(r.out, 0, NULL);
    ck_assert_msg(json_array_size(json_object_get(object, "artifacts")) == 2, "%s", r.out);
    json_decref(object);
}
END_TEST

static const struct { const char *args; int exit_status; const char *says; } refused[] = {
    {"evaluate . --data data.jsonl", 1, "neither run.json"},
    {"evaluate model.gguf --lora . --data data.jsonl", 1, "PEFT"},
    {"evaluate model.gguf --data data.jsonl --predictions x.jsonl", 2, "--exact-match"},
    {"evaluate model.gguf --data data.jsonl --save-all-logits x", 2, "--perplexity"},
    {"evaluate model.gguf --perplexity data.jsonl --ctx-size 2", 2, "wanted 3 or more"},
    {"evaluate model.gguf --perplexity data.jsonl --ctx-size 9223372036854775807", 1,
     "twice as many"},
    {"evaluate model.gguf --ctx-sise 3", 2, "did you mean --ctx-size?"},
    {"evaluate model.gguf --chunks -1", 2, "wanted a whole number of 0 or more"},
    {"merge model.gguf --lora data.jsonl --output x.gguf --json", 2, "unknown option --json"},
    {"logits model.gguf --ids 4294967297 --output x.npy", 2, "4294967297"},
    {"tokenize model.gguf --detokenize abc", 2, "wanted token ids"},
    {"tokenize model.gguf a --file data.jsonl", 2, "usage"},
    {"quantize model.gguf x.gguf Q4_0 --tensor-type attn_v=iq3_s", 1,
     "blk.0.attn_v.weight: IQ3_S is read but not written by Loquat; the nearest type that is: "
     "Q3_K_S"},
    {"imatrix model.gguf", 2, "usage: loquat imatrix"},
};

START_TEST(refused_by_name) {
    fixture_run f;
    fixture_make(&f, "refused", 2, "");
    fixture_widen(&f);
    ck_assert_int_eq(chdir(f.dir), 0);
    const fixture_result r = fixture_loquat("%s", refused[_i].args);
    ck_assert_msg(r.exit_status == refused[_i].exit_status &&
                      test_contains(r.err, refused[_i].says),
                  "loquat %s: exit %d: %s", refused[_i].args, r.exit_status, r.err);
}
END_TEST

START_TEST(generation_stops_at_the_context) {
    fixture_run f;
    fixture_make(&f, "context", 2, "");
    const fixture_result r =
        fixture_loquat("chat %s --max-new-tokens 9223372036854775807 --prompt a", f.model);
    ck_assert_msg(r.exit_status == 0, "%s", r.err);
}
END_TEST

START_TEST(broken_utf8_becomes_replacement_characters) {
    static const struct { const char *text, *want; } cases[] = {
        {"", ""},
        {"a\xC3\xA9", "a\xC3\xA9"},
        {"\xFF", "\xEF\xBF\xBD"},
        {"\xE2\x82", "\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\xED\xA0\x80", "\xEF\xBF\xBD"}, /* a surrogate */
    };
    for (int i = 0; i < LQ_ARRAY_LEN(cases); i++) {
        lq_str text = LQ_STR_INIT;
        lq_str_puts(&text, cases[i].text);
        json_t *o = lq_json_string(&text);
        ck_assert_ptr_nonnull(o);
        ck_assert_str_eq(json_string_value(o), cases[i].want);
        json_decref(o);
        lq_str_clear(&text);
    }
}
END_TEST

/* An export from other weights than the validated ones would be another model. */
START_TEST(changed_base_is_not_exported) {
    fixture_run f;
    char model[300];
    fixture_make(&f, "changed", 2, "");
    ck_assert_int_eq(fixture_loquat("train %s", f.config).exit_status, 0);
    ck_assert_int_eq(fixture_loquat("export %s --quantize F16", f.out).exit_status, 0);
    snprintf(model, sizeof model, "%s.other", f.model);
    ck_assert_int_eq(fixture_loquat("merge %s --output %s --type Q8_0", f.model, model).exit_status,
                     0);
    ck_assert_int_eq(rename(model, f.model), 0);
    const fixture_result r = fixture_loquat("export %s --quantize F16", f.out);
    ck_assert_msg(r.exit_status != 0 && test_contains(r.err, "with another base model"), "%s",
                  r.err);
}
END_TEST

START_TEST(inputs_are_not_outputs) {
    fixture_run f;
    fixture_make(&f, "inputs", 2, "");
    fixture_result r = fixture_loquat("merge %s --output %s", f.model, f.model);
    ck_assert_msg(r.exit_status == 1 && test_contains(r.err, "one of the files that are being"),
                  "%s", r.err);
    r = fixture_loquat("imatrix %s --file %s --output %s", f.model, f.data, f.model);
    ck_assert_msg(r.exit_status == 1 && test_contains(r.err, "is the model itself"), "%s", r.err);
    r = fixture_loquat("train --base-model %s --data %s --output-dir %s", f.model, f.dir, f.out);
    ck_assert_msg(r.exit_status == 1 && test_contains(r.err, "a directory without train.jsonl"),
                  "%s", r.err);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("session");
    TCase *tc = tcase_create("session");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, run_that_moved, 0, 3);
    tcase_add_loop_test(tc, template_travels_with_the_files, 0, LQ_ARRAY_LEN(templated));
    tcase_add_loop_test(tc, as_validated, 0, 3);
    tcase_add_test(tc, directories_inspected);
    tcase_add_loop_test(tc, refused_by_name, 0, LQ_ARRAY_LEN(refused));
    tcase_add_test(tc, generation_stops_at_the_context);
    tcase_add_test(tc, broken_utf8_becomes_replacement_characters);
    tcase_add_test(tc, changed_base_is_not_exported);
    tcase_add_test(tc, inputs_are_not_outputs);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
