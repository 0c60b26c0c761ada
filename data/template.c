/* Chat templates: parsing and rendering. The Jinja interpreter is in jinja_*.c, the spans that
 * training uses in template_spans.c, the named templates in template_builtin.c. */
#include "template_internal.h"

void lq_spans_clear(lq_spans *s) {
    lq_free(s->span);
    *s = (lq_spans)LQ_SPANS_INIT;
}

lq_status lq_template_parse(lq_template **out, const char *source) {
    *out = NULL;
    lq_template *t = lq_alloc(sizeof *t);
    if (!t) return LQ_EMEM;
    const lq_status status = lq_jinja_parse(&t->jinja, source);
    if (status != LQ_OK) {
        lq_template_free(t);
        return status;
    }
    *out = t;
    return LQ_OK;
}

void lq_template_free(lq_template *t) {
    if (!t) return;
    lq_jmem_clear(&t->jinja.m);
    lq_free(t);
}

lq_status lq_template_check(json_t *messages, const lq_template_options *options) {
    if (!json_is_array(messages))
        return lq_fail(LQ_EVALUE, "chat template: messages must be an array");
    for (size_t i = 0; i < json_array_size(messages); i++)
        if (!json_is_object(json_array_get(messages, i)))
            return lq_fail(LQ_EVALUE, "chat template: message %zu is not an object", i);
    if (options->tools && !json_is_array(options->tools))
        return lq_fail(LQ_EVALUE, "chat template: tools must be an array");
    if (options->extra && !json_is_object(options->extra))
        return lq_fail(LQ_EVALUE, "chat template: the extra variables must be an object");
    return LQ_OK;
}

lq_status lq_template_render(const lq_template *t, json_t *messages,
                             const lq_template_options *options, lq_str *out) {
    static const lq_template_options none = {0};
    if (!options) options = &none;
    LQ_TRY(lq_template_check(messages, options));
    return lq_jinja_render(&t->jinja, messages, options, out, NULL);
}
