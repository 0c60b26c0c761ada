/* prepare.c: what a user is told about chat templates, by what the model has and what the
 * configuration asks for. */
#include "run_fixture.h"

#include <stdio.h>

#define CHATML "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"
#define FOREIGN "a chat template of its own (an instruction-tuned model?), but another is"
#define LEARNED "no chat template (a pretrained model?): it learns the configured one"
#define NONE "no chat template (a pretrained model?): conversations need chat_template"

START_TEST(templates_are_advised_on) {
    static const struct { const char *own, *options, *warning; } cases[] = {
        {CHATML, "", NULL},
        {CHATML, "--chat-template tokenizer_default", NULL},
        {CHATML, "--chat-template llama3", FOREIGN},
        {CHATML, "--chat-template-jinja '{{ messages[0].content }}'", FOREIGN},
        {NULL, "--chat-template llama3", LEARNED},
        {NULL, "", NONE},
    };
    const tiny_model model = {.tied = true, .chat_template = cases[_i].own};
    fixture_run f;
    fixture_make_of(&f, "advice", 1, "", &model);
    const fixture_result r = fixture_loquat("preprocess %s %s", f.config, cases[_i].options);
    ck_assert_msg(r.exit_status == 0, "%s", r.err);
    if (cases[_i].warning) ck_assert_msg(test_contains(r.err, cases[_i].warning), "%s", r.err);
    else ck_assert_msg(!test_contains(r.err, "chat template"), "%s", r.err);
}
END_TEST

/* The message names the template's line. */
START_TEST(mistakes_in_templates_have_a_line) {
    static const struct { const char *jinja, *message; } cases[] = {
        {"{% for m in messages %}\n{{ m.content }}\n{% endfo %}", "line 3: unknown tag 'endfo'"},
        {"{% for m in messages %}\n{{ m.content | foo }}{% endfor %}",
         "data.jsonl:1: messages record: chat template, line 2: there is no filter named 'foo'"},
        {"\n\n{{ raise_exception('no ' + messages[0].role) }}",
         "line 3: the template refuses the conversation: no user"},
    };
    fixture_run f;
    char path[300];
    fixture_make(&f, "mistakes", 1, "");
    snprintf(path, sizeof path, "%s/chat.jinja", f.dir);
    fixture_write(path, cases[_i].jinja);
    fixture_write(f.data, "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, "
                          "{\"role\": \"assistant\", \"content\": \"b\"}]}\n");
    const fixture_result r =
        fixture_loquat("preprocess %s --chat-template-jinja %s --val-set-size 0", f.config, path);
    ck_assert_int_eq(r.exit_status, 1);
    ck_assert_msg(test_contains(r.err, cases[_i].message), "%s", r.err);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("prepare");
    TCase *tc = tcase_create("prepare");
    tcase_add_loop_test(tc, templates_are_advised_on, 0, 6);
    tcase_add_loop_test(tc, mistakes_in_templates_have_a_line, 0, 3);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
