/* The table of keys: every row is sound, can be set from the command line, survives dump and parse,
 * and is in the help. */
#include "test_util.h"

#include "schema.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char odd_text[] = "a \"b\": # [c] {d}, 'e'\\\n\tf \xc3\xa9 \xe2\x82\xac "
                               "\xf0\x9f\x9a\x97 \x7f \xc2\x85 \xef\xbb\xbf %@*&!|>";

/* The words of an aliases list, one after another, without '!'. */
static bool next_alias(const char **list, char *word, size_t bytes) {
    *list += strspn(*list, " !");
    const size_t n = strcspn(*list, " ");
    snprintf(word, bytes, "%.*s", (int)n, *list);
    *list += n;
    return n > 0;
}

START_TEST(names_and_aliases_are_unique) {
    char alias[LQ_NAME_BYTES];
    bool inverted;
    for (int i = 0; i < lq_n_keys; i++) {
        ck_assert_int_eq(lq_key_find(lq_keys[i].name, &inverted), i);
        ck_assert(!inverted);
        const char *list = lq_keys[i].aliases;
        while (next_alias(&list, alias, sizeof alias))
            ck_assert_msg(lq_key_find(alias, &inverted) == i, "%s", alias);
    }
}
END_TEST

START_TEST(dotted_names_have_a_section) {
    for (int i = 0; i < lq_n_keys; i++) {
        const int section = lq_section_of(lq_keys[i].name);
        ck_assert_int_eq(section >= 0, strchr(lq_keys[i].name, '.') != NULL);
        if (section >= 0) ck_assert_str_eq(lq_sections[section].name, lq_keys[i].group);
    }
}
END_TEST

START_TEST(bounds_hold_the_default) {
    for (int i = 0; i < lq_n_keys; i++) {
        const lq_key *k = &lq_keys[i];
        double value;
        if (k->kind != &lq_kind_int && k->kind != &lq_kind_real) continue;
        ck_assert_msg(k->init && lq_text_to_real(k->init, &value), "%s", k->name);
        ck_assert_msg(value >= k->min && value <= k->max, "%s", k->name);
    }
}
END_TEST

/* ---- every key, set to something else -------------------------------------------------------- */

/* The i-th value that is worth setting the key to; false: no more. */
static bool sample(const lq_key *k, int i, char *out, size_t bytes) {
    const char *words = k->supported ? k->supported : k->choices;
    if (k->kind == &lq_kind_datasets) {
        static const char *const values[] = {"a.jsonl", "[a.jsonl, \"b: c.jsonl\"]",
                                             "[{path: a.jsonl, type: text, weight: 0.1}]"};
        return i < LQ_ARRAY_LEN(values) && snprintf(out, bytes, "%s", values[i]) > 0;
    }
    if (strcmp(k->name, "device") == 0)
        return i < 2 && snprintf(out, bytes, "%s", i ? "cuda:12" : "cpu") > 0;
    if (strcmp(k->name, "recipe") == 0) return i < 1 && snprintf(out, bytes, "lora, qad") > 0;
    if (k->kind == &lq_kind_settings) {
        static const char *const values[] = {"{learning_rate: 1e-3, data_order: bucketed}",
                                             "max_steps=7"};
        return i < LQ_ARRAY_LEN(values) && snprintf(out, bytes, "%s", values[i]) > 0;
    }
    if (words) {
        for (; i > 0 && *words; i--) words += strcspn(words, " "), words += strspn(words, " ");
        return snprintf(out, bytes, "%.*s", (int)strcspn(words, " ="), words) > 0;
    }
    if (k->kind == &lq_kind_bool)
        return i < 2 && snprintf(out, bytes, "%s", i ? "true" : "false") > 0;
    if (k->kind == &lq_kind_map)
        return i < 1 && snprintf(out, bytes, "{q_proj: 3, \"*.0.x\": 1.25e3}") > 0;
    if (k->kind == &lq_kind_ints) return i < 1 && snprintf(out, bytes, "0,5,7") > 0;
    if (k->kind == &lq_kind_texts)
        return i < 1 && snprintf(out, bytes, "[a, \"b, c\", \"true\", \"*\"]") > 0;
    if (k->kind == &lq_kind_text) {
        static const char *const values[] = {odd_text, "true", "3e4", "~x", "-", "nan", " ", "a b"};
        return i < LQ_ARRAY_LEN(values) && snprintf(out, bytes, "%s", values[i]) > 0;
    }
    const double least = k->min, value = i == 0 ? least + 6 : least + 0.1234567890123456789;
    return i < (k->kind == &lq_kind_real ? 2 : 1) &&
           snprintf(out, bytes, "%.17g", value <= k->max ? value : k->max) > 0;
}

