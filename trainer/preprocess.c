/* loquat_preprocess: what training will see, without training. */
#include "loquat.h"
#include "model.h"
#include "prepare.h"

#include <stdlib.h>

static int by_length(const void *a, const void *b) {
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return x < y ? -1 : x > y;
}

static lq_status describe(lq_str *out, const char *what, const lq_dataset *d) {
    const lq_data_counts *n = &d->counts;
    if (d->n == 0) {
        lq_str_printf(out, "%s: none\n", what);
        return lq_str_status(out);
    }
    int32_t *length = lq_alloc_array(d->n, sizeof *length);
    if (!length) return LQ_EMEM;
    int64_t tokens = 0, trained = 0;
    for (int64_t i = 0; i < d->n; i++) {
        length[i] = d->example[i].n;
        tokens += d->example[i].n;
        trained += d->example[i].n_trained;
    }
    qsort(length, (size_t)d->n, sizeof *length, by_length);
    lq_str_printf(out, "%s: %lld examples, %lld tokens, %lld trained (%.0f %%)\n", what,
                  (long long)d->n, (long long)tokens, (long long)trained,
                  100.0 * (double)trained / (double)tokens);
    lq_str_printf(out, "  length: shortest %d, median %d, longest %d tokens\n", length[0],
                  length[d->n / 2], length[d->n - 1]);
    lq_str_printf(out,
                  "  records %lld, too long and dropped %lld, cut %lld, nothing to train %lld, "
                  "exact duplicates %lld\n",
                  (long long)n->records, (long long)n->too_long_dropped, (long long)n->truncated,
                  (long long)n->nothing_trained, (long long)n->duplicates);
    lq_free(length);
    return lq_str_status(out);
}

static lq_status describe_all(lq_str *out, const lq_prepared *p, const lq_tokenizer *tok,
                              int n_show, bool color) {
    LQ_TRY(describe(out, "training", &p->train));
    LQ_TRY(describe(out, "validation", &p->val));
    lq_str_printf(out, "training examples that also occur in validation: %lld\n",
                  (long long)lq_dataset_overlap(&p->train, &p->val));
    for (int64_t i = 0; i < n_show && i < p->train.n; i++) {
        const lq_example *e = &p->train.example[i];
        lq_str_printf(out, "\n--- example %lld (record %lld): %d tokens, %d trained\n",
                      (long long)i + 1, (long long)e->line, e->n, e->n_trained);
        LQ_TRY(lq_dataset_show(&p->train, i, tok, color, out));
        lq_str_putc(out, '\n');
    }
    return lq_str_status(out);
}

loquat_status loquat_preprocess(const char *config_path, const loquat_setting *settings,
                                size_t n_settings, int n_show, bool color, char **out_text) {
    lq_config *config = NULL;
    lq_model *model = NULL;
    lq_prepared data = {0};
    lq_str text = LQ_STR_INIT;
    lq_status status = LQ_OK;
    *out_text = NULL;
    LQ_GOTO(status,
            lq_config_load(&config, config_path, (const lq_override *)settings, (int)n_settings));
    LQ_GOTO(status, lq_model_open(&model, config->base_model, false));
    if (!model->tokenizer)
        LQ_GOTO(status, lq_fail(LQ_EFORMAT, "%s: has no tokenizer", config->base_model));
    LQ_GOTO(status, lq_prepare(&data, config, model->tokenizer, 0));
    LQ_GOTO(status, describe_all(&text, &data, model->tokenizer, n_show, color));
    *out_text = lq_str_take(&text);
    if (!*out_text) status = LQ_EMEM;
done:
    lq_str_clear(&text);
    lq_prepared_clear(&data);
    lq_model_close(model);
    lq_config_free(config);
    return (loquat_status)status;
}
