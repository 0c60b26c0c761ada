/* `recipe: [lora, qad]`: two runs as one command. See recipe.c. */
#ifndef LOQUAT_RECIPE_H
#define LOQUAT_RECIPE_H

#include "trainer.h"

/* Runs all phases and writes output_dir/run.json with their records. *out_record may be NULL. */
lq_status lq_recipe_run(const lq_config *c, const loquat_callbacks *callbacks, char **out_record);
/* The directory, the caller's, of the run whose artefacts are those of `run_dir`: its last phase's,
 * or itself. */
lq_status lq_recipe_last_dir(char **out, const lq_config *c, const char *run_dir);

#endif
