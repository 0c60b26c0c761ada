/* jinja_*.c: small templates against the reference made by transformers (reference/jinja.json),
 * messages of errors, limits on endless and huge templates, failing allocations. */
#include "template.h"
#include "test_util.h"

#include <string.h>

static json_t *load(const char *name) {
    char path[1024];
    json_error_t error;
    snprintf(path, sizeof path, "%s/tests/reference/%s", LOQUAT_SOURCE_DIR, name);
    json_t *j = json_load_file(path, JSON_ALLOW_NUL, &error);
    ck_assert_msg(j != NULL, "%s: %s", path, error.text);
    return j;
}

static lq_status render(const char *source, json_t *extra, lq_str *out) {
    lq_template *t;
    json_t *messages = json_array();
    lq_status status = lq_template_parse(&t, source);
    if (status == LQ_OK)
        status = lq_template_render(t, messages, &(lq_template_options){.extra = extra}, out);
    lq_template_free(t);
    json_decref(messages);
    return status;
}

START_TEST(renders_as_python_does) {
    json_t *reference = load("jinja.json"), *item;
    size_t i;
    json_array_foreach(json_object_get(reference, "cases"), i, item) {
        const char *source = json_string_value(json_array_get(item, 0));
        const json_t *want = json_array_get(item, 1);
        lq_str out = LQ_STR_INIT;
        const lq_status status = render(source, json_object_get(reference, "variables"), &out);
        if (json_is_null(want)) {
            ck_assert_msg(status != LQ_OK, "%s: should be refused, gave '%s'", source,
                          lq_str_text(&out));
        } else {
            ck_assert_msg(status == LQ_OK, "%s: %s", source, lq_error());
            ck_assert_msg(out.n == json_string_length(want) &&
                              !memcmp(lq_str_text(&out), json_string_value(want), out.n),
                          "%s: got '%s', wanted '%s'", source, lq_str_text(&out),
                          json_string_value(want));
        }
        lq_str_clear(&out);
    }
    json_decref(reference);
}
END_TEST

START_TEST(errors_name_line_and_thing) {
    static const struct {
        const char *source, *part;
    } cases[] = {
        {"a\n{{ x.y }}", "line 2: 'x' is undefined"},
        {"{% if true %}\n\n", "'{% endif %}' for the block of line 1"},
        {"{% for x in [1] %}{% endif %}",
         "expected '{% endfor %}' for the block of line 1, found endif"},
        {"{% endif %}", "'endif' closes nothing"},
        {"\n\n{% nosuch %}", "line 3: unknown tag 'nosuch'"},
        {"{% include 'x' %}", "'include' is not supported"},
        {"{{ 1 +", "a tag is not closed by '}}'"},
        {"{{ 'abc }}", "a string is not closed"},
        {"{# ", "a comment is not closed"},
        {"{{ 1 | nosuch }}", "no filter named 'nosuch'"},
        {"{{ 1 is nosuch }}", "no test named 'nosuch'"},
        {"{{ raise_exception('no such role') }}", "refuses the conversation: no such role"},
        {"{{ 'a' + 1 }}", "operator + does not work on 'str' and 'int'"},
        {"{{ 1 // 0 }}", "division by zero"},
        {"{{ 9223372036854775807 + 1 }}", "does not fit in 64 bits"},
        {"{{ [].append(1) }}", "cannot change its data"},
        {"{% macro m() %}{% endmacro %}{{ m(1) }}", "macro 'm' takes 0 arguments, not 1"},
        {"{{ 'a'|replace('b') }}", "replace needs"},
        {"{{ [1]|join(nosuch=2) }}", "join takes no argument 'nosuch'"},
        {"{% for a, b in [1] %}{% endfor %}", "'int' cannot be iterated over"},
        {"{{ \xFF }}", "not valid UTF-8"}};
    for (int i = 0; i < LQ_ARRAY_LEN(cases); i++) {
        lq_str out = LQ_STR_INIT;
        ck_assert_msg(render(cases[i].source, NULL, &out) != LQ_OK, "%s", cases[i].source);
        ck_assert_msg(test_contains(lq_error(), cases[i].part), "%s: '%s' lacks '%s'",
                      cases[i].source, lq_error(), cases[i].part);
        lq_str_clear(&out);
    }
}
END_TEST

START_TEST(endless_templates_stop) {
    static const struct {
        const char *source, *part;
    } cases[] = {
        {"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "deeper than"},
        {"{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
         "needs more than"},
        {"{% set r = range(99999)|list %}{% for a in r %}{{ -1 in r }}{% endfor %}",
         "too many steps"},
        {"{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(99) %}"
         "{% set ns.s = ns.s + ns.s %}{% endfor %}",
         "MiB"},
        {"{{ 'a' * 99999999999 }}", "too many steps"},
        {"{{ 'abcdefgh' * 9999999 * 9999999 }}", "MiB"},
        {"{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}", "deeper than"},
        {"{{ range(99999999999) }}", "more than 100000"},
        {"{{ '%99999d' % 1 }}", "width above"},
        {"{{ 2 ** 9999999 }}", "64 bits"}};
    for (int i = 0; i < LQ_ARRAY_LEN(cases); i++) {
        lq_str out = LQ_STR_INIT;
        ck_fails(render(cases[i].source, NULL, &out), LQ_EVALUE, cases[i].part);
        lq_str_clear(&out);
    }
}
END_TEST

START_TEST(deep_nesting_is_refused) {
    static const char *const open[] = {"(", "[", "-", "not ", "{% if 1 %}", "{1:", "x["};
    for (int k = 0; k < LQ_ARRAY_LEN(open); k++) {
        lq_str source = LQ_STR_INIT, out = LQ_STR_INIT;
        if (open[k][0] != '{' || open[k][1] != '%') lq_str_puts(&source, "{{ ");
        for (int i = 0; i < 20000; i++) lq_str_puts(&source, open[k]);
        ck_fails(render(lq_str_text(&source), NULL, &out), LQ_EVALUE, "");
        lq_str_clear(&source);
        lq_str_clear(&out);
    }
}
END_TEST

static lq_status render_much(void *ctx) {
    (void)ctx;
    lq_str out = LQ_STR_INIT;
    const lq_status status = render(
        "{% macro m(a, b=[1, 2]) %}{{ a|upper }}{% for x in b %}{{ x }}{% endfor %}{% endmacro %}"
        "{% set ns = namespace(x={'a': [1, 'b']}) %}{{ m('q') }}{{ ns.x|tojson(indent=2) }}"
        "{{ range(5000)|map('string')|join(',') }}{{ 'abc' * 20000 }}",
        NULL, &out);
    lq_str_clear(&out);
    return status;
}

START_TEST(failed_allocations_are_reported) { test_alloc_failures(render_much, NULL); }
END_TEST

int main(void) {
    Suite *suite = suite_create("jinja");
    TCase *tc = tcase_create("jinja");
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, renders_as_python_does);
    tcase_add_test(tc, errors_name_line_and_thing);
    tcase_add_test(tc, endless_templates_stop);
    tcase_add_test(tc, deep_nesting_is_refused);
    tcase_add_test(tc, failed_allocations_are_reported);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
