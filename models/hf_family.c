/* The table of Hugging Face classes: which architecture of GGUF each is, which numbers of its
 * config.json become which keys, and where its weights lie differently. Facts: llama.cpp's
 * conversion/<family>.py. */
#include "hf_parts.h"

#include "arch.h"
#include "str.h"

#include <string.h>

#define U32 LQ_GGUF_U32
#define F32 LQ_GGUF_F32

/* Most families. */
static const lq_hf_key common[] = {
    {"block_count", U32, "num_hidden_layers n_layers n_layer num_layers", true, 0},
    {"context_length", U32, "max_position_embeddings n_ctx n_positions max_length "
     "max_sequence_length model_max_length", true, 0},
    {"embedding_length", U32, "hidden_size n_embd dim", true, 0},
    {"feed_forward_length", U32, "intermediate_size n_inner hidden_dim", true, 0},
    {"attention.head_count", U32, "num_attention_heads n_head n_heads", true, 0},
    {"attention.head_count_kv", U32, "num_key_value_heads n_kv_heads", false, 0},
    {"attention.layer_norm_rms_epsilon", F32, "rms_norm_eps norm_eps", true, 0},
    {"expert_count", U32, "num_local_experts num_experts n_routed_experts", false, 0},
    {"expert_used_count", U32, "num_experts_per_tok num_experts_per_token", false, 0},
    {"attention.key_length", U32, "head_dim", false, 0},
    {"attention.value_length", U32, "head_dim", false, 0},
};

/* The sizes of the families that use transformers' own names alone; the order is the file's. */
#define SIZES \
    {"block_count", U32, "num_hidden_layers", true, 0}, \
    {"context_length", U32, "max_position_embeddings", true, 0}, \
    {"embedding_length", U32, "hidden_size", true, 0}, \
    {"feed_forward_length", U32, "intermediate_size", true, 0}, \
    {"attention.head_count", U32, "num_attention_heads", true, 0}, \
    {"attention.head_count_kv", U32, "num_key_value_heads", false, 0}, \
    {"attention.layer_norm_rms_epsilon", F32, "rms_norm_eps", true, 0}

static const lq_hf_key qwen_moe[] = {
    SIZES,
    {"expert_count", U32, "num_experts num_local_experts", true, 0},
    {"expert_used_count", U32, "num_experts_per_tok", true, 0},
    {"expert_feed_forward_length", U32, "moe_intermediate_size", true, 0},
    {"expert_shared_feed_forward_length", U32, "shared_expert_intermediate_size", false, 0},
    {"attention.key_length", U32, "head_dim", false, 0},
    {"attention.value_length", U32, "head_dim", false, 0},
};

/* Without the size of a head: Granite has none of its own. */
static const lq_hf_key granite[] = {
    SIZES,
    {"attention.scale", F32, "attention_multiplier", false, 0},
    {"embedding_scale", F32, "embedding_multiplier", false, 0},
    {"residual_scale", F32, "residual_multiplier", false, 0},
    {"logit_scale", F32, "logits_scaling", false, 0},
};

static const lq_hf_key phi3[] = {
    {"context_length", U32, "max_position_embeddings n_positions", true, 0},
    {"embedding_length", U32, "hidden_size n_embd", true, 0},
    {"feed_forward_length", U32, "intermediate_size", true, 0},
    {"block_count", U32, "num_hidden_layers", true, 0},
    {"attention.head_count", U32, "num_attention_heads n_head", true, 0},
    {"attention.head_count_kv", U32, "num_key_value_heads n_head_kv", true, 0},
    {"attention.layer_norm_rms_epsilon", F32, "rms_norm_eps", true, 0},
};

static const lq_hf_key stablelm[] = {
    {"context_length", U32, "max_position_embeddings", true, 0},
    {"embedding_length", U32, "hidden_size", true, 0},
    {"block_count", U32, "num_hidden_layers", true, 0},
    {"feed_forward_length", U32, "intermediate_size", true, 0},
    {"attention.head_count", U32, "num_attention_heads", true, 0},
    {"attention.head_count_kv", U32, "num_key_value_heads", true, 0},
    {"attention.layer_norm_epsilon", F32, "layer_norm_eps norm_eps", true, 0},
};

static const lq_hf_key gpt2[] = {
    {"block_count", U32, "n_layer num_hidden_layers", true, 0},
    {"context_length", U32, "n_ctx n_positions", true, 0},
    {"embedding_length", U32, "n_embd hidden_size", true, 0},
    {"attention.head_count", U32, "n_head num_attention_heads", true, 0},
    {"attention.layer_norm_epsilon", F32, "layer_norm_epsilon", true, 0},
};

