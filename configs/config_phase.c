/* The configurations of a recipe's phases, made from the recipe's own: its dump, read again with
 * the phase's settings on top. See config.h. */
#include "schema.h"

#include <string.h>

enum { MAX_OWN = 12 };

/* What the phase decides, as a command line would. */
typedef struct own { lq_override o[MAX_OWN]; int n; } own;

static void put(own *l, const char *key, const char *value) {
    l->o[l->n++] = (lq_override){key, value};
}

static lq_status read_phase(lq_config **out, const char *dump, const own *l,
                            const lq_settings *settings, const char *phase) {
    const int n = l->n + settings->n;
    lq_override *all = lq_alloc_array(n, sizeof *all);
    if (!all) return LQ_EMEM;
    memcpy(all, l->o, (size_t)l->n * sizeof *all);
    for (int i = 0; i < settings->n; i++)
        all[l->n + i] = (lq_override){settings->e[i].key, settings->e[i].value};
    const lq_status status = lq_config_read(out, dump, "recipe", all, n);
    lq_free(all);
    return status == LQ_OK ? LQ_OK : lq_fail_context(status, "%s: ", phase);
}

static bool is_merged(const lq_config *c) { return strcmp(c->qat.mode, "merged") == 0; }

lq_status lq_config_phase(lq_config **out, const lq_config *c, const char *phase,
                          const lq_phase_paths *paths) {
    const bool quantizes = strcmp(phase, "qad") == 0;
    own l = {.n = 0};
    lq_str dump = LQ_STR_INIT;
    *out = NULL;
    put(&l, "recipe", "null");
    put(&l, "lora", "null");
    put(&l, "qad", "null");
    put(&l, "output_dir", paths->output_dir);
    put(&l, "export.output_dir", paths->export_dir);
    if (!quantizes) {
        put(&l, "qat", "off");
        put(&l, "kd", "off");
        if (strcmp(c->metric_for_best_model, "eval_kl") == 0)
            put(&l, "metric_for_best_model", "auto");
        put(&l, "export.outtype", "f32");
    } else {
        put(&l, "lora_model_dir", paths->adapter);
        put(&l, "init_lora_weights", "default");
        if (!c->has_kd) put(&l, "kd", "on");
        if (is_merged(c)) put(&l, "lora_dropout", "0");
    }
    lq_status status = lq_config_dump(c, &dump);
    if (status == LQ_OK)
        status = read_phase(out, lq_str_text(&dump), &l, quantizes ? &c->qad : &c->lora, phase);
    lq_str_clear(&dump);
    return status;
}
