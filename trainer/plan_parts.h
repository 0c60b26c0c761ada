/* What the files of loquat_plan share. */
#ifndef LOQUAT_PLAN_PARTS_H
#define LOQUAT_PLAN_PARTS_H

#include "config.h"
#include "model.h"
#include "prepare.h"

#include <jansson.h>

typedef struct lq_run_plan {
    bool on_device;    /* peak is of its memory; checkpoint and program, the host's, are not in it */
    size_t weights, packed, parameters, activations, validation, teacher, checkpoint, program, peak;
    int64_t trained_parameters, model_parameters, steps, examples, tokens_per_epoch, max_rows;
    double flops;      /* of the run: 4 N per token with frozen weights, 6 N when all are trained */
} lq_run_plan;

/* What a run of this configuration on this data needs on dev. */
lq_status lq_plan_estimate(lq_run_plan *p, lq_dev *dev, const lq_config *c, lq_model *m,
                           const lq_prepared *data);

/* Which settings make it fit into `memory` bytes, the cheapest changes first: *changes becomes an
 * array of {"set", "peak_bytes"}, each on top of those before it. *fits: the last one does, or
 * nothing needed to change. c is changed on the way. */
lq_status lq_plan_fit(json_t **changes, bool *fits, size_t memory, lq_dev *dev, lq_config *c,
                      lq_model *m, const lq_prepared *data, const lq_run_plan *as_is);

/* "4G", "512M", "3.5GiB", "1000000" (bytes); NULL: what this machine, or its container, has, or what
 * is free on the device. */
lq_status lq_plan_memory(size_t *out, lq_dev *dev, const char *text);

#endif
