/* A GGUF file into another type, tensor by tensor: what llama-quantize does, the same bytes. Any
 * architecture, also one that Loquat cannot train. */
#ifndef LOQUAT_QUANTIZE_FILE_H
#define LOQUAT_QUANTIZE_FILE_H

#include "mix.h"

typedef struct lq_quantize_report { uint64_t bytes_in, bytes_out; } lq_quantize_report;

/* Never holds more than some rows; the report counts tensor data. Metadata is kept; file type,
 * quantization version and what the imatrix was made from are set as llama-quantize sets them.
 * `requantize`: tensors that are quantized already may be quantized again. */
lq_status lq_quantize_file(const char *in, const char *out, const lq_mix_request *request,
                           bool requantize, lq_quantize_report *report);

#endif
