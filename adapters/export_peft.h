/* The adapter as PEFT stores it: adapter_config.json + adapter_model.safetensors. */
#ifndef LOQUAT_EXPORT_PEFT_H
#define LOQUAT_EXPORT_PEFT_H

#include "adapter.h"

/* Makes `dir`. `base`: base_model_name_or_path. type: F32 (PEFT's own), F16 or BF16. Refused, with
 * the reason, for what PEFT would not compute the same with: mode merged, full. */
lq_status lq_export_peft(const lq_adapter *a, const char *dir, const lq_format *type,
                         const char *base);

#endif
