/* See record_fixture.h. */
#include "record_fixture.h"

#include "atomic_file.h"
#include "test_util.h"
#include "tiny_model.h"

#include <string.h>

static const char chat[] =
    "{{ bos_token }}{% if tools %}[tools]{{ tools | tojson }}{% endif %}"
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}"
    "{% if m.tool_calls %}{{ m.tool_calls | tojson }}{% endif %}"
    "{% if m.tool_call_id %}{{ m.tool_call_id }}={% endif %}"
    "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}";

static lq_gguf *file;
lq_tokenizer *fixture_tok;
static lq_template *template;

void fixture_setup(void) {
    ck_ok(lq_gguf_open(&file, test_tiny_model()));
    ck_ok(lq_tokenizer_from_gguf(&fixture_tok, file));
    ck_ok(lq_template_parse(&template, chat));
}

void fixture_teardown(void) {
    lq_template_free(template);
    lq_tokenizer_close(fixture_tok);
    lq_gguf_close(file);
}

const char *fixture_data(const char *name, const char *text) {
    const char *path = test_path(name);
    ck_ok(lq_write_file(path, text, strlen(text)));
    return path;
}

lq_data_options fixture_chat_options(void) {
    return (lq_data_options){
        .sequence_len = 4096, .chat_template = template, .chat_template_source = chat};
}

lq_status fixture_load(lq_dataset *d, const char *name, const char *text, const char *type,
                       const lq_data_options *options) {
    const lq_data_source source = {.path = fixture_data(name, text), .type = type, .weight = 1};
    return lq_dataset_load(d, &source, 1, fixture_tok, options);
}
