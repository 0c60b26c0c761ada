/* template*.c: the built-in templates against full texts, spans of training, {% generation %}, and
 * every template of the shared data against hashes made by transformers (reference/templates.json).
 */
#include "template.h"
#include "test_util.h"

#include <string.h>

static json_t *parse(const char *text) {
    json_error_t error;
    json_t *j = json_loads(text, 0, &error);
    ck_assert_msg(j != NULL, "%s: %s", text, error.text);
    return j;
}

/* The rendering with each span in [[...]]. */
static lq_status render_marked(const char *source, json_t *messages, const bool *train,
                               const lq_template_options *options, lq_str *out) {
    lq_template *t;
    lq_str text = LQ_STR_INIT;
    lq_spans spans = LQ_SPANS_INIT;
    lq_status status = lq_template_parse(&t, source);
    if (status == LQ_OK)
        status = lq_template_render_spans(t, messages, train, options, &text, &spans);
    int64_t at = 0;
    for (int64_t i = 0; status == LQ_OK && i < spans.n; i++) {
        lq_str_add(out, lq_str_text(&text) + at, (size_t)(spans.span[i].start - at));
        lq_str_puts(out, "[[");
        at = spans.span[i].end;
        lq_str_add(out, lq_str_text(&text) + spans.span[i].start,
                   (size_t)(at - spans.span[i].start));
        lq_str_puts(out, "]]");
    }
    if (status == LQ_OK) lq_str_add(out, lq_str_text(&text) + at, text.n - (size_t)at);
    lq_template_free(t);
    lq_spans_clear(&spans);
    lq_str_clear(&text);
    return status;
}

static const char conversation[] =
    "[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":\"a\"},"
    "{\"role\":\"assistant\",\"content\":\"b\"},{\"role\":\"user\",\"content\":\"c\"},"
    "{\"role\":\"assistant\",\"content\":\"d\"}]";

START_TEST(builtins_print_their_format) {
    static const struct {
        const char *name, *want;
    } cases[] = {
        {"chatml",
         "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"
         "[[b<|im_end|>]]\n<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n"
         "[[d<|im_end|>]]\n"},
        {"llama2",
         "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\na [/INST][[ b </s>]]<s>[INST] c [/INST][[ d </s>]]"},
        {"llama3",
         "<s><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>"
         "<|start_header_id|>user<|end_header_id|>\n\na<|eot_id|>"
         "<|start_header_id|>assistant<|end_header_id|>\n\n[[b<|eot_id|>]]"
         "<|start_header_id|>user<|end_header_id|>\n\nc<|eot_id|>"
         "<|start_header_id|>assistant<|end_header_id|>\n\n[[d<|eot_id|>]]"},
        {"gemma",
         "<s><start_of_turn>user\nS\n\na<end_of_turn>\n<start_of_turn>model\n[[b<end_of_turn>]]\n"
         "<start_of_turn>user\nc<end_of_turn>\n<start_of_turn>model\n[[d<end_of_turn>]]\n"},
        {"phi3",
         "<|system|>\nS<|end|>\n<|user|>\na<|end|>\n<|assistant|>\n[[b<|end|>]]\n<|user|>\n"
         "c<|end|>\n<|assistant|>\n[[d<|end|>]]\n"},
        {"mistral", "<s>[INST]S\n\na[/INST][[b</s>]][INST]c[/INST][[d</s>]]"},
        {"zephyr",
         "<|system|>\nS</s>\n<|user|>\na</s>\n<|assistant|>\n[[b</s>]]\n<|user|>\nc</s>\n"
         "<|assistant|>\n[[d</s>]]\n"},
        {"alpaca",
         "S\n\n### Instruction:\na\n\n### Response:\n[[b</s>]]\n\n### Instruction:\nc\n\n"
         "### Response:\n[[d</s>]]\n\n"}};
    const lq_template_options options = {.bos_token = "<s>", .eos_token = "</s>"};
    json_t *messages = parse(conversation);
    for (int i = 0; i < LQ_ARRAY_LEN(cases); i++) {
        lq_str out = LQ_STR_INIT;
        ck_ok(render_marked(lq_template_builtin(cases[i].name), messages, NULL, &options, &out));
        ck_assert_str_eq(lq_str_text(&out), cases[i].want);
        lq_str_clear(&out);
    }
    for (int i = 0; lq_template_builtin_names()[i]; i++) {
        bool tested = false;
        for (int k = 0; k < LQ_ARRAY_LEN(cases); k++)
            tested = tested || !strcmp(cases[k].name, lq_template_builtin_names()[i]);
        ck_assert_msg(tested, "%s has no expected text", lq_template_builtin_names()[i]);
    }
    ck_assert_ptr_null(lq_template_builtin("nosuch"));
    json_decref(messages);
}
END_TEST

