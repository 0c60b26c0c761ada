/* The tokenizer of a Hugging Face directory as GGUF metadata: the keys that llama.cpp's converter
 * writes, so that one tokenizer code runs on both. Read are tokenizer.model (SentencePiece or
 * tiktoken), tokenizer.json, tekken.json, vocab.json + merges.txt, added_tokens.json,
 * tokenizer_config.json, config.json and the chat templates. */
#ifndef LOQUAT_HF_TOKENIZER_H
#define LOQUAT_HF_TOKENIZER_H

#include "gguf.h"

/* Sets the tokenizer.* keys of w. Messages start with the file that they are about. A component of
 * tokenizer.json that llama.cpp has no equivalent for is named and refused. */
lq_status lq_hf_tokenizer_metadata(lq_gguf_writer *w, const char *dir);

#endif
