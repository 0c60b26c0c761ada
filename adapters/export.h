/* GGUF out: merged model, adapter, quantized base. Each is written atomically, then opened again
 * and compared byte for byte with what was meant. Effective weights are written as they are,
 * never re-quantized. */
#ifndef LOQUAT_EXPORT_H
#define LOQUAT_EXPORT_H

#include "adapter.h"
#include "mix.h"

typedef struct lq_lineage {
    const char *name;          /* general.name; NULL: the base's + " (fine-tuned)" */
    const char *base_path;     /* general.base_model.0.name */
    const char *version;       /* loquat's, for general.quantized_by */
    const char *chat_template; /* that it was trained with; NULL: the base's */
} lq_lineage;

/* The model as the last forward saw it. Plain LoRA (mode none): W + s B A, quantized once into
 * `types` (NULL: F16). merged: the packed blocks; types NULL, or those that the run trained for. */
lq_status lq_export_merged(const lq_adapter *a, const char *path, const lq_mix_request *types,
                           const lq_lineage *lineage);
/* A, B as llama.cpp's --lora wants them; type F32, F16 or BF16; rsLoRA and per-module scales
 * folded into B. Refused, with the reason, for mode merged and for full. */
lq_status lq_export_lora(const lq_adapter *a, const char *path, const lq_format *type,
                         const lq_lineage *lineage);
/* The quantized base that the adapter was trained on. types: what its model was re-quantized to in
 * memory; NULL: it was not. separate: not looked at. */
lq_status lq_export_base(const lq_adapter *a, const char *path, const lq_mix_request *types,
                         const lq_lineage *lineage);

#endif