static const lq_hf_key falcon[] = {
    {"embedding_length", U32, "hidden_size", true, 0},
    {"block_count", U32, "num_hidden_layers n_layer", true, 0},
    {"attention.head_count", U32, "num_attention_heads n_head", true, 0},
    {"attention.layer_norm_epsilon", F32, "layer_norm_epsilon", true, 0},
};

static const lq_hf_key mpt[] = {
    {"context_length", U32, "max_seq_len", true, 0},
    {"embedding_length", U32, "d_model", true, 0},
    {"block_count", U32, "n_layers", true, 0},
    {"attention.head_count", U32, "n_heads", true, 0},
};

#define GEMMA_SIZES \
    {"context_length", U32, "max_position_embeddings", true, 0}, \
    {"embedding_length", U32, "hidden_size", true, 0}, \
    {"block_count", U32, "num_hidden_layers", true, 0}, \
    {"feed_forward_length", U32, "intermediate_size", true, 0}, \
    {"attention.head_count", U32, "num_attention_heads", true, 0}, \
    {"attention.head_count_kv", U32, "num_key_value_heads num_attention_heads", true, 0}, \
    {"attention.layer_norm_rms_epsilon", F32, "rms_norm_eps", true, 0}, \
    {"attention.key_length", U32, "head_dim", true, 0}, \
    {"attention.value_length", U32, "head_dim", true, 0}

static const lq_hf_key gemma[] = {GEMMA_SIZES};

static const lq_hf_key gemma2[] = {
    GEMMA_SIZES,
    {"attn_logit_softcapping", F32, "attn_logit_softcapping", true, 0},
    {"final_logit_softcapping", F32, "final_logit_softcapping", true, 0},
    {"attention.sliding_window", U32, "sliding_window", true, 0},
};

static const lq_hf_key gemma3[] = {
    {"block_count", U32, "num_hidden_layers", true, 0},
    {"context_length", U32, "max_position_embeddings", false, 131072},
    {"embedding_length", U32, "hidden_size", true, 0},
    {"feed_forward_length", U32, "intermediate_size", true, 0},
    {"attention.head_count", U32, "num_attention_heads", false, 8},
    {"attention.head_count_kv", U32, "num_key_value_heads", false, 4},
    {"attention.layer_norm_rms_epsilon", F32, "rms_norm_eps", false, 1e-6},
    {"attention.key_length", U32, "head_dim", false, 256},
    {"attention.value_length", U32, "head_dim", false, 256},
    {"final_logit_softcapping", F32, "final_logit_softcapping", false, 0},
    {"attention.sliding_window", U32, "sliding_window", true, 0},
};

static lq_status llama_keys(const lq_hf_config *c, const lq_hf_family *f, lq_gguf_writer *w) {
    int64_t rotated = lq_hf_config_int(c, "head_dim");
    if (!rotated && c->n_head) rotated = lq_hf_config_int(c, "hidden_size") / c->n_head;
    LQ_TRY(lq_hf_set_u32(w, f, "vocab_size", lq_hf_config_int(c, "vocab_size")));
    LQ_TRY(lq_hf_set_u32(w, f, "rope.dimension_count", rotated));
    return lq_hf_rope_write(c, f, w);
}

static lq_status rope_keys(const lq_hf_config *c, const lq_hf_family *f, lq_gguf_writer *w) {
    return lq_hf_rope_write(c, f, w);
}

/* The pattern is not a key of GGUF's: every `period`-th layer is global. */
static lq_status check_pattern(const lq_hf_config *c, size_t period) {
    size_t i;
    json_t *type;
    json_array_foreach(lq_hf_config_get(c, "layer_types"), i, type) {
        const char *want = (i + 1) % period ? "sliding_attention" : "full_attention";
        const char *found = json_string_value(type);
        if (!found || strcmp(found, want) != 0)
            return lq_fail(LQ_EUNSUPPORTED, "%s: layer_types: layer %zu is %s, must be %s: other "
                           "patterns than one global layer in %zu are not supported", c->path, i,
                           found ? found : "no text", want, period);
    }
    return LQ_OK;
}

static lq_status gemma2_keys(const lq_hf_config *c, const lq_hf_family *f, lq_gguf_writer *w) {
    LQ_TRY(check_pattern(c, 2));
    return lq_hf_theta_write(c, f, w);
}

static lq_status gemma3_keys(const lq_hf_config *c, const lq_hf_family *f, lq_gguf_writer *w) {
    LQ_TRY(check_pattern(c, 6));
    LQ_TRY(lq_hf_set_f32(w, f, "rope.freq_base", 1e6));   /* unless the next says otherwise */
    return lq_hf_rope_write(c, f, w);
}

/* ---- experts --------------------------------------------------------------------------------- */

