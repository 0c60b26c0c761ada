/* A GGUF file into another type, tensor by tensor: what llama-quantize does, the same bytes. Any
 * architecture, also one that Loquat cannot train. */
#ifndef LOQUAT_QUANTIZE_FILE_H
#define LOQUAT_QUANTIZE_FILE_H

#include "mix.h"

typedef struct lq_quantize_report { uint64_t bytes_in, bytes_out; /* of tensor data */ } lq_quantize_report;

/* Never holds more than some rows. Metadata is kept; file type, quantization version and what the
 * imatrix was made from are set as llama-quantize sets them. `requantize`: tensors that are
 * quantized already may be quantized again. */
lq_status lq_quantize_file(const char *in, const char *out, const lq_mix_request *request,
                           bool requantize, lq_quantize_report *report);

/* quantize.imatrix.*, as llama-quantize writes them: value of key i, NULL text for a number. */
enum { LQ_N_IMATRIX_KEYS = 4 };
typedef struct lq_imatrix_key { const char *key; char text[128]; uint32_t number; bool is_text; } lq_imatrix_key;
/* Returns how many there are: those that are unknown are left out. */
int lq_imatrix_keys(lq_imatrix_key out[LQ_N_IMATRIX_KEYS], const struct lq_imatrix *im);

#endif
