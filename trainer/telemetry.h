/* What quantization-aware training does to the codes, as numbers for metrics.jsonl and run.json. */
#ifndef LOQUAT_TELEMETRY_H
#define LOQUAT_TELEMETRY_H

#include "adapter.h"

#include <jansson.h>

/* Appends `, "codes_changed": ...` and its fellows of the last watched rebuild; nothing when none
 * was. */
void lq_telemetry_line(const lq_adapter *a, lq_str *line);
/* [{"tensor", "type", "weights", "saturated", "distance"}]: the quantized tensors by kind. NULL:
 * out of memory. */
json_t *lq_telemetry_json(const lq_adapter *a);

#endif
