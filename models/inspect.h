/* What a GGUF file really is, by evidence rather than by its name. */
#ifndef LOQUAT_INSPECT_H
#define LOQUAT_INSPECT_H

#include "base.h"

#include <jansson.h>

/* *out: the report on a model or adapter, the caller's. A model that Loquat cannot train, or whose
 * tensors do not fit, is reported with the reason; only a file that is no GGUF fails. */
lq_status lq_inspect_report(json_t **out, const char *path);
/* Which tensors and keys of two files differ, and by how much. */
lq_status lq_inspect_compare(json_t **out, const char *path_a, const char *path_b);
/* A report as one JSON object, or as indented "key: value" lines; what is listed for every single
 * tensor is left out of the lines. */
lq_status lq_inspect_text(char **out_text, const json_t *report, bool json);

#endif
