/* From the options that describe a runtime to what it rounds (lq_runtime in model.h). */
#ifndef LOQUAT_RUNTIME_H
#define LOQUAT_RUNTIME_H

#include "config.h"
#include "model.h"

/* activations: "off" or "runtime"; cache_k, cache_v: types of llama.cpp's key/value cache. NULL:
 * off, F32. LQ_ECONFIG names the option. */
lq_status lq_runtime_from_names(lq_runtime *out, const lq_model *m, const char *activations,
                                const char *cache_k, const char *cache_v);
/* What a run with this configuration rounds. */
lq_runtime lq_runtime_from_config(const lq_config *c);

#endif
