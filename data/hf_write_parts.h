/* What the writers of Hugging Face's tokenizer files share. */
#ifndef LOQUAT_HF_WRITE_PARTS_H
#define LOQUAT_HF_WRITE_PARTS_H

#include "tokenizer_parts.h"

/* A JSON string of UTF-8; LQ_EUNSUPPORTED where the bytes are none. */
lq_status lq_json_quote(lq_str *out, const char *s, size_t n);
lq_status lq_json_quote_token(lq_str *out, const lq_tokenizer *t, int32_t id);

/* tokenizer.json. */
lq_status lq_hf_tokenizer_json(lq_str *out, const lq_tokenizer *t, const lq_gguf *g);
/* The list of its merges: GGUF's, or, from SPM's scores, every way to join two tokens to one. */
lq_status lq_hf_bpe_merges(lq_str *out, const lq_tokenizer *t, const lq_gguf *g);
lq_status lq_hf_spm_merges(lq_str *out, const lq_tokenizer *t);

#endif
