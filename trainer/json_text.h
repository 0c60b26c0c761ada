/* Reports as text: what Jansson holds, printed into a string of ours. */
#ifndef LOQUAT_JSON_TEXT_H
#define LOQUAT_JSON_TEXT_H

#include "str.h"

#include <jansson.h>

/* Appends `o`; flags: Jansson's. o NULL (it could not be built): LQ_EMEM. */
lq_status lq_json_print(lq_str *out, const json_t *o, size_t flags);

/* A JSON number; null if x is not finite, which JSON cannot say. */
json_t *lq_json_number(double x);

/* Appends `text`; bytes that are not UTF-8 (a model may produce them) become U+FFFD. */
void lq_utf8_repair(lq_str *out, const lq_str *text);
/* The text, repaired, as a JSON string. */
json_t *lq_json_string(const lq_str *text);

#endif