static void check_round_trip(const lq_config *c, const char *what) {
    lq_config *again = NULL;
    lq_str text = LQ_STR_INIT, diff = LQ_STR_INIT;
    ck_ok(lq_config_dump(c, &text));
    const lq_status status = lq_config_parse(&again, lq_str_text(&text), "dump");
    ck_assert_msg(status == LQ_OK, "%s: %s\n%s", what, lq_error(), lq_str_text(&text));
    ck_ok(lq_config_diff(c, again, false, &diff));
    ck_assert_msg(!*lq_str_text(&diff), "%s: differs in %s\n%s", what, lq_str_text(&diff),
                  lq_str_text(&text));
    lq_str_clear(&text);
    lq_str_clear(&diff);
    lq_config_free(again);
}

/* Loads { base_model, data files, key: value }. */
static lq_status load_with(lq_config **out, const lq_key *k, const char *value) {
    const lq_override all[] = {{k->name, value}, {"base_model", "m.gguf"}, {"datasets", "d.jsonl"}};
    const bool is_base = strcmp(k->name, "base_model") == 0;
    const bool is_data = strcmp(k->name, "data") == 0 || strcmp(k->name, "datasets") == 0;
    lq_override o[6] = {all[0]};
    int n = 1;
    if (strcmp(k->group, "recipe") == 0) o[n++] = (lq_override){"qat", "true"};
    if (k->kind == &lq_kind_settings) o[n++] = (lq_override){"recipe", "lora,qad"};
    if (strcmp(value, "loftq") == 0 || strcmp(value, "qera") == 0) {
        o[n++] = (lq_override){"qat.mode", "separate"};
        o[n++] = (lq_override){"qat.imatrix", "auto"};
    }
    if (strcmp(value, "eval_kl") == 0) o[n++] = (lq_override){"kd", "true"};
    if (!is_base) o[n++] = all[1];
    if (!is_data) o[n++] = all[2];
    return lq_config_load(out, NULL, o, n);
}

START_TEST(every_key_survives_dump_and_parse) {
    char value[512];
    for (int i = 0; i < lq_n_keys; i++) {
        const lq_key *k = &lq_keys[i];
        if ((k->flags & LQ_KEY_NOT_YET)) continue;
        bool changed = false;
        lq_config *unset = NULL;
        ck_ok(load_with(&unset, &lq_keys[0], "m.gguf"));
        for (int j = 0; sample(k, j, value, sizeof value); j++) {
            lq_config *c = NULL;
            const lq_status status = load_with(&c, k, value);
            ck_assert_msg(status == LQ_OK, "%s '%s': %s", k->name, value, lq_error());
            changed = changed || !k->kind->equal(lq_key_value(k, c), lq_key_value(k, unset));
            check_round_trip(c, k->name);
            lq_config_free(c);
        }
        ck_assert_msg(changed ||
                          (k->choices && !strchr(k->supported ? k->supported : k->choices, ' ')) ||
                          i == 0,
                      "%s: no value changed it", k->name);
        lq_config_free(unset);
    }
}
END_TEST

