/* The pieces of an inspection report. */
#ifndef LOQUAT_INSPECT_PARTS_H
#define LOQUAT_INSPECT_PARTS_H

#include "gguf.h"
#include "model.h"
#include "str.h"

#include <jansson.h>

typedef struct lq_report {
    const char *path;
    lq_gguf *file;
    lq_model *model;           /* NULL: Loquat cannot use it */
    lq_tokenizer *tokenizer;   /* NULL: none, or one that cannot be used */
    json_t *root, *warnings;
    bool failed;               /* out of memory */
} lq_report;

/* Takes value over; NULL means that there was no memory for it. Keys may come from the file: JSON's
 * are UTF-8. */
void lq_report_put(lq_report *r, json_t *object, const char *key, json_t *value);
void lq_report_int(lq_report *r, json_t *object, const char *key, int64_t v);
void lq_report_text(lq_report *r, json_t *object, const char *key, const char *s);
json_t *lq_report_object(lq_report *r, json_t *parent, const char *key);
/* Adds to the number that is there. */
void lq_report_count(lq_report *r, json_t *object, const char *key, int64_t add);
void lq_report_warn(lq_report *r, const char *fmt, ...) LQ_PRINTF(2, 3);
/* Files may hold anything in a string: what is not UTF-8 is said to be so. */
json_t *lq_text_json(const char *s, size_t n);
json_t *lq_value_json(const lq_gguf_kv *kv);

/* "blk.3.attn_q.weight" -> "attn_q" */
enum { LQ_STEM_BYTES = 128 };
const char *lq_tensor_stem(char stem[LQ_STEM_BYTES], const char *name);

/* The architecture that the tensors have, whether the file says so, and whether its name does. */
void lq_report_architecture(lq_report *r, json_t *out);
/* Which family's the vocabulary is; NULL: none that is known. */
const char *lq_vocabulary_family(const lq_tokenizer *t);
/* pt, it or qat, with the evidence. */
void lq_report_tuning(lq_report *r, json_t *out);

/* Of up to `max_blocks` blocks of a tensor of plain numbers, evenly spread: how many `fmt` would
 * give back as they are, to the precision of BF16, as after quantization-aware training. Blocks of
 * zeros do not count. */
typedef struct lq_lattice { int64_t blocks, unchanged; } lq_lattice;
lq_lattice lq_lattice_of(const lq_gguf_tensor *t, const lq_format *fmt, int64_t max_blocks);

/* Objects as indented lines, lists of values on one line. */
void lq_inspect_print(lq_str *out, const json_t *report);

#endif
