/* Falcon and MPT: classes whose config.json has names of its own and asks for more than their
 * GGUF architectures do; what these would compute differently is refused by name. */
#include "hf_parts.h"

#include "arch.h"

#include <string.h>

enum { ALIBI_MAX = 8 };   /* transformers' MPT has no other */

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

/* The new decoder is where keys are grouped, or attention has a norm of its own. */
void lq_hf_say_falcon(json_t *root, const lq_model *m) {
    const int64_t heads = m->hp.n_head, groups = m->hp.n_head_kv;
    const bool two_norms = lq_model_find(m, LQ_ROLE_ATTN_NORM_2, 0, false) >= 0;
    const bool grouped = two_norms || (groups > 1 && groups < heads);
    json_object_set(root, "activation", json_object_get(root, "hidden_act"));
    json_object_set_new(root, "new_decoder_architecture", json_boolean(grouped));
    json_object_set_new(root, "multi_query", json_boolean(groups == 1));
    json_object_set_new(root, "num_kv_heads", json_integer(groups));
    json_object_set_new(root, "num_ln_in_parallel_attn", json_integer(two_norms ? 2 : 1));
    json_object_set_new(root, "parallel_attn", json_true());
    json_object_set_new(root, "alibi", json_false());
    json_object_set_new(root, "bias",
                        json_boolean(lq_model_find(m, LQ_ROLE_ATTN_QKV, 0, true) >= 0));
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

void lq_hf_say_mpt(json_t *root, const lq_model *m) {
    json_t *attention = json_pack("{s:s, s:b, s:i}", "attn_type", "multihead_attention", "alibi", 1,
                                  "alibi_bias_max", ALIBI_MAX);
    if (m->hp.clamp_qkv > 0)
        json_object_set_new(attention, "clip_qkv", json_real((double)m->hp.clamp_qkv));
    json_object_set_new(root, "attn_config", attention);
    json_object_set_new(root, "expansion_ratio", json_integer(4));
    json_object_set_new(root, "no_bias", json_true());
}

lq_status lq_hf_check_mpt(const lq_model *m) {
    static const lq_role unknown[] = {LQ_ROLE_POSITION_EMBD, LQ_ROLE_ATTN_Q_NORM,
                                      LQ_ROLE_ATTN_K_NORM};
    const char *found = NULL;
    for (int i = 0; i < m->n_weights; i++) {
        if (m->weight[i].is_bias) found = "biases";
        for (int k = 0; k < LQ_ARRAY_LEN(unknown); k++)
            if (m->weight[i].role == unknown[k]) found = m->weight[i].name;
    }
    if (m->hp.n_head_kv != m->hp.n_head) found = "grouped keys";
    if (m->hp.alibi != ALIBI_MAX) found = "another ALiBi bias than 8";
    if (!found) return LQ_OK;
    return lq_fail(LQ_EUNSUPPORTED, "the model has %s, transformers' MPT has not", found);
}