/* Which experts' shares are normalised is the architecture's, not a key. */
static lq_status check_experts(const lq_hf_config *c, bool normalised) {
    const json_t *said = lq_hf_config_get(c, "norm_topk_prob");
    if (json_is_true(said) != normalised)
        return lq_fail(LQ_EUNSUPPORTED, "%s: norm_topk_prob is %s, in this architecture it is %s",
                       c->path, normalised ? "false" : "true", normalised ? "true" : "false");
    if (lq_hf_config_int(c, "decoder_sparse_step") > 1 ||
        json_array_size(lq_hf_config_get(c, "mlp_only_layers")) > 0)
        return lq_fail(LQ_EUNSUPPORTED, "%s: layers without experts (decoder_sparse_step, "
                       "mlp_only_layers) are not supported", c->path);
    return LQ_OK;
}

static lq_status qwen2moe_keys(const lq_hf_config *c, const lq_hf_family *f, lq_gguf_writer *w) {
    LQ_TRY(check_experts(c, false));
    return lq_hf_rope_write(c, f, w);
}

static lq_status qwen3moe_keys(const lq_hf_config *c, const lq_hf_family *f, lq_gguf_writer *w) {
    LQ_TRY(check_experts(c, true));
    return lq_hf_rope_write(c, f, w);
}

/* ---- others ---------------------------------------------------------------------------------- */

/* One layer in four has no rotary positions; GGUF has no key for that. */
static lq_status smollm3_keys(const lq_hf_config *c, const lq_hf_family *f, lq_gguf_writer *w) {
    size_t i;
    json_t *rotates;
    json_array_foreach(lq_hf_config_get(c, "no_rope_layers"), i, rotates)
        if ((json_integer_value(rotates) == 0) != ((i + 1) % 4 == 0))
            return lq_fail(LQ_EUNSUPPORTED, "%s: no_rope_layers: layer %zu differs from the "
                           "pattern of one layer in 4", c->path, i);
    return llama_keys(c, f, w);
}

static lq_status granite_keys(const lq_hf_config *c, const lq_hf_family *f, lq_gguf_writer *w) {
    const int64_t d = c->n_head ? lq_hf_config_int(c, "hidden_size") / c->n_head : 0;
    LQ_TRY(lq_hf_set_u32(w, f, "vocab_size", lq_hf_config_int(c, "vocab_size")));
    LQ_TRY(lq_hf_set_u32(w, f, "rope.dimension_count", d));
    return lq_hf_rope_write(c, f, w);
}

static lq_status phi3_keys(const lq_hf_config *c, const lq_hf_family *f, lq_gguf_writer *w) {
    LQ_TRY(lq_hf_set_u32(w, f, "attention.sliding_window", lq_hf_config_int(c, "sliding_window")));
    return lq_hf_longrope_write(c, f, w);
}

static lq_status stablelm_keys(const lq_hf_config *c, const lq_hf_family *f, lq_gguf_writer *w) {
    const json_t *parallel = lq_hf_config_get(c, "use_parallel_residual");
    LQ_TRY(lq_gguf_writer_set_bool(w, "stablelm.use_parallel_residual",
                                   !json_is_false(parallel)));
    LQ_TRY(lq_hf_theta_write(c, f, w));
    return lq_hf_set_u32(w, f, "rope.dimension_count", lq_hf_rotated(c));
}

static lq_status gpt2_keys(const lq_hf_config *c, const lq_hf_family *f, lq_gguf_writer *w) {
    const int64_t inner = lq_hf_config_int(c, "n_inner");
    const int64_t want = 4 * lq_hf_config_int(c, "n_embd hidden_size");
    if (inner && inner != want)
        return lq_fail(LQ_EUNSUPPORTED, "%s: n_inner is %lld, must be 4 n_embd = %lld", c->path,
                       (long long)inner, (long long)want);
    return lq_hf_set_u32(w, f, "feed_forward_length", want);
}

#define KEYS(list) .key = list, .n_keys = LQ_ARRAY_LEN(list)
#define LLAMA(name) {.class = name, .arch = "llama", .model_type = "llama", KEYS(common), \
                     .acts = "silu", .permuted = true, .more = llama_keys}

