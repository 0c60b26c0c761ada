"""The families of make_tiny_families.py: configurations, GGUF metadata, and how each tensor of Hugging Face's is made
of those that llama.cpp stores. Everything goes from stored to Hugging Face, so gradients of stored tensors are
autograd's."""
import dataclasses
import math

import gguf
import torch
import transformers as hf

SHAPE = dict(vocab_size=24, hidden_size=12, intermediate_size=16, num_hidden_layers=2, max_position_embeddings=64,
             num_attention_heads=4, num_key_value_heads=2, attention_dropout=0.0, pad_token_id=None, bos_token_id=None,
             eos_token_id=None)
HEAD = SHAPE | dict(head_dim=4)
LLAMA3 = dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=32)


def rope(theta, **more):
    return dict(rope_type="default", rope_theta=theta, **more)


# ---- tensors: pattern of the name, stored names, Hugging Face's tensor from the stored ones ----

def same(c, x):
    return x


def minus_one(c, x):
    return x - 1


def half_split(heads):
    """Rows of rotary pairs (2i, 2i+1) to halves."""
    def restore(c, x):
        n = getattr(c, heads)
        return x.reshape(n, x.shape[0] // n // 2, 2, -1).swapaxes(1, 2).reshape(x.shape)
    return restore


def same_shape(c, shape):
    return [shape]


@dataclasses.dataclass
class Rule:
    pattern: str
    stored: str           # '#' is the layer; several names with spaces between
    restore: callable = same
    shapes: callable = same_shape


HEAD_RULE = [Rule(r"lm_head", "output")]
TOP = [Rule(r"model\.embed_tokens", "token_embd"), Rule(r"model\.norm", "output_norm")] + HEAD_RULE
NORMS = [Rule(r".*\.input_layernorm", "blk.#.attn_norm"), Rule(r".*\.post_attention_layernorm", "blk.#.ffn_norm")]
QKV = [Rule(rf".*\.{x}_proj", f"blk.#.attn_{x}") for x in "qkv"]
PERMUTED = [Rule(r".*\.q_proj", "blk.#.attn_q", half_split("num_attention_heads")),
            Rule(r".*\.k_proj", "blk.#.attn_k", half_split("num_key_value_heads")), QKV[2]]
QK_NORMS = [Rule(r".*\.q_norm", "blk.#.attn_q_norm"), Rule(r".*\.k_norm", "blk.#.attn_k_norm")]
OUT = [Rule(r".*\.o_proj", "blk.#.attn_output")]
FFN = [Rule(rf".*\.mlp\.{x}_proj", f"blk.#.ffn_{x}") for x in ("gate", "up", "down")]
SANDWICH = [Rule(r".*\.input_layernorm", "blk.#.attn_norm"),
            Rule(r".*\.post_attention_layernorm", "blk.#.post_attention_norm"),
            Rule(r".*\.pre_feedforward_layernorm", "blk.#.ffn_norm"),
            Rule(r".*\.post_feedforward_layernorm", "blk.#.post_ffw_norm")]


def shifted(rules):
    """Norms are stored as 1 + w."""
    return [Rule(r.pattern, r.stored, minus_one if "norm" in r.stored else r.restore) for r in rules]


# ---- metadata ----

def sizes(w, c):
    head_dim = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
    w.add_context_length(c.max_position_embeddings)
    w.add_embedding_length(c.hidden_size)
    w.add_block_count(c.num_hidden_layers)
    w.add_feed_forward_length(c.intermediate_size)
    w.add_head_count(c.num_attention_heads)
    w.add_head_count_kv(c.num_key_value_heads)
    w.add_key_length(head_dim)
    w.add_value_length(head_dim)
    if hasattr(c, "rms_norm_eps"):
        w.add_layer_norm_rms_eps(c.rms_norm_eps)


def rms_keys(w, c):
    sizes(w, c)
    rotary(w, c.rope_parameters)


def llama_keys(w, c):
    sizes(w, c)
    rotary(w, c.rope_parameters)
    w.add_rope_dimension_count(getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads)


def rotary(w, r):
    w.add_rope_freq_base(r["rope_theta"])
    if r["rope_type"] == "linear":
        w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        w.add_rope_scaling_factor(r["factor"])
    if r["rope_type"] == "yarn":
        w.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        w.add_rope_scaling_factor(r["factor"])
        w.add_rope_scaling_orig_ctx_len(r["original_max_position_embeddings"])


def gemma2_keys(w, c):
    sizes(w, c)
    w.add_attn_logit_softcapping(c.attn_logit_softcapping)
    w.add_final_logit_softcapping(c.final_logit_softcapping)
    w.add_sliding_window(c.sliding_window)


def gemma3_keys(w, c):
    sizes(w, c)
    rotary(w, c.rope_parameters["full_attention"])
    w.add_float32("gemma3.rope.freq_base_swa", c.rope_parameters["sliding_attention"]["rope_theta"])
    w.add_sliding_window(c.sliding_window)


def phi3_keys(w, c):
    """The two sets of factors hang on the context, not on the positions: see n_ctx."""
    sizes(w, c)
    r = c.rope_parameters
    w.add_rope_dimension_count(int(r["partial_rotary_factor"] * c.hidden_size // c.num_attention_heads))
    w.add_rope_freq_base(r["rope_theta"])
    w.add_rope_scaling_orig_ctx_len(c.original_max_position_embeddings)
    scale = c.max_position_embeddings / c.original_max_position_embeddings
    w.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(scale) / math.log(c.original_max_position_embeddings)))


def no_tables(case):
    return []


def positions(pos):
    return dict(position_ids=pos[None])


def llama3_factors(case):
    r = case.config.rope_parameters
    plain = r["rope_theta"] ** (-torch.arange(0, case.config.head_dim, 2).double() / case.config.head_dim)
    return [("rope_freqs.weight", (plain / case.model.model.rotary_emb.inv_freq.double()).float().numpy())]


@dataclasses.dataclass
class Family:
    arch: str
    config: type
    options: dict
    keys: callable
    rules: list
    tables: callable = no_tables
    first: tuple = (0, 0)     # the position where each example begins
    inputs: callable = positions


LLAMA = TOP + NORMS + PERMUTED + OUT + FFN
QWEN2 = TOP + NORMS + QKV + OUT + FFN
GEMMA = shifted(TOP + NORMS + QKV + OUT + FFN)
GEMMA3 = shifted(TOP + SANDWICH + QKV + QK_NORMS + OUT + FFN)


def llama(first=(0, 0), tables=no_tables, **options):
    return Family("llama", hf.LlamaConfig, HEAD | options, llama_keys, LLAMA, tables, first)


def phi3_factors(case):
    return [(f"rope_factors_{x}.weight", torch.tensor(case.config.rope_parameters[f"{x}_factor"]).numpy())
            for x in ("long", "short")]


def moe_keys(w, c):
    sizes(w, c)
    rotary(w, c.rope_parameters)
    w.add_expert_count(getattr(c, "num_local_experts", None) or c.num_experts)
    w.add_expert_used_count(c.num_experts_per_tok)
    if hasattr(c, "moe_intermediate_size"):
        w.add_expert_feed_forward_length(c.moe_intermediate_size)
    if hasattr(c, "shared_expert_intermediate_size"):
        w.add_expert_shared_feed_forward_length(c.shared_expert_intermediate_size)


def mixtral_keys(w, c):
    moe_keys(w, c)
    w.add_rope_dimension_count(c.hidden_size // c.num_attention_heads)


def stacked_halves(c, gate, up):
    return torch.cat([gate, up], dim=1)


def halves(c, shape):
    return [(shape[0], shape[1] // 2, shape[2])] * 2


def first_row(c, x):
    return x[None]


def without_rows(c, shape):
    return [shape[1:]]


EXPERTS = [Rule(r".*\.mlp\.gate", "blk.#.ffn_gate_inp"),
           Rule(r".*\.experts\.gate_up_proj", "blk.#.ffn_gate_exps blk.#.ffn_up_exps", stacked_halves, halves),
           Rule(r".*\.experts\.down_proj", "blk.#.ffn_down_exps")]
SHARED = [Rule(r".*\.shared_expert_gate", "blk.#.ffn_gate_inp_shexp", first_row, without_rows)]
SHARED += [Rule(rf".*\.shared_expert\.{x}_proj", f"blk.#.ffn_{x}_shexp") for x in ("gate", "up", "down")]


def granite_keys(w, c):
    llama_keys(w, c)
    w.add_embedding_scale(c.embedding_multiplier)
    w.add_residual_scale(c.residual_multiplier)
    w.add_attention_scale(c.attention_multiplier)
    w.add_logit_scale(c.logits_scaling)


def stablelm_keys(w, c):
    sizes(w, c)
    w.add_layer_norm_eps(c.layer_norm_eps)
    w.add_rope_freq_base(c.rope_parameters["rope_theta"])
    w.add_rope_dimension_count(int(c.rope_parameters["partial_rotary_factor"] * c.hidden_size //
                                   c.num_attention_heads))


def other_sizes(w, context, width, layers, heads, kv_heads, eps):
    """Of families that name their sizes in other ways; the feed-forward is four times as wide."""
    w.add_context_length(context)
    w.add_embedding_length(width)
    w.add_feed_forward_length(4 * width)
    w.add_block_count(layers)
    w.add_head_count(heads)
    w.add_head_count_kv(kv_heads)
    w.add_layer_norm_eps(eps)


def falcon_keys(w, c):
    grouped = c.num_kv_heads if c.new_decoder_architecture else 1
    other_sizes(w, 2048, c.hidden_size, c.num_hidden_layers, c.num_attention_heads, grouped, c.layer_norm_epsilon)
    w.add_tensor_data_layout("jploski")


def mpt_keys(w, c):
    other_sizes(w, c.max_seq_len, c.d_model, c.n_layers, c.n_heads, c.n_heads, c.layer_norm_epsilon)
    if c.attn_config.clip_qkv:
        w.add_clamp_kqv(c.attn_config.clip_qkv)
    w.add_max_alibi_bias(float(c.attn_config.alibi_bias_max))


def gpt2_keys(w, c):
    other_sizes(w, c.n_positions, c.n_embd, c.n_layer, c.n_head, c.n_head, c.layer_norm_epsilon)


def transposed(c, x):
    return x.T if x.ndim == 2 else x


def transposed_shape(c, shape):
    return [shape[::-1]]


def falcon_groups(c, x):
    """All queries, all keys, all values to groups of the queries that share a key, that key, and its value."""
    groups, head = (c.num_kv_heads if c.new_decoder_architecture else 1), c.hidden_size // c.num_attention_heads
    q, k, v = x.split([c.hidden_size, groups * head, groups * head])
    return torch.cat([part.reshape(groups, -1, *x.shape[1:]) for part in (q, k, v)], dim=1).reshape(x.shape)


def no_positions(pos):
    return {}


OLMO2 = [Rule(r".*\.post_attention_layernorm", "blk.#.post_attention_norm"),
         Rule(r".*\.post_feedforward_layernorm", "blk.#.post_ffw_norm")]
FALCON = HEAD_RULE + [Rule(r"transformer\.word_embeddings", "token_embd"), Rule(r"transformer\.ln_f", "output_norm"),
          Rule(r".*\.(input_layernorm|ln_mlp)", "blk.#.attn_norm"), Rule(r".*\.ln_attn", "blk.#.attn_norm_2"),
          Rule(r".*\.query_key_value", "blk.#.attn_qkv", falcon_groups), Rule(r".*\.dense", "blk.#.attn_output"),
          Rule(r".*\.dense_h_to_4h", "blk.#.ffn_up"), Rule(r".*\.dense_4h_to_h", "blk.#.ffn_down")]
MPT = HEAD_RULE + [Rule(r"transformer\.wte", "token_embd"), Rule(r"transformer\.norm_f", "output_norm"),
       Rule(r".*\.norm_1", "blk.#.attn_norm"), Rule(r".*\.Wqkv", "blk.#.attn_qkv"),
       Rule(r".*\.out_proj", "blk.#.attn_output"), Rule(r".*\.norm_2", "blk.#.ffn_norm"),
       Rule(r".*\.up_proj", "blk.#.ffn_up"), Rule(r".*\.down_proj", "blk.#.ffn_down")]
GPT2 = HEAD_RULE + [Rule(r"transformer\.wte", "token_embd"), Rule(r"transformer\.wpe", "position_embd"),
        Rule(r"transformer\.ln_f", "output_norm"), Rule(r".*\.ln_1", "blk.#.attn_norm"),
        Rule(r".*\.ln_2", "blk.#.ffn_norm")]
GPT2 += [Rule(hf_name, name, transposed, transposed_shape)
         for hf_name, name in ((r".*\.c_attn", "blk.#.attn_qkv"), (r".*\.attn\.c_proj", "blk.#.attn_output"),
                               (r".*\.c_fc", "blk.#.ffn_up"), (r".*\.mlp\.c_proj", "blk.#.ffn_down"))]


def falcon(**options):
    return Family("falcon", hf.FalconConfig,
                  dict(vocab_size=24, num_hidden_layers=2, bos_token_id=None, eos_token_id=None, alibi=False,
                       rope_parameters=rope(10000.0)) | options, falcon_keys, FALCON)


def mpt(heads, **attention):
    return Family("mpt", hf.MptConfig,
                  dict(vocab_size=24, d_model=4 * heads, n_heads=heads, n_layers=2, max_seq_len=64,
                       attn_config=dict(alibi=True) | attention), mpt_keys, MPT,
                  inputs=no_positions)


def phi3(first):
    longrope = dict(rope_type="longrope", rope_theta=500.0, partial_rotary_factor=0.75, short_factor=[1.0, 1.25, 1.5],
                    long_factor=[1.5, 3.0, 5.5], original_max_position_embeddings=32)
    return Family("phi3", hf.Phi3Config,
                  SHAPE | dict(hidden_size=16, num_attention_heads=2, num_key_value_heads=1,
                               original_max_position_embeddings=32, rope_parameters=longrope),
                  phi3_keys, PHI3, phi3_factors, first)


PHI3 = TOP + NORMS + OUT + [Rule(r".*\.qkv_proj", "blk.#.attn_qkv"), Rule(r".*\.gate_up_proj", "blk.#.ffn_up"),
                            Rule(r".*\.mlp\.down_proj", "blk.#.ffn_down")]

FAMILIES = {
    "llama_tied": llama(tie_word_embeddings=True, rope_parameters=rope(10000.0)),
    "llama_untied": llama(tie_word_embeddings=False, num_key_value_heads=4, head_dim=6, first=(0, 70),
                          rope_parameters=dict(rope_type="linear", factor=4.0, rope_theta=100.0)),
    "llama_freqs": llama(tie_word_embeddings=True, head_dim=8, rope_parameters=LLAMA3, tables=llama3_factors,
                         first=(0, 40)),
    "llama_biases": llama(tie_word_embeddings=False, attention_bias=True, mlp_bias=True, num_key_value_heads=1,
                          rope_parameters=rope(10000.0)),
    "qwen2": Family("qwen2", hf.Qwen2Config, HEAD | dict(tie_word_embeddings=True, num_attention_heads=2, head_dim=6,
                                                         num_key_value_heads=1, rope_parameters=rope(1000000.0)),
                    llama_keys, QWEN2),
    "qwen2_yarn": Family("qwen2", hf.Qwen2Config,
                         SHAPE | dict(hidden_size=32, num_attention_heads=2, num_key_value_heads=1,
                                      max_position_embeddings=128,
                                      rope_parameters=dict(rope_type="yarn", factor=4.0, rope_theta=100.0,
                                                           original_max_position_embeddings=32)),
                         llama_keys, QWEN2, first=(0, 70)),
    "qwen3": Family("qwen3", hf.Qwen3Config, HEAD | dict(tie_word_embeddings=False, head_dim=8,
                                                         rope_parameters=rope(1000.0)), llama_keys, QWEN2 + QK_NORMS),
    "gemma": Family("gemma", hf.GemmaConfig, HEAD | dict(num_key_value_heads=1, head_dim=6,
                                                         hidden_act="gelu_pytorch_tanh",
                                                         hidden_activation="gelu_pytorch_tanh"), sizes, GEMMA),
    "gemma2": Family("gemma2", hf.Gemma2Config, HEAD | dict(num_hidden_layers=3, head_dim=6, query_pre_attn_scalar=6,
                                                            sliding_window=3, attn_logit_softcapping=2.0,
                                                            final_logit_softcapping=3.0),
                     gemma2_keys, shifted(TOP + SANDWICH + QKV + OUT + FFN)),
    "gemma3": Family("gemma3", hf.Gemma3TextConfig,
                     HEAD | dict(num_hidden_layers=7, head_dim=6, query_pre_attn_scalar=6, sliding_window=3,
                                 rope_parameters=dict(full_attention=dict(rope_type="linear", factor=8.0,
                                                                          rope_theta=50000.0),
                                                      sliding_attention=rope(300.0))),
                     gemma3_keys, GEMMA3, first=(0, 70)),
    "phi3_short": phi3((0, 20)),
    "phi3_long": phi3((40, 50)),
    "mixtral": Family("llama", hf.MixtralConfig,
                      HEAD | dict(hidden_size=16, num_local_experts=5, num_experts_per_tok=2,
                                  rope_parameters=rope(100.0)),
                      mixtral_keys, TOP + NORMS + PERMUTED + OUT + EXPERTS),
    "qwen2moe": Family("qwen2moe", hf.Qwen2MoeConfig,
                       SHAPE | dict(hidden_size=16, num_experts=5, num_experts_per_tok=3, moe_intermediate_size=6,
                                    shared_expert_intermediate_size=10, rope_parameters=rope(100.0)),
                       moe_keys, TOP + NORMS + QKV + OUT + EXPERTS + SHARED),
    "qwen3moe": Family("qwen3moe", hf.Qwen3MoeConfig,
                       HEAD | dict(head_dim=8, num_experts=5, num_experts_per_tok=2, moe_intermediate_size=6,
                                   norm_topk_prob=True, rope_parameters=rope(100.0)),
                       moe_keys, TOP + NORMS + QKV + QK_NORMS + OUT + EXPERTS),
    "olmo2": Family("olmo2", hf.Olmo2Config, SHAPE | dict(hidden_size=16, rope_parameters=rope(100.0)), rms_keys,
                    TOP + QKV + QK_NORMS + OUT + FFN + OLMO2),
    "granite": Family("granite", hf.GraniteConfig,
                      SHAPE | dict(hidden_size=16, embedding_multiplier=3.0, residual_multiplier=0.5,
                                   attention_multiplier=0.75, logits_scaling=1.5, rope_parameters=rope(100.0)),
                      granite_keys, LLAMA),
    "stablelm": Family("stablelm", hf.StableLmConfig,
                       SHAPE | dict(hidden_size=16, num_attention_heads=2, num_key_value_heads=1, use_qkv_bias=True,
                                    rope_parameters=rope(100.0, partial_rotary_factor=0.25)), stablelm_keys, QWEN2),
    "stablelm_parallel": Family("stablelm", hf.StableLmConfig,
                                SHAPE | dict(hidden_size=16, use_parallel_residual=True,
                                             rope_parameters=rope(100.0, partial_rotary_factor=0.5)),
                                stablelm_keys, QWEN2),
    "falcon": falcon(hidden_size=12, num_attention_heads=3, multi_query=True),
    "falcon_grouped": falcon(hidden_size=16, num_attention_heads=4, num_kv_heads=2, new_decoder_architecture=True),
    "mpt": mpt(3, clip_qkv=0.75),
    "gpt2": Family("gpt2", hf.GPT2Config,
                   dict(vocab_size=24, n_embd=12, n_head=3, n_layer=2, n_positions=64, resid_pdrop=0.0, embd_pdrop=0.0,
                        attn_pdrop=0.0, bos_token_id=None, eos_token_id=None), gpt2_keys, GPT2, first=(0, 50)),
    "smollm3": Family("smollm3", hf.SmolLM3Config,
                      SHAPE | dict(num_hidden_layers=5, hidden_size=16, rope_parameters=rope(100.0)),
                      llama_keys, LLAMA),
}
