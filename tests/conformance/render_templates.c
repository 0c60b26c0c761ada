/* Renders what check_templates.py sends: one JSON object a line {template, messages, tools,
 * variables, prompt, bos, eos, now} on stdin; {"text": ...} or {"error": ...} a line on stdout. */
#include "template.h"

#include <stdio.h>
#include <stdlib.h>

static lq_status render(json_t *job, lq_str *out) {
    lq_template *t;
    json_t *tools = json_object_get(job, "tools");
    const lq_template_options options = {json_is_true(json_object_get(job, "prompt")),
                                         json_string_value(json_object_get(job, "bos")),
                                         json_string_value(json_object_get(job, "eos")),
                                         json_is_array(tools) ? tools : NULL,
                                         json_object_get(job, "variables"),
                                         json_integer_value(json_object_get(job, "now"))};
    lq_status status = lq_template_parse(&t, json_string_value(json_object_get(job, "template")));
    if (status == LQ_OK)
        status = lq_template_render(t, json_object_get(job, "messages"), &options, out);
    lq_template_free(t);
    return status;
}

static int answer(const char *line) {
    lq_str out = LQ_STR_INIT;
    json_t *job = json_loads(line, JSON_ALLOW_NUL, NULL);
    if (!job) return 0;
    const bool ok = render(job, &out) == LQ_OK;
    json_t *reply = ok ? json_pack("{s:s%}", "text", lq_str_text(&out), out.n)
                       : json_pack("{s:s}", "error", lq_error());
    const int written = reply && !json_dumpf(reply, stdout, JSON_COMPACT) && putchar('\n') != EOF &&
                        !fflush(stdout);
    json_decref(reply);
    json_decref(job);
    lq_str_clear(&out);
    return written;
}

int main(void) {
    char *line = NULL;
    size_t cap = 0;
    int ok = 1;
    while (ok && getline(&line, &cap, stdin) > 0) ok = answer(line);
    free(line);
    return !ok;
}
