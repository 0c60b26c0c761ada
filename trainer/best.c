/* See best.h. */
#include "best.h"

#include "atomic_file.h"
#include "trainer.h"

static lq_status read_parameters(lq_best *b, const char *run_dir) {
    char *checkpoints = lq_path_join(run_dir, "checkpoints");
    const lq_status status =
        checkpoints ? lq_checkpoint_best(b->adapter, checkpoints, &b->base_hash, &b->step)
                    : LQ_EMEM;
    lq_free(checkpoints);
    LQ_TRY(status);
    return lq_adapter_rebuild(b->adapter);
}

lq_status lq_best_open(lq_best *b, const lq_config *c, const char *run_dir) {
    lq_template *parsed = NULL;
    *b = (lq_best){.model = NULL};
    LQ_TRY(lq_model_open_as(&b->model, c->base_model, true, c->base_quant));
    lq_base_hash_open(&b->base_hash, b->model);
    lq_base_hash_begin(&b->base_hash);
    LQ_TRY(lq_types_from_config(&b->types, c, run_dir));
    LQ_TRY(lq_adapter_from_config(&b->adapter, b->model, c, &b->types, false));
    LQ_TRY(read_parameters(b, run_dir));
    const lq_status status =
        lq_choose_template(&parsed, &b->template_source, c->chat_template, c->chat_template_jinja,
                           b->model->tokenizer);
    lq_template_free(parsed);
    return status;
}

void lq_best_close(lq_best *b) {
    lq_base_hash_stop(&b->base_hash);
    lq_adapter_free(b->adapter);
    lq_types_clear(&b->types);
    lq_model_close(b->model);
    lq_free(b->template_source);
    *b = (lq_best){.model = NULL};
}