START_TEST(generation_prompt_opens_a_turn) {
    json_t *messages = parse("[{\"role\":\"user\",\"content\":\"a\"}]");
    const lq_template_options options = {.add_generation_prompt = true};
    lq_str out = LQ_STR_INIT;
    ck_ok(render_marked(lq_template_builtin("chatml"), messages, NULL, &options, &out));
    ck_assert_str_eq(lq_str_text(&out), "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n");
    lq_str_clear(&out);
    json_decref(messages);
}
END_TEST

/* Each trained role is chosen by its letter in `train`: '1' trained. */
static void check_spans(const char *source, const char *messages_text, const char *train_text,
                        const char *want) {
    json_t *messages = parse(messages_text);
    bool train[16] = {false};
    lq_str out = LQ_STR_INIT;
    for (size_t i = 0; train_text && train_text[i]; i++) train[i] = train_text[i] == '1';
    const lq_template_options options = {.eos_token = "</s>"};
    ck_ok(render_marked(source, messages, train_text ? train : NULL, &options, &out));
    ck_assert_str_eq(lq_str_text(&out), want);
    lq_str_clear(&out);
    json_decref(messages);
}

static const char plain[] =
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}";

START_TEST(chosen_messages_are_trained) {
    check_spans(
        plain, conversation, NULL,
        "<system>S<end>\n<user>a<end>\n<assistant>[[b<end>]]\n<user>c<end>\n"
        "<assistant>[[d<end>]]\n");
    check_spans(
        plain, conversation, "00001",
        "<system>S<end>\n<user>a<end>\n<assistant>b<end>\n<user>c<end>\n<assistant>[[d<end>]]\n");
    check_spans(
        plain, conversation, "01100",
        "<system>S<end>\n[[<user>a<end>]]\n<assistant>[[b<end>]]\n<user>c<end>\n"
        "<assistant>d<end>\n");
}
END_TEST

START_TEST(templates_that_rewrite_history_have_spans) {
    /* reasoning only in the last turn; end-of-text only at the very end; system text moves to the
     * last user turn */
    check_spans(
        "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' and loop.last %}"
        "<think>t</think>{% endif %}"
        "{{ m.content }}<end>\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}",
        conversation, NULL,
        "<system>S<end>\n<user>a<end>\n<assistant>[[b<end>]]\n<user>c<end>\n<assistant>"
        "[[<think>t</think>d<end>]]\n");
    check_spans("{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>\n{% endfor %}"
                "{% if add_generation_prompt %}<assistant>{% else %}{{ eos_token }}{% endif %}",
                conversation, NULL,
                "<system>S<end>\n<user>a<end>\n<assistant>[[b<end>]]\n<user>c<end>\n<assistant>"
                "[[d<end>]]\n</s>");
    check_spans(
        "{% set users = messages|selectattr('role', 'eq', 'user')|list %}{% for m in "
        "messages[1:] %}"
        "{% if m.role == 'user' %}[Q]{{ messages[0].content if m == users[-1] }}{{ m.content }}[/Q]"
        "{% else %}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}",
        conversation, NULL, "[Q]a[/Q][[b</s>]][Q]Sc[/Q][[d</s>]]");
}
END_TEST

START_TEST(generation_blocks_are_the_spans) {
    static const char source[] =
        "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}"
        "{% generation %}{{ m.content }}<end>{% endgeneration %}{{ '\\n' }}{% else %}{{ "
        "m.content }}<end>\n{% endif %}{% endfor %}";
    check_spans(
        source, conversation, NULL,
        "<system>S<end>\n<user>a<end>\n<assistant>[[b<end>]]\n<user>c<end>\n"
        "<assistant>[[d<end>]]\n");
    check_spans(
        source, conversation, "00001",
        "<system>S<end>\n<user>a<end>\n<assistant>b<end>\n<user>c<end>\n<assistant>[[d<end>]]\n");
    json_t *messages = parse(conversation);
    lq_str out = LQ_STR_INIT;
    const bool user[5] = {false, true, false, false, false};
    ck_fails(render_marked(source, messages, user, NULL, &out), LQ_EUNSUPPORTED,
             "message 1 cannot be trained");
    ck_fails(
        render_marked("{% macro m() %}{% generation %}{% endgeneration %}{% endmacro %}{{ m() }}",
                      messages, NULL, NULL, &out),
        LQ_EUNSUPPORTED, "inside a macro");
    lq_str_clear(&out);
    json_decref(messages);
}
END_TEST

