/* The table of architectures. Facts: llama.cpp's src/models/<name>.cpp (tensors, shapes, rotary
 * pairs), gguf-py's tensor_mapping.py (names). */
#include "model_parts.h"

#include "str.h"

#include <string.h>

#define ONCE(role_, gguf_name, hf_module, rows_, cols_, is_optional) \
    {.role = LQ_ROLE_##role_, .gguf = gguf_name, .module = hf_module, .rows = LQ_DIM_##rows_, \
     .cols = LQ_DIM_##cols_, .optional = is_optional}
#define EACH(role_, gguf_name, hf_module, rows_, cols_, has_bias) \
    EACH_IF(ALWAYS, role_, gguf_name, hf_module, rows_, cols_, has_bias, false)
#define EACH_IF(when_, role_, gguf_name, hf_module, rows_, cols_, has_bias, is_stacked) \
    {.role = LQ_ROLE_##role_, .gguf = "blk.#." gguf_name, .module = "model.layers.#." hf_module, \
     .rows = LQ_DIM_##rows_, .cols = LQ_DIM_##cols_, .bias = has_bias, .when = LQ_##when_, \
     .stacked = is_stacked}

/* In any tree, with a bias where the file has one. */
#define REQUIRED false
#define OPTIONAL true
#define AT(role_, gguf_name, hf_module, rows_, cols_, is_optional) \
    {.role = LQ_ROLE_##role_, .gguf = gguf_name, .module = hf_module, .rows = LQ_DIM_##rows_, \
     .cols = LQ_DIM_##cols_, .optional = is_optional, .bias = true}

#define EMBEDDING_AND_HEAD_OF(embedding, last_norm, head) \
    ONCE(TOKEN_EMBD, "token_embd", embedding, VOCAB, EMBD, false), \
    AT(OUTPUT_NORM, "output_norm", last_norm, ONE, EMBD, REQUIRED), \
    ONCE(OUTPUT, "output", head, VOCAB, EMBD, true)
#define TIED_EMBEDDING \
    ONCE(TOKEN_EMBD, "token_embd", "model.embed_tokens", VOCAB, EMBD, false), \
    ONCE(OUTPUT_NORM, "output_norm", "model.norm", ONE, EMBD, false)
#define EMBEDDING_AND_HEAD \
    TIED_EMBEDDING, ONCE(OUTPUT, "output", "lm_head", VOCAB, EMBD, true)
#define NORMS \
    EACH(ATTN_NORM, "attn_norm", "input_layernorm", ONE, EMBD, false), \
    EACH(FFN_NORM, "ffn_norm", "post_attention_layernorm", ONE, EMBD, false)
#define QKV(bias) \
    EACH(ATTN_Q, "attn_q", "self_attn.q_proj", Q, EMBD, bias), \
    EACH(ATTN_K, "attn_k", "self_attn.k_proj", KV, EMBD, bias), \
    EACH(ATTN_V, "attn_v", "self_attn.v_proj", KV, EMBD, bias)
#define QK_NORMS \
    EACH(ATTN_Q_NORM, "attn_q_norm", "self_attn.q_norm", ONE, HEAD, false), \
    EACH(ATTN_K_NORM, "attn_k_norm", "self_attn.k_norm", ONE, HEAD, false)
#define ATTN_OUTPUT(bias) EACH(ATTN_OUTPUT, "attn_output", "self_attn.o_proj", EMBD, Q, bias)
#define GATED_FFN(bias) \
    EACH_IF(IF_DENSE, FFN_GATE, "ffn_gate", "mlp.gate_proj", FF, EMBD, bias, false), \
    EACH_IF(IF_DENSE, FFN_UP, "ffn_up", "mlp.up_proj", FF, EMBD, bias, false), \
    EACH_IF(IF_DENSE, FFN_DOWN, "ffn_down", "mlp.down_proj", EMBD, FF, bias, false)
#define EXPERTS \
    EACH_IF(IF_EXPERTS, ROUTER, "ffn_gate_inp", "mlp.gate", EXPERTS, EMBD, false, false), \
    EACH_IF(IF_EXPERTS, EXPERTS_GATE, "ffn_gate_exps", "mlp.experts.gate_proj", FF_EXPERT, EMBD, \
            false, true), \
    EACH_IF(IF_EXPERTS, EXPERTS_UP, "ffn_up_exps", "mlp.experts.up_proj", FF_EXPERT, EMBD, false, \
            true), \
    EACH_IF(IF_EXPERTS, EXPERTS_DOWN, "ffn_down_exps", "mlp.experts.down_proj", EMBD, FF_EXPERT, \
            false, true)
#define SHARED_EXPERT \
    EACH(SHARED_ROUTER, "ffn_gate_inp_shexp", "mlp.shared_expert_gate", ONE, EMBD, false), \
    EACH(SHARED_GATE, "ffn_gate_shexp", "mlp.shared_expert.gate_proj", FF_SHARED, EMBD, false), \
    EACH(SHARED_UP, "ffn_up_shexp", "mlp.shared_expert.up_proj", FF_SHARED, EMBD, false), \
    EACH(SHARED_DOWN, "ffn_down_shexp", "mlp.shared_expert.down_proj", EMBD, FF_SHARED, false)

static const lq_slot llama[] = {
    EMBEDDING_AND_HEAD, NORMS, QKV(true), ATTN_OUTPUT(true), GATED_FFN(true), EXPERTS,
    ONCE(ROPE_FREQS, "rope_freqs", "model.rotary_emb", ONE, HALF_ROT, true),
};

static const lq_slot qwen2[] = {
    EMBEDDING_AND_HEAD, NORMS, QKV(true), ATTN_OUTPUT(false), GATED_FFN(false),
};

static const lq_slot qwen3[] = {
    EMBEDDING_AND_HEAD, NORMS, QKV(false), QK_NORMS, ATTN_OUTPUT(false), GATED_FFN(false),
};

static const lq_slot qwen2moe[] = {
    EMBEDDING_AND_HEAD, NORMS, QKV(true), ATTN_OUTPUT(false), EXPERTS, SHARED_EXPERT,
};

static const lq_slot qwen3moe[] = {
    EMBEDDING_AND_HEAD, NORMS, QKV(false), QK_NORMS, ATTN_OUTPUT(false), EXPERTS,
};

/* Norms before and after both halves; HF's post_attention_layernorm is after the attention here. */
#define SANDWICH_NORMS \
    EACH(ATTN_NORM, "attn_norm", "input_layernorm", ONE, EMBD, false), \
    EACH(ATTN_POST_NORM, "post_attention_norm", "post_attention_layernorm", ONE, EMBD, false), \
    EACH(FFN_NORM, "ffn_norm", "pre_feedforward_layernorm", ONE, EMBD, false), \
    EACH(FFN_POST_NORM, "post_ffw_norm", "post_feedforward_layernorm", ONE, EMBD, false)

static const lq_slot gemma[] = {TIED_EMBEDDING, NORMS, QKV(false), ATTN_OUTPUT(false),
                                GATED_FFN(false)};

static const lq_slot gemma2[] = {TIED_EMBEDDING, SANDWICH_NORMS, QKV(false), ATTN_OUTPUT(false),
                                 GATED_FFN(false)};

static const lq_slot gemma3[] = {EMBEDDING_AND_HEAD, SANDWICH_NORMS, QKV(false), QK_NORMS,
                                 ATTN_OUTPUT(false), GATED_FFN(false)};

static const lq_slot phi3[] = {
    EMBEDDING_AND_HEAD, NORMS, EACH(ATTN_QKV, "attn_qkv", "self_attn.qkv_proj", QKV, EMBD, false),
    ATTN_OUTPUT(false), EACH(FFN_GATE_UP, "ffn_up", "mlp.gate_up_proj", GATE_UP, EMBD, false),
    EACH(FFN_DOWN, "ffn_down", "mlp.down_proj", EMBD, FF, false),
    ONCE(ROPE_LONG, "rope_factors_long", "model.rotary_emb", ONE, HALF_ROT, true),
    ONCE(ROPE_SHORT, "rope_factors_short", "model.rotary_emb", ONE, HALF_ROT, true),
};

static const lq_slot smollm3[] = {
    EMBEDDING_AND_HEAD, NORMS, QKV(true), ATTN_OUTPUT(true), GATED_FFN(true),
};

static const lq_slot olmo2[] = {
    EMBEDDING_AND_HEAD, QKV(false), ATTN_OUTPUT(false), GATED_FFN(false),
    EACH(ATTN_Q_NORM, "attn_q_norm", "self_attn.q_norm", ONE, Q, false),
    EACH(ATTN_K_NORM, "attn_k_norm", "self_attn.k_norm", ONE, KV, false),
    EACH(ATTN_POST_NORM, "post_attention_norm", "post_attention_layernorm", ONE, EMBD, false),
    EACH(FFN_POST_NORM, "post_ffw_norm", "post_feedforward_layernorm", ONE, EMBD, false),
};

static const lq_slot granite[] = {
    EMBEDDING_AND_HEAD, NORMS, QKV(true), ATTN_OUTPUT(true), GATED_FFN(true),
};

static const lq_slot stablelm[] = {
    EMBEDDING_AND_HEAD_OF("model.embed_tokens", "model.norm", "lm_head"),
    EACH(ATTN_NORM, "attn_norm", "input_layernorm", ONE, EMBD, true),
    AT(FFN_NORM, "blk.#.ffn_norm", "model.layers.#.post_attention_layernorm", ONE, EMBD, OPTIONAL),
    QKV(true), ATTN_OUTPUT(false), GATED_FFN(false),
};

static const lq_slot falcon[] = {
    EMBEDDING_AND_HEAD_OF("transformer.word_embeddings", "transformer.ln_f", "lm_head"),
    AT(ATTN_NORM, "blk.#.attn_norm", "transformer.h.#.input_layernorm", ONE, EMBD, REQUIRED),
    AT(ATTN_NORM_2, "blk.#.attn_norm_2", "transformer.h.#.ln_attn", ONE, EMBD, OPTIONAL),
    AT(ATTN_QKV, "blk.#.attn_qkv", "transformer.h.#.self_attention.query_key_value", QKV, EMBD,
       REQUIRED),
    AT(ATTN_OUTPUT, "blk.#.attn_output", "transformer.h.#.self_attention.dense", EMBD, Q, REQUIRED),
    AT(FFN_UP, "blk.#.ffn_up", "transformer.h.#.mlp.dense_h_to_4h", FF, EMBD, REQUIRED),
    AT(FFN_DOWN, "blk.#.ffn_down", "transformer.h.#.mlp.dense_4h_to_h", EMBD, FF, REQUIRED),
};

static const lq_slot mpt[] = {
    EMBEDDING_AND_HEAD_OF("transformer.wte", "transformer.norm_f", "lm_head"),
    ONCE(POSITION_EMBD, "position_embd", "transformer.wpe", CTX, EMBD, true),
    AT(ATTN_NORM, "blk.#.attn_norm", "transformer.blocks.#.norm_1", ONE, EMBD, REQUIRED),
    AT(ATTN_QKV, "blk.#.attn_qkv", "transformer.blocks.#.attn.Wqkv", QKV, EMBD, REQUIRED),
    AT(ATTN_Q_NORM, "blk.#.attn_q_norm", "transformer.blocks.#.attn.q_ln", ONE, Q, OPTIONAL),
    AT(ATTN_K_NORM, "blk.#.attn_k_norm", "transformer.blocks.#.attn.k_ln", ONE, KV, OPTIONAL),
    AT(ATTN_OUTPUT, "blk.#.attn_output", "transformer.blocks.#.attn.out_proj", EMBD, Q, REQUIRED),
    AT(FFN_NORM, "blk.#.ffn_norm", "transformer.blocks.#.norm_2", ONE, EMBD, REQUIRED),
    AT(FFN_UP, "blk.#.ffn_up", "transformer.blocks.#.ffn.up_proj", FF, EMBD, REQUIRED),
    AT(FFN_DOWN, "blk.#.ffn_down", "transformer.blocks.#.ffn.down_proj", EMBD, FF, REQUIRED),
};

static const lq_slot gpt2[] = {
    EMBEDDING_AND_HEAD_OF("transformer.wte", "transformer.ln_f", "lm_head"),
    ONCE(POSITION_EMBD, "position_embd", "transformer.wpe", CTX, EMBD, false),
    AT(ATTN_NORM, "blk.#.attn_norm", "transformer.h.#.ln_1", ONE, EMBD, REQUIRED),
    AT(ATTN_QKV, "blk.#.attn_qkv", "transformer.h.#.attn.c_attn", QKV, EMBD, REQUIRED),
    AT(ATTN_OUTPUT, "blk.#.attn_output", "transformer.h.#.attn.c_proj", EMBD, Q, REQUIRED),
    AT(FFN_NORM, "blk.#.ffn_norm", "transformer.h.#.ln_2", ONE, EMBD, REQUIRED),
    AT(FFN_UP, "blk.#.ffn_up", "transformer.h.#.mlp.c_fc", FF, EMBD, REQUIRED),
    AT(FFN_DOWN, "blk.#.ffn_down", "transformer.h.#.mlp.c_proj", EMBD, FF, REQUIRED),
};

#define ARCH(slots) .name = #slots, .slot = slots, .n_slots = LQ_ARRAY_LEN(slots)

static const lq_arch archs[] = {
    {ARCH(llama), .normalises_shares = true},
    {ARCH(qwen2), .neox = true},
    {ARCH(qwen3), .neox = true},
    {ARCH(qwen2moe), .neox = true},
    {ARCH(qwen3moe), .neox = true, .normalises_shares = true},
    {ARCH(gemma), .act = LQ_GELU_TANH, .neox = true, .scales_embedding = true},
    {ARCH(gemma2), .act = LQ_GELU_TANH, .neox = true, .scales_embedding = true, .local_period = 2,
     .window = 4096, .local_scales_rope = true, .attn_softcap = 50, .final_softcap = 30,
     .reads_final_softcap = true, .wide_query_layers = 46},
    {ARCH(gemma3), .act = LQ_GELU_TANH, .neox = true, .scales_embedding = true, .local_period = 6,
     .local_freq_base = 10000, .reads_final_softcap = true, .wide_query_layers = 62},
    {ARCH(phi3), .neox = true, .partial_rotary = true},
    {ARCH(smollm3), .rope_period = 4},
    {ARCH(olmo2), .neox = true, .local_period = 4},
    {ARCH(granite), .granite_scales = true},
    {ARCH(stablelm), .neox = true, .layer_norm = true, .partial_rotary = true},
    {ARCH(falcon), .act = LQ_GELU, .neox = true, .layer_norm = true},
    {ARCH(mpt), .act = LQ_GELU, .layer_norm = true, .no_rope = true, .alibi = true},
    {ARCH(gpt2), .act = LQ_GELU_TANH, .layer_norm = true, .no_rope = true},
};

lq_status lq_arch_find(const lq_arch **out, const char *name) {
    for (int i = 0; i < LQ_ARRAY_LEN(archs); i++) {
        if (strcmp(archs[i].name, name) != 0) continue;
        *out = &archs[i];
        return LQ_OK;
    }
    const char *needs = lq_arch_needs(name);
    lq_str names = LQ_STR_INIT;
    for (int i = 0; i < LQ_ARRAY_LEN(archs); i++)
        lq_str_printf(&names, "%s%s", i ? ", " : "", archs[i].name);
    lq_status status = lq_str_status(&names);
    if (status == LQ_OK)
        status = lq_fail(LQ_EUNSUPPORTED,
                         "architecture '%s' is not supported yet%s%s; supported: %s", name,
                         needs ? "; it would need " : "", needs ? needs : "", lq_str_text(&names));
    lq_str_clear(&names);
    return status;
}

bool lq_arch_has_tensor(const char *gguf) {
    for (int i = 0; i < LQ_ARRAY_LEN(archs); i++)
        for (int k = 0; k < archs[i].n_slots; k++)
            if (strcmp(archs[i].slot[k].gguf, gguf) == 0) return true;
    return false;
}
