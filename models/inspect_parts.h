/* The pieces of an inspection report. */
#ifndef LOQUAT_INSPECT_PARTS_H
#define LOQUAT_INSPECT_PARTS_H

#include "gguf.h"
#include "str.h"

#include <jansson.h>

/* Of up to `max_blocks` blocks of a tensor of plain numbers, evenly spread: how many `fmt` would
 * give back as they are, to the precision of BF16, as after quantization-aware training. Blocks of
 * zeros do not count. */
typedef struct lq_lattice { int64_t blocks, unchanged; } lq_lattice;
lq_lattice lq_lattice_of(const lq_gguf_tensor *t, const lq_format *fmt, int64_t max_blocks);

/* Objects as indented lines, lists of values on one line. */
void lq_inspect_print(lq_str *out, const json_t *report);

#endif
