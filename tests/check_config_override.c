/* Options of the command line over a configuration file: what they replace, switch and refuse. */
#include "test_util.h"

#include "config.h"

#include <stdio.h>
#include <string.h>

START_TEST(options_override_the_file) {
    lq_config *c;
    const lq_override o[] = {
        {"--lora-r", "4"},
        {"--qat.mode", "separate"},
        {"export.quantize", "null"},
        {"--test-datasets", "[{path: t.jsonl, weight: 3}]"},
        {"--lora-target-modules", "q_proj,*_v"},
        {"--rank-pattern", "q_proj=2"},
        {"--alpha-pattern", "{\"*\": 4}"},
        {"--mask-prompt", "false"},
        {"--run-name", "a: [b"},
        {"--weight-decay", "1e-2"},
    };
    FILE *f = fopen(test_path("run.yaml"), "w");
    fputs("base_model: m.gguf\ndatasets: d.jsonl\nlora_r: 8\n"
          "qat: {weight_dtype: q8_0}\nexport: {quantize: [F16]}\n", f);
    fclose(f);
    ck_ok(lq_config_load(&c, test_path("run.yaml"), o, LQ_ARRAY_LEN(o)));
    ck_assert(c->lora_r == 4 && c->has_qat && strcmp(c->qat.mode, "separate") == 0 &&
              strcmp(c->qat.weight_dtype, "q8_0") == 0);
    ck_assert(c->exports.quantize.n == 0 && c->test_datasets.n == 1 &&
              c->test_datasets.e[0].weight == 3);
    ck_assert(c->lora_target_modules.n == 2 && strcmp(c->lora_target_modules.s[1], "*_v") == 0);
    ck_assert(c->lora_rank_pattern.n == 1 && c->lora_rank_pattern.e[0].value == 2 &&
              c->lora_alpha_pattern.e[0].value == 4);
    ck_assert(c->train_on_inputs && strcmp(c->run_name, "a: [b") == 0 && c->weight_decay == 1e-2);
    lq_config_free(c);
}
END_TEST

START_TEST(a_section_can_be_switched) {
    lq_config *c;
    const lq_override off[] = {
        {"base_model", "m"}, {"data", "d"}, {"qat.mode", "separate"}, {"--qat", "off"}};
    const lq_override on[] = {{"base_model", "m"}, {"data", "d"}, {"--qat", "on"}};
    ck_ok(lq_config_load(&c, NULL, off, LQ_ARRAY_LEN(off)));
    ck_assert(!c->has_qat);
    lq_config_free(c);
    ck_ok(lq_config_load(&c, NULL, on, LQ_ARRAY_LEN(on)));
    ck_assert(c->has_qat);
    lq_config_free(c);
}
END_TEST

START_TEST(options_have_mistakes_too) {
    static const struct {
        lq_override o[2];
        const char *message;
    } cases[] = {
        {{{"--r", "1"}, {"--lora-r", "2"}}, "--lora-r: given twice"},
        {{{"--rank-pattern", "{q: 1"}, {"seed", "1"}}, "--lora-rank-pattern: "},
        {{{"--rank-pattern", "{q: [1]}"}, {"seed", "1"}}, "--lora-rank-pattern: found a list"},
        {{{"--run-name", "\xc0\x80"}, {"seed", "1"}}, "--run-name: not valid UTF-8"},
        {{{"--qat", "maybe"}, {"seed", "1"}}, "--qat: found 'maybe', wanted on or off"},
        {{{"--qat.mode", "merged"}, {"--lora-dropout", "0.1"}},
         "--lora-dropout: not possible with qat.mode merged"},
    };
    for (int i = 0; i < LQ_ARRAY_LEN(cases); i++) {
        lq_config *c;
        ck_fails(lq_config_load(&c, NULL, cases[i].o, 2), LQ_ECONFIG, cases[i].message);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("config_override");
    TCase *tc = tcase_create("config_override");
    tcase_add_test(tc, options_override_the_file);
    tcase_add_test(tc, a_section_can_be_switched);
    tcase_add_test(tc, options_have_mistakes_too);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
