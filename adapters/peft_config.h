/* adapter_config.json, read. */
#ifndef LOQUAT_PEFT_CONFIG_H
#define LOQUAT_PEFT_CONFIG_H

#include "adapter.h"

#include <jansson.h>

typedef struct lq_peft_config {
    json_t *root;                  /* owned; patterns' keys point into it */
    double alpha;
    int64_t r;
    bool use_rslora, use_dora;
    lq_pattern *rank, *alphas;     /* owned arrays */
    int n_rank, n_alphas;
} lq_peft_config;

/* What is no plain LoRA or DoRA (other kinds, whole modules, biases ...) is refused, all of it in
 * one message. */
lq_status lq_peft_config_read(lq_peft_config *out, const char *dir);
void lq_peft_config_clear(lq_peft_config *c);

#endif
