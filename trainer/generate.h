/* Token by token generation with a key/value cache. */
#ifndef LOQUAT_GENERATE_H
#define LOQUAT_GENERATE_H

#include "net.h"

typedef struct lq_generator lq_generator;

/* n_ctx: tokens that fit, prompt included. m and patch are borrowed. */
lq_status lq_generator_new(lq_generator **out, lq_dev *dev, const lq_model *m,
                           const lq_patch *patch, int64_t n_ctx);
void lq_generator_free(lq_generator *g);
int64_t lq_generator_n_ctx(const lq_generator *g);

typedef struct lq_sampling {
    double temperature;    /* 0: greedy, lowest id wins ties */
    double top_p;          /* outside (0,1): off */
    uint64_t seed;
} lq_sampling;

/* Forgets everything and reads the prompt; n must leave room for at least one token. */
lq_status lq_generator_prompt(lq_generator *g, const int32_t *ids, int64_t n);
/* The next token after all that was read, and reads it. */
lq_status lq_generator_next(lq_generator *g, const lq_sampling *sampling, int32_t *out_id);
/* True when the context is full. */
bool lq_generator_full(const lq_generator *g);

#endif
