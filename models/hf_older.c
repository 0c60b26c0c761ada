/* Falcon and MPT: classes whose config.json has names of its own and asks for more than their
 * GGUF architectures do; what these would compute differently is refused by name. */
#include "hf_parts.h"

#include <string.h>

static json_t *member(const json_t *object, const char *key) {
    json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

static lq_status refuse(const lq_hf_config *c, const lq_hf_family *f, const char *key,
                        const char *wanted) {
    return lq_fail(LQ_EUNSUPPORTED, "%s: %s: architecture %s has only %s", c->path, key, f->arch,
                   wanted);
}

/* ---- Falcon ---------------------------------------------------------------------------------- */

/* Only the new decoder groups its keys; the older one has one for all queries, whatever
 * num_kv_heads says, or one for each. */
int64_t lq_hf_falcon_groups(const lq_hf_config *c) {
    const bool grouped = json_is_true(lq_hf_config_get(c, "new_decoder_architecture"));
    const json_t *one = lq_hf_config_get(c, "multi_query");
    if (!grouped && !json_is_false(one)) return 1;
    const int64_t n = lq_hf_config_int(c, "num_kv_heads n_head_kv");
    return n ? n : c->n_head;
}

lq_status lq_hf_falcon_keys(const lq_hf_config *c, const lq_hf_family *f, lq_gguf_writer *w) {
    enum { CONTEXT = 2048 };   /* the trained one, which config.json does not have */
    static const float theta = 10000;
    const int64_t width = lq_hf_config_int(c, "hidden_size");
    const int64_t inner = lq_hf_config_int(c, "ffn_hidden_size");
    const json_t *said = lq_hf_config_get(c, "rope_theta");
    const bool grouped = json_is_true(lq_hf_config_get(c, "new_decoder_architecture"));
    if (json_is_true(lq_hf_config_get(c, "alibi")))
        return refuse(c, f, "alibi", "rotary positions");
    if (!grouped && json_is_false(lq_hf_config_get(c, "parallel_attn")))
        return refuse(c, f, "parallel_attn", "attention beside the feed-forward");
    if (inner && inner != 4 * width)
        return refuse(c, f, "ffn_hidden_size", "4 hidden_size");
    LQ_TRY(lq_gguf_writer_set_string(w, "falcon.tensor_data_layout", "jploski"));
    LQ_TRY(lq_hf_set_u32(w, f, "context_length", CONTEXT));
    LQ_TRY(lq_hf_set_u32(w, f, "feed_forward_length", 4 * width));
    LQ_TRY(lq_hf_set_u32(w, f, "attention.head_count_kv", lq_hf_falcon_groups(c)));
    if (!said) said = member(lq_hf_config_get(c, "rope_parameters"), "rope_theta");
    if (said && (float)json_number_value(said) == theta) return LQ_OK;   /* the key's default */
    return lq_hf_rope_write(c, f, w);
}

/* ---- MPT ------------------------------------------------------------------------------------- */

static lq_status refuse_mpt(const lq_hf_config *c, const lq_hf_family *f, const json_t *attention) {
    const json_t *ratio = lq_hf_config_get(c, "expansion_ratio");
    const json_t *scale = lq_hf_config_get(c, "logit_scale");
    if (ratio && json_number_value(ratio) != 4) return refuse(c, f, "expansion_ratio", "4");
    if (scale) return refuse(c, f, "logit_scale", "logits without a scale");
    if (member(attention, "softmax_scale"))
        return refuse(c, f, "attn_config.softmax_scale", "1 / sqrt(head size)");
    if (json_is_true(member(attention, "prefix_lm")))
        return refuse(c, f, "attn_config.prefix_lm", "causal attention");
    if (json_is_true(member(attention, "rope")))
        return refuse(c, f, "attn_config.rope", "ALiBi or learned positions");
    return LQ_OK;
}

lq_status lq_hf_mpt_keys(const lq_hf_config *c, const lq_hf_family *f, lq_gguf_writer *w) {
    static const double epsilon = 1e-5;   /* PyTorch's, which config.json need not have */
    const json_t *attention = lq_hf_config_get(c, "attn_config");
    const json_t *clip = member(attention, "clip_qkv");
    const json_t *alibi = member(attention, "alibi");
    const json_t *most = member(attention, "alibi_bias_max");
    const int64_t groups = json_integer_value(member(attention, "kv_n_heads"));
    LQ_TRY(refuse_mpt(c, f, attention));
    LQ_TRY(lq_hf_set_u32(w, f, "feed_forward_length", 4 * lq_hf_config_int(c, "d_model")));
    if (groups > 0) LQ_TRY(lq_hf_set_u32(w, f, "attention.head_count_kv", groups));
    LQ_TRY(lq_hf_set_f32(w, f, "attention.layer_norm_epsilon", epsilon));
    if (clip) LQ_TRY(lq_hf_set_f32(w, f, "attention.clamp_kqv", json_number_value(clip)));
    const double bias = json_is_false(alibi) ? 0 : most ? json_number_value(most) : 8;
    return lq_hf_set_f32(w, f, "attention.max_alibi_bias", bias);
}
