/* Chat templates: the model's own Jinja, rendered as Hugging Face transformers renders it
 * (trim_blocks, lstrip_blocks, raise_exception, strftime_now, tojson), with the spans that
 * training uses. */
#ifndef LOQUAT_TEMPLATE_H
#define LOQUAT_TEMPLATE_H

#include "str.h"

#include <jansson.h>

typedef struct lq_template lq_template;

/* Byte ranges of a rendered text. */
typedef struct lq_span { int64_t start, end; } lq_span;
typedef struct lq_spans { lq_span *span; int64_t n, cap; } lq_spans;
#define LQ_SPANS_INIT {NULL, 0, 0}
void lq_spans_clear(lq_spans *s);

/* Parses Jinja source. Errors name the line. */
lq_status lq_template_parse(lq_template **out, const char *source);
void lq_template_free(lq_template *t);

typedef struct lq_template_options {
    bool add_generation_prompt;
    const char *bos_token, *eos_token;   /* NULL: "" */
    json_t *tools;                       /* array or NULL (borrowed) */
    json_t *extra;                       /* object of further variables, or NULL (borrowed) */
    int64_t now;                         /* strftime_now, seconds since the epoch; 0: the clock */
} lq_template_options;

/* Renders messages (array of {role, content, ...}, borrowed) and appends to out. */
lq_status lq_template_render(const lq_template *t, json_t *messages,
                             const lq_template_options *options, lq_str *out);

/* Renders and finds what is to be trained: for each message i with train[i] the text that the
 * template prints for it, without the header that a generation prompt would print, through its
 * end-of-turn token. Uses {% generation %} blocks where the template has them; otherwise
 * compares the renderings of message prefixes with and without generation prompt.
 * LQ_EUNSUPPORTED if no consistent span exists (the message says what to do). train NULL: every
 * assistant message. */
lq_status lq_template_render_spans(const lq_template *t, json_t *messages, const bool *train,
                                   const lq_template_options *options, lq_str *out,
                                   lq_spans *spans);

/* Named built-in templates ("chatml", "llama3", ...): Jinja source, or NULL. */
const char *lq_template_builtin(const char *name);
const char *const *lq_template_builtin_names(void);   /* NULL-terminated */

#endif
