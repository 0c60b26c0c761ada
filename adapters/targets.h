/* Which weights an adapter sits on: names as Hugging Face or GGUF spell them, suffix paths, globs.
 */
#ifndef LOQUAT_TARGETS_H
#define LOQUAT_TARGETS_H

#include "adapter.h"

/* Sets chosen[i] (n_weights) for every weight that the options select. All mistakes in one message.
 */
lq_status lq_targets_choose(bool *chosen, const lq_model *m, const lq_adapter_options *o);

/* Sets value[i] of every chosen weight to its first matching pattern's, else to `fallback`. Keys
 * are names as above or, as in PEFT, regular expressions on the end of the module path. `option`
 * names the list in messages; a key that matches no chosen weight is a mistake. */
lq_status lq_targets_pattern(double *value, const lq_model *m, const bool *chosen,
                             const char *option, const lq_pattern *pattern, int n, double fallback);

/* The value of the first pattern that matches the whole path or what follows one of its dots, as
 * PEFT reads its keys; else `fallback`. */
lq_status lq_targets_value(double *value, const char *path, const lq_pattern *pattern, int n,
                           double fallback);

#endif
