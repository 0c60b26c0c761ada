/* Adapters as PEFT directories: adapter_config.json + adapter_model.safetensors. One is opened as
 * the adapter GGUF that it means for a given model, so that everything behind lora_file.h works on
 * both: GGUF's names and row order, every module's own scale folded into its B. */
#ifndef LOQUAT_PEFT_FILE_H
#define LOQUAT_PEFT_FILE_H

#include "model.h"

/* Is it a directory with an adapter_config.json? */
bool lq_peft_is_dir(const char *path);
/* LQ_EUNSUPPORTED names what is no plain LoRA or DoRA. Modules that the model does not have keep
 * their names: lq_lora_open lists them with all the other mistakes. */
lq_status lq_peft_open(lq_gguf **out, const lq_model *m, const char *dir);

#endif
