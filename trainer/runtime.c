/* See runtime.h. llama.cpp's attention on the CPU computes with F32 queries as long as keys and
 * values are both F32 or both F16; otherwise it turns the queries into what products with the keys'
 * type want, as it does with activations and weights. */
#include "runtime.h"

#include <string.h>

static lq_status cache_rounding(const lq_rounding **out, const lq_model *m, const char *option,
                                const char *type) {
    *out = NULL;
    if (!type) return LQ_OK;
    LQ_TRY(lq_cache_rounding(out, option, type));
    if (*out && m->hp.head_dim % (*out)->block != 0)
        return lq_fail(LQ_ECONFIG,
                       "%s: found %s, whose blocks of %d do not divide this model's heads of %lld",
                       option, type, (*out)->block, (long long)m->hp.head_dim);
    return LQ_OK;
}

static const lq_rounding *query_rounding(const lq_runtime *r) {
    const bool same = r->keys == r->values;
    if (!r->keys || (same && r->keys->fmt == &lq_f16)) return NULL;
    return lq_activation_rounding(r->keys->fmt);
}

lq_runtime lq_runtime_from_config(const lq_config *c) {
    return (lq_runtime){.activations =
                            c->has_qat && strcmp(c->qat.activation_dtype, "runtime") == 0};
}

lq_status lq_runtime_from_names(lq_runtime *out, const lq_model *m, const char *activations,
                                const char *cache_k, const char *cache_v) {
    *out = (lq_runtime){.activations = activations && strcmp(activations, "runtime") == 0};
    if (activations && !out->activations && strcmp(activations, "off") != 0)
        return lq_fail(LQ_ECONFIG, "--activation-dtype: found '%s', wanted off or runtime",
                       activations);
    LQ_TRY(cache_rounding(&out->keys, m, "--cache-type-k", cache_k));
    LQ_TRY(cache_rounding(&out->values, m, "--cache-type-v", cache_v));
    out->queries = query_rounding(out);
    return LQ_OK;
}