START_TEST(values_out_of_bounds_are_mistakes) {
    char value[64];
    for (int i = 0; i < lq_n_keys; i++) {
        const lq_key *k = &lq_keys[i];
        lq_config *c;
        if (k->kind != &lq_kind_int && k->kind != &lq_kind_real) continue;
        snprintf(value, sizeof value, "%.17g", k->flags & LQ_KEY_ABOVE_MIN ? k->min : k->min - 1);
        ck_fails(load_with(&c, k, value), LQ_ECONFIG,
                 k->flags & LQ_KEY_ABOVE_MIN ? "wanted more than" : "wanted at least");
        if (!isfinite(k->max)) continue;
        snprintf(value, sizeof value, "%.17g", k->max * 2 + 1);
        ck_fails(load_with(&c, k, value), LQ_ECONFIG, "at most");
    }
}
END_TEST

START_TEST(what_later_versions_do_is_refused_by_name) {
    static const char *const options[][2] = {
        {"init_lora_weights", "olora"},
        {"report_to", "tensorboard"},
    };
    for (int i = 0; i < LQ_ARRAY_LEN(options); i++) {
        bool inverted;
        lq_config *c;
        ck_fails(load_with(&c, &lq_keys[lq_key_find(options[i][0], &inverted)], options[i][1]),
                 LQ_ECONFIG, "not supported by this version yet");
        ck_assert_ptr_null(c);
    }
}
END_TEST

START_TEST(the_nearest_name_is_found) {
    static const char *const names[][2] = {
        {"learing_rate", "learning_rate"},
        {"lora-rnk", "lora_rank"},
        {"qat.moed", "qat.mode"},
        {"weight_dtype", "qat.weight_dtype"},
        {"qat.learning_rate", "learning_rate"},
        {"epochs", "num_epochs"},
        {"a", ""},
        {"k0", ""},
        {"max_seq_len", "max_seq_length"},
        {"dataset", "datasets"},
        {"qatt", "qat"},
        {"mask_promt", "mask_prompt"},
        {"zzzzzzzzzz", ""},
    };
    char nearest[LQ_NAME_BYTES];
    for (int i = 0; i < LQ_ARRAY_LEN(names); i++) {
        lq_key_nearest(nearest, names[i][0]);
        ck_assert_str_eq(nearest, names[i][1]);
    }
}
END_TEST

START_TEST(the_help_has_every_key) {
    lq_str help = LQ_STR_INIT;
    char option[LQ_NAME_BYTES];
    ck_ok(lq_config_help(&help));
    for (int i = 0; i < lq_n_keys; i++) {
        snprintf(option, sizeof option, "--%s ", lq_keys[i].name);
        for (char *p = option; *p; p++)
            if (*p == '_') *p = '-';
        ck_assert_msg(test_contains(lq_str_text(&help), option), "%s", option);
        ck_assert_msg(test_contains(lq_str_text(&help), lq_keys[i].help), "%s", option);
    }
    lq_str_clear(&help);
}
END_TEST

START_TEST(the_command_line_can_ask) {
    bool takes_value;
    ck_assert(lq_config_is_key("--learning-rate", &takes_value) && takes_value);
    ck_assert(lq_config_is_key("use_rslora", &takes_value) && !takes_value);
    ck_assert(lq_config_is_key("--mask-prompt", &takes_value) && !takes_value);
    ck_assert(lq_config_is_key("qat.mode", &takes_value) && takes_value);
    ck_assert(lq_config_is_key("--qat", &takes_value) && takes_value);
    ck_assert(!lq_config_is_key("--no-such-key", &takes_value) && takes_value);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("schema");
    TCase *tc = tcase_create("schema");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, names_and_aliases_are_unique);
    tcase_add_test(tc, dotted_names_have_a_section);
    tcase_add_test(tc, bounds_hold_the_default);
    tcase_add_test(tc, every_key_survives_dump_and_parse);
    tcase_add_test(tc, values_out_of_bounds_are_mistakes);
    tcase_add_test(tc, what_later_versions_do_is_refused_by_name);
    tcase_add_test(tc, the_nearest_name_is_found);
    tcase_add_test(tc, the_help_has_every_key);
    tcase_add_test(tc, the_command_line_can_ask);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
