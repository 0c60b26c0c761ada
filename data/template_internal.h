/* What template.c and template_spans.c share. */
#ifndef LOQUAT_TEMPLATE_INTERNAL_H
#define LOQUAT_TEMPLATE_INTERNAL_H

#include "jinja.h"

struct lq_template {
    jtemplate jinja;
};

/* The shapes of the caller's JSON. */
lq_status lq_template_check(json_t *messages, const lq_template_options *options);

#endif