START_TEST(what_cannot_be_found_is_refused) {
    json_t *messages = parse(conversation);
    lq_str out = LQ_STR_INIT;
    ck_fails(render_marked("{% for m in messages|reverse %}{{ m.content }}{% endfor %}", messages,
                           NULL, NULL, &out),
             LQ_EUNSUPPORTED, "{% generation %}");
    ck_fails(render_marked("x", messages, NULL, NULL, &out), LQ_EUNSUPPORTED, "message 2");
    json_t *wrong = parse("[1]");
    ck_fails(render_marked("x", wrong, NULL, NULL, &out), LQ_EVALUE, "message 0 is not an object");
    ck_fails(render_marked("x", json_array_get(messages, 0), NULL, NULL, &out), LQ_EVALUE,
             "must be an array");
    lq_str_clear(&out);
    json_decref(messages);
    json_decref(wrong);
}
END_TEST

START_TEST(reasoning_has_all_its_names) {
    json_t *messages = parse("[{\"role\":\"assistant\",\"content\":\"b\",\"reasoning\":\"r\"}]");
    lq_template *t;
    lq_str out = LQ_STR_INIT;
    ck_ok(lq_template_parse(
        &t,
        "{{ messages[0].reasoning_content }}{{ messages[0].thinking }}{{ tools is none }}{{ "
        "bos_token }}"));
    ck_ok(lq_template_render(t, messages, NULL, &out));
    ck_assert_str_eq(lq_str_text(&out), "rrTrue");
    lq_template_free(t);
    lq_str_clear(&out);
    json_decref(messages);
}
END_TEST

static lq_status spans_once(void *ctx) {
    lq_str out = LQ_STR_INIT;
    const lq_status status = render_marked(plain, ctx, NULL, NULL, &out);
    const lq_status text = status == LQ_OK ? lq_str_status(&out) : status;
    lq_str_clear(&out);
    return text;
}

START_TEST(failed_allocations_are_reported) {
    json_t *messages = parse(conversation);
    test_alloc_failures(spans_once, messages);
    json_decref(messages);
}
END_TEST

/* ---- the templates of real models ---- */
static uint64_t fnv(const char *s, size_t n) {
    uint64_t h = 0xCBF29CE484222325u;
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)s[i]) * 0x100000001B3u;
    return h;
}

static char *read_text(const char *path) {
    lq_str s = LQ_STR_INIT;
    char buffer[4096];
    FILE *f = fopen(path, "rb");
    ck_assert_msg(f != NULL, "%s", path);
    for (size_t n; (n = fread(buffer, 1, sizeof buffer, f)) > 0;) lq_str_add(&s, buffer, n);
    fclose(f);
    return lq_str_take(&s);
}

static void check_hash(const char *what, lq_status status, const lq_str *text, const char *want) {
    char got[64] = "error";
    if (status == LQ_OK)
        snprintf(got, sizeof got, "%016llx %zu",
                 (unsigned long long)fnv(lq_str_text(text), text->n), text->n);
    ck_assert_msg(!strcmp(got, want), "%s: got %s (%s), wanted %s", what, got,
                  status == LQ_OK ? "" : lq_error(), want);
}

/* A span holds the last words of the message, ends with a token and not with white space. */
static void check_span_text(const char *what, const char *text, lq_span span, json_t *message) {
    const char *content = json_string_value(json_object_get(message, "content"));
    const size_t n = (size_t)(span.end - span.start);
    char *part = lq_strndup(text + span.start, n);
    ck_assert_msg(n > 0 && strchr(">]", part[n - 1]), "%s: the span '%s' ends with no token", what,
                  part);
    ck_assert_msg(!strstr(part, "<|im_start|>") && !strstr(part, "<|user|>"),
                  "%s: '%s' holds a header", what, part);
    const char *word = content ? strrchr(content, '\n') ? strrchr(content, '\n') + 1 : content : "";
    if (!json_object_get(message, "tool_calls"))
        ck_assert_msg(strstr(part, word) != NULL, "%s: the span '%s' lacks '%s'", what, part, word);
    lq_free(part);
}

