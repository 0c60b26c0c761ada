/* JSON files read whole, as the descriptions beside a Hugging Face model are. */
#ifndef LOQUAT_JSON_FILE_H
#define LOQUAT_JSON_FILE_H

#include "base.h"

#include <jansson.h>

/* *out is the caller's to json_decref. Messages start with "FILE:LINE". A file that is absent gives
 * LQ_OK and NULL unless `required`. */
lq_status lq_json_read(json_t **out, const char *dir, const char *name, bool required);

/* Writes `value` (taken over; NULL: it could not be built, LQ_EMEM) with sorted keys, indented by
 * two, as Python's tools do; atomic. */
lq_status lq_json_write(const char *path, json_t *value);

#endif
