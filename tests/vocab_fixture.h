/* Vocabularies for tests: two small ones made up here, and real ones built from their makers'
 * files. Each is a GGUF writer whose keys a test may still change. */
#ifndef LOQUAT_VOCAB_FIXTURE_H
#define LOQUAT_VOCAB_FIXTURE_H

#include "gguf.h"

/* SPM: 0 <unk>, 1 <s>, 2 </s>, 3.. the 256 bytes, then the pieces of "hello", <tag> (user-defined),
 * <|im_end|>. */
lq_status fixture_spm(lq_gguf_writer **out);
/* Byte-level BPE: the 256 bytes, merges up to "Ġhello", then <|endoftext|>, <|im_end|> (control),
 * <tag>. */
lq_status fixture_bpe(lq_gguf_writer **out, const char *pre);
/* From a tiktoken file (lines of base64 and rank), with Llama 3's first special tokens. */
lq_status fixture_llama3(lq_gguf_writer **out, const char *tiktoken);
/* From vocab.json and merges.txt, with Qwen's special tokens. */
lq_status fixture_qwen2(lq_gguf_writer **out, const char *vocab, const char *merges);

/* Writes to path and opens that. */
lq_status fixture_open(lq_gguf **out, lq_gguf_writer *w, const char *path);

/* A whole file with a NUL behind it; the caller's to lq_free. */
char *fixture_read(const char *path, size_t *n);

#endif
