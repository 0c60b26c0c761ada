/* A directory with the files of a Hugging Face tokenizer, made by a test, and its comparison with
 * the same vocabulary as GGUF. */
#ifndef LOQUAT_TOKENIZER_DIR_H
#define LOQUAT_TOKENIZER_DIR_H

#include "gguf.h"
#include "tokenizer.h"

#include <jansson.h>

extern char fixture_dir[256];

/* An empty directory of this test's own; every test is a process. */
void fixture_start(void);
void fixture_put(const char *name, const void *bytes, size_t n);
void fixture_put_text(const char *name, const char *text);
void fixture_put_json(const char *name, json_t *v);   /* takes v */

/* The tokenizer of a directory. */
lq_status fixture_open_dir(lq_tokenizer **out, const char *dir);

/* Of a GGUF that is known to have them. */
const lq_gguf_str *fixture_strings(const lq_gguf *g, const char *key);
int fixture_type(const lq_gguf *g, uint64_t i);

/* Both give the same ids for texts of all kinds. */
void fixture_same_ids(const lq_tokenizer *a, const lq_tokenizer *b);

#endif