/* The first row of an architecture is the class that Loquat writes for it. */
static const lq_hf_family families[] = {
    LLAMA("LlamaForCausalLM"),
    LLAMA("LLaMAForCausalLM"),
    LLAMA("MistralForCausalLM"),
    {.class = "MixtralForCausalLM", .arch = "llama", .model_type = "mixtral", KEYS(common),
     .acts = "silu", .permuted = true, .mixture = true, .more = llama_keys},
    {.class = "Qwen2ForCausalLM", .arch = "qwen2", .model_type = "qwen2", KEYS(common),
     .acts = "silu", .more = rope_keys},
    {.class = "Qwen3ForCausalLM", .arch = "qwen3", .model_type = "qwen3", KEYS(common),
     .acts = "silu", .more = rope_keys},
    {.class = "Qwen2MoeForCausalLM", .arch = "qwen2moe", .model_type = "qwen2_moe", KEYS(qwen_moe),
     .acts = "silu", .more = qwen2moe_keys},
    {.class = "Qwen3MoeForCausalLM", .arch = "qwen3moe", .model_type = "qwen3_moe", KEYS(qwen_moe),
     .acts = "silu", .more = qwen3moe_keys},
    {.class = "SmolLM3ForCausalLM", .arch = "smollm3", .model_type = "smollm3", KEYS(common),
     .acts = "silu", .permuted = true, .more = smollm3_keys},
    {.class = "Phi3ForCausalLM", .arch = "phi3", .model_type = "phi3", KEYS(phi3), .acts = "silu",
     .more = phi3_keys},
    {.class = "Olmo2ForCausalLM", .arch = "olmo2", .model_type = "olmo2", KEYS(common),
     .acts = "silu", .more = rope_keys},
    {.class = "GraniteForCausalLM", .arch = "granite", .model_type = "granite", KEYS(granite),
     .acts = "silu", .permuted = true, .more = granite_keys},
    {.class = "StableLmForCausalLM", .arch = "stablelm", .model_type = "stablelm", KEYS(stablelm),
     .acts = "silu", .more = stablelm_keys},
    {.class = "GPT2LMHeadModel", .arch = "gpt2", .model_type = "gpt2", KEYS(gpt2),
     .acts = "gelu_new", .transposed = true, .more = gpt2_keys},
    {.class = "FalconForCausalLM", .arch = "falcon", .model_type = "falcon", KEYS(falcon),
     .acts = "gelu", .grouped = true, .more = lq_hf_falcon_keys},
    {.class = "MptForCausalLM", .arch = "mpt", .model_type = "mpt", KEYS(mpt), .acts = "gelu",
     .more = lq_hf_mpt_keys},
    {.class = "MPTForCausalLM", .arch = "mpt", KEYS(mpt), .acts = "gelu", .more = lq_hf_mpt_keys},
    {.class = "GemmaForCausalLM", .arch = "gemma", .model_type = "gemma", KEYS(gemma),
     .acts = "gelu_pytorch_tanh gelu_tanh gelu", .plus_one = true, .no_head = true,
     .more = lq_hf_theta_write},
    {.class = "Gemma2ForCausalLM", .arch = "gemma2", .model_type = "gemma2", KEYS(gemma2),
     .acts = "gelu_pytorch_tanh", .plus_one = true, .no_head = true, .more = gemma2_keys},
    {.class = "Gemma3ForCausalLM", .arch = "gemma3", .model_type = "gemma3_text", KEYS(gemma3),
     .acts = "gelu_pytorch_tanh", .plus_one = true, .more = gemma3_keys},
    {.class = "Gemma3ForConditionalGeneration", .arch = "gemma3", KEYS(gemma3),
     .acts = "gelu_pytorch_tanh", .plus_one = true, .more = gemma3_keys},
};

static lq_status unsupported(const lq_hf_config *c, const char *class) {
    lq_str names = LQ_STR_INIT;
    for (int i = 0; i < LQ_ARRAY_LEN(families); i++)
        lq_str_printf(&names, "%s%s", i ? ", " : "", families[i].class);
    lq_status status = lq_str_status(&names);
    if (status == LQ_OK)
        status = lq_fail(LQ_EUNSUPPORTED, "%s: architecture '%s' is not supported yet as a "
                         "directory; supported: %s", c->path, class, lq_str_text(&names));
    lq_str_clear(&names);
    return status;
}

lq_status lq_hf_find_family(const lq_hf_family **out, const lq_hf_config *c) {
    const char *class = json_string_value(json_array_get(lq_hf_config_get(c, "architectures"), 0));
    if (!class)
        return lq_fail(LQ_EFORMAT, "%s: architectures is missing, must name the model's class",
                       c->path);
    for (int i = 0; i < LQ_ARRAY_LEN(families); i++) {
        if (strcmp(families[i].class, class) != 0) continue;
        *out = &families[i];
        return LQ_OK;
    }
    return unsupported(c, class);
}

const lq_hf_family *lq_hf_family_of(const char *arch) {
    for (int i = 0; i < LQ_ARRAY_LEN(families); i++)
        if (strcmp(families[i].arch, arch) == 0) return &families[i];
    return NULL;
}

const lq_hf_family *lq_hf_family_for(const lq_model *m) {
    for (int i = 0; i < LQ_ARRAY_LEN(families); i++)
        if (families[i].mixture && m->hp.n_expert && strcmp(families[i].arch, m->arch->name) == 0)
            return &families[i];
    return lq_hf_family_of(m->arch->name);
}

const char *lq_hf_class(const char *arch) {
    const lq_hf_family *f = lq_hf_family_of(arch);
    return f ? f->class : NULL;
}
