/* Records of a .jsonl file (one JSON object a line; blank lines are skipped) or of a file that
 * holds one JSON array of objects. Every message starts with the place: "FILE:LINE", in an array
 * "FILE: record N". */
#ifndef LOQUAT_JSONL_H
#define LOQUAT_JSONL_H

#include "base.h"

#include <jansson.h>

typedef struct lq_jsonl lq_jsonl;

lq_status lq_jsonl_open(lq_jsonl **out, const char *path);
void lq_jsonl_close(lq_jsonl *r);

/* The next object, borrowed until the next call; NULL at the end. After LQ_EFORMAT (this record is
 * broken) reading may go on with the one after it. */
lq_status lq_jsonl_next(lq_jsonl *r, json_t **out);
int64_t lq_jsonl_record(
    const lq_jsonl *r); /* 1-based line, in an array 1-based index, of the last one */
const char *lq_jsonl_where(
    lq_jsonl *r); /* "FILE:LINE" of the last one; borrowed until the next call */

/* "string", "array", "nothing" ... for messages. */
const char *lq_json_type_name(const json_t *value);

#endif
