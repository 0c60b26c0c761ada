/* A model as it would be deployed: base (or merged) GGUF plus adapters, or a run's output
 * directory. */
#ifndef LOQUAT_SESSION_H
#define LOQUAT_SESSION_H

#include "adapter.h"
#include "generate.h"
#include "loquat.h"
#include "template.h"

struct loquat_model {
    lq_model *model;
    lq_dev *dev;                 /* where it runs: lq_set_session_device */
    lq_adapter *lora;            /* NULL: none */
    lq_template *chat_template;  /* NULL: none */
    char *template_source;       /* of chat_template */
    lq_net logits;               /* opened on first use by lq_session_logits */
    lq_generator *generator;     /* opened on first use */
};

/* Of sessions opened from now on; name: as the config's `device`. Fails if there is none. */
lq_status lq_set_session_device(const char *name);
/* Of a model and an adapter on it (NULL: none), both taken over, also when it fails.
 * template_source: NULL is the model's own. */
lq_status lq_session_of(loquat_model **out, lq_model *model, lq_adapter *lora,
                        const char *template_source);
const lq_patch *lq_session_patch(const loquat_model *s);   /* NULL without adapters */

/* What the session rounds from now on. */
void lq_session_set_runtime(loquat_model *s, const lq_runtime *runtime);

/* logits (n,V) of one sequence: borrowed until the session's next forward, or copied. */
lq_status lq_session_forward(loquat_model *s, const int32_t *ids, int64_t n, const float **out);
lq_status lq_session_logits(loquat_model *s, const int32_t *ids, int64_t n, float *out);
/* Have both the same tokens, so that their logits can be compared? */
lq_status lq_session_same_vocabulary(const loquat_model *a, const loquat_model *b);
/* Reads ids and generates until an end-of-generation token (not included), max_new tokens or a
 * full context. */
lq_status lq_session_continue(loquat_model *s, const int32_t *ids, int64_t n,
                              const loquat_generate_options *options, lq_str *out);

/* Where a file that run.json names is now, the caller's. Runs are moved, and their paths may be
 * relative to where training was started: beside run.json comes first, then the path as it was
 * recorded. */
char *lq_run_path(const char *run_dir, const char *recorded);

#endif
