/* The merged model as transformers loads it: safetensors, config.json, tokenizer files. */
#ifndef LOQUAT_EXPORT_HF_H
#define LOQUAT_EXPORT_HF_H

#include "adapter.h"

/* Makes `dir`. The matrices are of the base's type; where that is a quantized one, or the weights
 * are those of qat.mode merged, F32: nothing is rounded then. *type: what they became. Refused for
 * mode separate, as every merge of it. */
lq_status lq_export_hf(const lq_adapter *a, const char *dir, const lq_format **type);

#endif
