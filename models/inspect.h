/* What a GGUF file really is, by evidence rather than by its name. */
#ifndef LOQUAT_INSPECT_H
#define LOQUAT_INSPECT_H

#include "base.h"

/* *out_text: one JSON object, or the same as indented "key: value" lines. A model that Loquat
 * cannot train, or whose tensors do not fit, is reported with the reason; only a file that is no
 * GGUF fails. */
lq_status lq_inspect(char **out_text, const char *path, bool json);

#endif