static void check_all_spans(const char *what, const lq_template *t, json_t *messages,
                            const lq_template_options *options) {
    lq_str text = LQ_STR_INIT;
    lq_spans spans = LQ_SPANS_INIT;
    const lq_status status = lq_template_render_spans(t, messages, NULL, options, &text, &spans);
    int64_t k = 0;
    if (status != LQ_OK) {
        /* text that is printed behind the calls' results, or dropped: not one piece of the output
         */
        ck_assert_msg(status == LQ_EUNSUPPORTED && strstr(what, "calls_text"), "%s: %s", what,
                      lq_error());
    } else {
        for (size_t i = 0; i < json_array_size(messages); i++) {
            json_t *message = json_array_get(messages, i);
            if (strcmp(json_string_value(json_object_get(message, "role")), "assistant")) continue;
            ck_assert_msg(k < spans.n, "%s: too few spans", what);
            check_span_text(what, lq_str_text(&text), spans.span[k++], message);
        }
        ck_assert_msg(k == spans.n, "%s: too many spans", what);
    }
    lq_spans_clear(&spans);
    lq_str_clear(&text);
}

static void check_setting(const lq_template *t, const char *file, const char *name,
                          json_t *reference, json_t *expected) {
    json_t *setting = json_object_get(json_object_get(reference, "settings"), name);
    json_t *tools = json_object_get(setting, "tools"),
           *variables = json_object_get(setting, "variables");
    const lq_template_options options = {json_is_true(json_object_get(setting, "prompt")),
                                         json_string_value(json_object_get(reference, "bos_token")),
                                         json_string_value(json_object_get(reference, "eos_token")),
                                         json_is_array(tools) ? tools : NULL,
                                         variables,
                                         json_integer_value(json_object_get(reference, "now"))};
    const char *conversation_name;
    json_t *want;
    json_object_foreach(expected, conversation_name, want) {
        char what[256];
        lq_str out = LQ_STR_INIT;
        json_t *messages =
            json_object_get(json_object_get(reference, "conversations"), conversation_name);
        snprintf(what, sizeof what, "%s, %s, %s", file, name, conversation_name);
        const lq_status status = lq_template_render(t, messages, &options, &out);
        check_hash(what, status, &out, json_string_value(want));
        if (status == LQ_OK && !strcmp(name, "plain")) check_all_spans(what, t, messages, &options);
        lq_str_clear(&out);
    }
}

START_TEST(real_templates_render_as_transformers_does) {
    const char *dir = test_shared(LOQUAT_SHARED_DATA, "templates"), *file, *name;
    json_t *files, *expected;
    if (!dir) return;
    json_t *reference =
        json_load_file(LOQUAT_SOURCE_DIR "/tests/reference/templates.json", 0, NULL);
    ck_assert_ptr_nonnull(reference);
    json_object_foreach(json_object_get(reference, "expected"), file, files) {
        char path[1024];
        lq_template *t;
        snprintf(path, sizeof path, "%s/templates/%s", LOQUAT_SHARED_DATA, file);
        char *source = read_text(path);
        ck_ok(lq_template_parse(&t, source));
        json_object_foreach(files, name, expected)
            check_setting(t, file, name, reference, expected);
        lq_template_free(t);
        lq_free(source);
    }
    json_decref(reference);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("template");
    TCase *tc = tcase_create("template");
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, builtins_print_their_format);
    tcase_add_test(tc, generation_prompt_opens_a_turn);
    tcase_add_test(tc, chosen_messages_are_trained);
    tcase_add_test(tc, templates_that_rewrite_history_have_spans);
    tcase_add_test(tc, generation_blocks_are_the_spans);
    tcase_add_test(tc, what_cannot_be_found_is_refused);
    tcase_add_test(tc, reasoning_has_all_its_names);
    tcase_add_test(tc, failed_allocations_are_reported);
    tcase_add_test(tc, real_templates_render_as_transformers_does);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
