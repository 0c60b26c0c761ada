/* Rotary positions in config.json: `rope_parameters`, or the older `rope_scaling` and `rope_theta`;
 * where layers differ, one set for global and one for local attention. */
#include "hf_parts.h"

#include <math.h>
#include <string.h>

static const double pi = 3.14159265358979323846;

static json_t *both(const lq_hf_config *c) {
    return lq_hf_config_get(c, "rope_parameters rope_scaling");
}

/* Those of global attention. */
static json_t *global(const lq_hf_config *c) {
    json_t *all = both(c), *full = json_object_get(all, "full_attention");
    return full ? full : all;
}

static bool is_nested(const lq_hf_config *c) {
    return json_object_get(both(c), "full_attention") ||
           json_object_get(both(c), "sliding_attention");
}

static json_t *member(const json_t *object, const char *key) {
    json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

static const char *type_of(const json_t *rope) {
    const char *type = json_string_value(member(rope, "rope_type"));
    return type ? type : json_string_value(member(rope, "type"));
}

static double number(const json_t *rope, const char *key, double fallback) {
    const json_t *value = member(rope, key);
    return json_is_number(value) ? json_number_value(value) : fallback;
}

/* 0: not said. */
static double theta(const lq_hf_config *c) {
    const double said = number(global(c), "rope_theta", 0);
    if (said > 0 || is_nested(c)) return said;
    return json_number_value(
        lq_hf_config_get(c, "global_rope_theta rope_theta_global rope_theta rotary_emb_base"));
}

static double local_theta(const lq_hf_config *c) {
    if (is_nested(c)) return number(member(both(c), "sliding_attention"), "rope_theta", 0);
    return json_number_value(lq_hf_config_get(c, "local_rope_theta rope_local_base_freq"));
}

/* llama.cpp takes the lengths of queries and keys from the factor, not from attention_factor. */
static lq_status check_yarn(const lq_hf_config *c, double factor) {
    static const char *const others[] = {"mscale", "mscale_all_dim"};
    const json_t *rope = global(c);
    const double usual = 0.1 * log(factor) + 1;
    const double said = number(rope, "attention_factor", number(rope, "attn_factor", usual));
    if (fabs(said - usual) > 1e-4)
        return lq_fail(LQ_EUNSUPPORTED, "%s: rope type yarn: attention_factor is %g, must be "
                       "0.1 ln(factor) + 1 = %g, as llama.cpp computes it", c->path, said, usual);
    if (json_is_false(member(rope, "truncate")))
        return lq_fail(LQ_EUNSUPPORTED, "%s: rope type yarn: truncate is false, llama.cpp "
                       "truncates", c->path);
    for (int i = 0; i < LQ_ARRAY_LEN(others); i++)
        if (member(rope, others[i]))
            return lq_fail(LQ_EUNSUPPORTED, "%s: rope type yarn: %s is not supported", c->path,
                           others[i]);
    return LQ_OK;
}

static lq_status write_yarn(const lq_hf_config *c, const lq_hf_family *f, lq_gguf_writer *w) {
    static const struct { const char *names, *key; } more[] = {
        {"extrapolation_factor", "rope.scaling.yarn_ext_factor"},
        {"attention_factor", "rope.scaling.yarn_attn_factor"},
        {"beta_fast", "rope.scaling.yarn_beta_fast"},
        {"beta_slow", "rope.scaling.yarn_beta_slow"}};
    static const char original[] = "original_max_position_embeddings";
    const double context = number(global(c), original, 0);
    if (!(context >= 1 && context <= UINT32_MAX))
        return lq_fail(LQ_EFORMAT, "%s: rope type yarn needs %s, a whole number from 1 on", c->path,
                       original);
    LQ_TRY(check_yarn(c, number(global(c), "factor", 1)));
    LQ_TRY(lq_hf_set_u32(w, f, "rope.scaling.original_context_length", (int64_t)context));
    for (int i = 0; i < LQ_ARRAY_LEN(more); i++)
        if (json_is_number(member(global(c), more[i].names)))
            LQ_TRY(lq_hf_set_f32(w, f, more[i].key, number(global(c), more[i].names, 0)));
    return LQ_OK;
}

static lq_status write_scaling(const lq_hf_config *c, const lq_hf_family *f, lq_gguf_writer *w) {
    static const char *const plain[] = {"default", "llama3"};   /* llama3: a tensor */
    const char *type = type_of(global(c));
    char key[64];
    for (int i = 0; i < LQ_ARRAY_LEN(plain); i++)
        if (!type || strcmp(type, plain[i]) == 0) return LQ_OK;
    const double factor = number(global(c), "factor", 0);
    const bool yarn = strcmp(type, "yarn") == 0;
    if ((!yarn && strcmp(type, "linear") != 0) || factor <= 0)
        return lq_fail(LQ_EUNSUPPORTED, "%s: rope type '%s' is not supported for architecture %s; "
                       "supported: default, linear and yarn (with a factor), llama3", c->path, type,
                       f->arch);
    snprintf(key, sizeof key, "%s.rope.scaling.type", f->arch);
    LQ_TRY(lq_gguf_writer_set_string(w, key, type));
    LQ_TRY(lq_hf_set_f32(w, f, "rope.scaling.factor", factor));
    return yarn ? write_yarn(c, f, w) : LQ_OK;
}

lq_status lq_hf_rope_write(const lq_hf_config *c, const lq_hf_family *f, lq_gguf_writer *w) {
    LQ_TRY(write_scaling(c, f, w));
    if (theta(c) > 0) LQ_TRY(lq_hf_set_f32(w, f, "rope.freq_base", theta(c)));
    if (local_theta(c) > 0) LQ_TRY(lq_hf_set_f32(w, f, "rope.freq_base_swa", local_theta(c)));
    return LQ_OK;
}

lq_status lq_hf_theta_write(const lq_hf_config *c, const lq_hf_family *f, lq_gguf_writer *w) {
    const double usual = 10000;
    LQ_TRY(write_scaling(c, f, w));
    return theta(c) > 0 && theta(c) != usual ? lq_hf_set_f32(w, f, "rope.freq_base", theta(c))
                                             : LQ_OK;
}

typedef struct llama3 { double factor, low, high, context; } llama3;

/* What a pair's frequency is divided by: nothing for short waves, `factor` for long ones. In float
 * where the reference is. */
static float pair_factor(const llama3 *r, float frequency) {
    const float wave = (float)(2 * pi) / frequency;
    if (wave < (float)(r->context / r->high)) return 1;
    if (wave > (float)(r->context / r->low)) return (float)r->factor;
    const float smooth =
        ((float)r->context / wave - (float)r->low) / (float)(r->high - r->low);
    return 1 / ((1 - smooth) / (float)r->factor + smooth);
}

lq_status lq_hf_rope_factors(float **out, int64_t *n, const lq_hf_config *c) {
    const json_t *rope = global(c);
    const char *type = type_of(rope);
    int64_t dim = lq_hf_config_int(c, "head_dim");
    *out = NULL;
    *n = 0;
    if (!type || strcmp(type, "llama3") != 0) return LQ_OK;
    if (!dim && c->n_head) dim = lq_hf_config_int(c, "hidden_size") / c->n_head;
    const llama3 r = {number(rope, "factor", 8), number(rope, "low_freq_factor", 1),
                      number(rope, "high_freq_factor", 4),
                      number(rope, "original_max_position_embeddings", 8192)};
    if (!(r.factor > 0 && r.low > 0 && r.high > r.low && r.context > 0 && theta(c) > 0))
        return lq_fail(LQ_EFORMAT, "%s: rope type llama3 needs positive numbers factor, "
                       "low_freq_factor < high_freq_factor, original_max_position_embeddings and "
                       "rope_theta", c->path);
    *n = dim / 2;
    *out = lq_alloc_array(*n, sizeof **out);
    if (!*out) return LQ_EMEM;
    for (int64_t i = 0; i < *n; i++)
        (*out)[i] = pair_factor(
            &r, 1 / powf((float)theta(c), (float)(2 * i) / (float)dim));
    return LQ_OK;
}

/* ---- phi3 ------------------------------------------------------------------------------------ */

/* A number in the rope parameters, else in the root; 0: in neither. */
static double anywhere(const lq_hf_config *c, const char *name) {
    const double said = number(global(c), name, 0);
    return said > 0 ? said : json_number_value(lq_hf_config_get(c, name));
}

int64_t lq_hf_rotated(const lq_hf_config *c) {
    const double share = anywhere(c, "partial_rotary_factor");
    const int64_t width = lq_hf_config_int(c, "hidden_size n_embd");
    if (!c->n_head) return 0;
    return (int64_t)((share > 0 ? share : 1) * (double)width) / c->n_head;
}

lq_status lq_hf_rope_list(float **out, int64_t *n, const lq_hf_config *c, const char *name) {
    size_t i;
    json_t *factor;
    const json_t *list = member(global(c), name);
    *out = NULL;
    *n = (int64_t)json_array_size(list);
    if (!*n) return LQ_OK;
    if (*n != lq_hf_rotated(c) / 2)
        return lq_fail(LQ_EFORMAT, "%s: %s has %lld numbers, must have one for each of the %lld "
                       "rotated pairs", c->path, name, (long long)*n,
                       (long long)lq_hf_rotated(c) / 2);
    *out = lq_alloc_array(*n, sizeof **out);
    if (!*out) return LQ_EMEM;
    json_array_foreach(list, i, factor) (*out)[i] = (float)json_number_value(factor);
    return LQ_OK;
}

lq_status lq_hf_longrope_write(const lq_hf_config *c, const lq_hf_family *f, lq_gguf_writer *w) {
    static const char *const known[] = {"default", "longrope", "su"};
    const char *type = type_of(global(c));
    const double context = (double)lq_hf_config_int(c, "n_positions max_position_embeddings");
    double original = anywhere(c, "original_max_position_embeddings");
    bool ok = !type;
    for (int i = 0; type && i < LQ_ARRAY_LEN(known); i++) ok |= strcmp(type, known[i]) == 0;
    if (!ok)
        return lq_fail(LQ_EUNSUPPORTED, "%s: rope type '%s' is not supported for architecture %s; "
                       "supported: default, longrope", c->path, type, f->arch);
    if (original <= 0) original = context;
    LQ_TRY(lq_hf_set_u32(w, f, "rope.scaling.original_context_length", (int64_t)original));
    LQ_TRY(lq_hf_set_u32(w, f, "rope.dimension_count", lq_hf_rotated(c)));
    if (theta(c) > 0) LQ_TRY(lq_hf_set_f32(w, f, "rope.freq_base", theta(c)));
    if (!json_array_size(member(global(c), "long_factor"))) return LQ_OK;
    const double scale = context / original;
    const double attention = scale > 1 ? sqrt(1 + log(scale) / log(original)) : 1;
    return lq_hf_set_f32(w, f, "rope.scaling.attn_factor", attention);
}
