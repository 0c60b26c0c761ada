/* A model's matrices in another format, in memory. */
#ifndef LOQUAT_GGUF_REQUANTIZE_H
#define LOQUAT_GGUF_REQUANTIZE_H

#include "gguf.h"

/* The same file with every matrix of a block in `fmt`; embedding and head in fmt too, but in no less
 * than Q8_0. Rows that no block divides become F16; what is F32 beside the matrices stays, and so do
 * matrices that take no more memory than they would. Takes `base` over unless it fails. The weights
 * must be finite. */
lq_status lq_gguf_requantize(lq_gguf **out, lq_gguf *base, const lq_format *fmt);
/* What the tensors would take. */
uint64_t lq_gguf_requantized_bytes(const lq_gguf *base, const lq_format *fmt);

#endif
