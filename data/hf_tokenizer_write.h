/* The tokenizer of a GGUF as the files that transformers reads: the way back of hf_tokenizer.h. The
 * regexes written are llama.cpp's (pretokenizer.c), so the ids are those that the model saw. */
#ifndef LOQUAT_HF_TOKENIZER_WRITE_H
#define LOQUAT_HF_TOKENIZER_WRITE_H

#include "tokenizer.h"

/* tokenizer.json, tokenizer_config.json, generation_config.json and the chat templates that have a
 * name, into dir. g: where t was read from. LQ_EUNSUPPORTED, before anything is written:
 * transformers has no way to say what t does. */
lq_status lq_hf_tokenizer_write(const lq_tokenizer *t, const lq_gguf *g, const char *dir);

#endif
