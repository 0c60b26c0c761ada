#!/usr/bin/env python3
"""Makes tests/reference/<case>.gguf and <case>.ref.gguf, which check_model.c compares with.

Each case is a tiny random model of Hugging Face transformers, evaluated in float64 on two examples, each on its
own. <case>.gguf is the model as llama.cpp stores it. <case>.ref.gguf holds the examples end to end (ids, labels,
pos, starts), and in F32: logits; loss (the sum over labels >= 0); d.<tensor>, the loss's gradient for every weight;
an adapter <tensor>.a, <tensor>.b of scale lora_scale on the linears of the blocks with lora_logits, lora_loss,
d.<tensor>.a, d.<tensor>.b. Needs torch, transformers, gguf (made with 2.15, 5.23, 0.19):

    python3 tests/conformance/make_llama_reference.py [output directory]
"""
import pathlib
import sys

import gguf
import numpy as np
import torch
import transformers as hf

LENGTHS = (7, 5)
RANK, LORA_SCALE = 2, 1.5
SHAPE = dict(vocab_size=24, hidden_size=12, intermediate_size=16, num_hidden_layers=2, max_position_embeddings=64,
             num_attention_heads=4, num_key_value_heads=2, head_dim=4, attention_dropout=0.0, pad_token_id=None)
LLAMA3 = dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=32)


def rope(theta, **more):
    return dict(rope_type="default", rope_theta=theta, **more)


CASES = {
    "llama_tied": (hf.LlamaConfig, dict(tie_word_embeddings=True, rope_parameters=rope(10000.0))),
    "llama_untied": (hf.LlamaConfig, dict(tie_word_embeddings=False, num_key_value_heads=4, head_dim=6,
                                          rope_parameters=dict(rope_type="linear", factor=4.0, rope_theta=100.0))),
    "llama_freqs": (hf.LlamaConfig, dict(tie_word_embeddings=True, head_dim=8, rope_parameters=LLAMA3)),
    "llama_biases": (hf.LlamaConfig, dict(tie_word_embeddings=False, attention_bias=True, mlp_bias=True,
                                          num_key_value_heads=1, rope_parameters=rope(10000.0))),
    "qwen2": (hf.Qwen2Config, dict(tie_word_embeddings=True, num_attention_heads=2, num_key_value_heads=1,
                                    head_dim=6, rope_parameters=rope(1000000.0))),
    "qwen3": (hf.Qwen3Config, dict(tie_word_embeddings=False, head_dim=8, rope_parameters=rope(1000.0))),
}
LINEARS = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
           "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
           "mlp.down_proj": "ffn_down"}
OTHERS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_norm": "attn_q_norm",
          "self_attn.k_norm": "attn_k_norm"}


def gguf_name(name):
    fixed = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
             "lm_head.weight": "output.weight"}
    if name in fixed:
        return fixed[name]
    layer, rest = name.removeprefix("model.layers.").split(".", 1)
    module, kind = rest.rsplit(".", 1)
    return f"blk.{layer}.{(LINEARS | OTHERS)[module]}.{kind}"


class Case:
    def __init__(self, name, seed):
        make_config, options = CASES[name]
        torch.manual_seed(seed)
        self.config = make_config(**(SHAPE | options))
        self.model = hf.AutoModelForCausalLM.from_config(self.config, attn_implementation="eager").double().eval()
        for key, p in self.model.named_parameters():
            mean = 1.0 if key.endswith("norm.weight") else 0.0
            p.data = (mean + torch.randn(p.shape) * (0.2 if p.ndim == 1 else 0.3)).float().double()
        self.model.tie_weights()
        self.params = dict(self.model.named_parameters())
        self.ids = [torch.randint(0, self.config.vocab_size, (n,)) for n in LENGTHS]
        self.labels = [torch.cat([ids[1:], torch.tensor([-1])]) for ids in self.ids]
        self.labels[0][2] = -1
        self.lora = {}
        for key, p in self.params.items():
            if p.ndim == 2 and ".layers." in key:
                self.lora[key] = [(torch.randn(s) * 0.3).float().double().requires_grad_()
                                  for s in ((RANK, p.shape[1]), (p.shape[0], RANK))]

    def run(self, params):
        call = torch.func.functional_call
        logits = torch.cat([call(self.model, params, (ids[None],)).logits[0] for ids in self.ids])
        loss = torch.nn.functional.cross_entropy(logits, torch.cat(self.labels), ignore_index=-1, reduction="sum")
        return logits, loss

    def stored(self, key, x):
        """Rows of q and k in llama.cpp's order: for arch llama, interleaved rotary pairs."""
        x = x.detach()
        heads = {"q_proj": self.config.num_attention_heads, "k_proj": self.config.num_key_value_heads}
        n = heads.get(key.split(".")[-2]) if self.config.model_type == "llama" else None
        if n:
            x = x.reshape(n, 2, x.shape[0] // n // 2, -1).swapaxes(1, 2).reshape(x.shape)
        return x.float().numpy()


def write_model(case, path):
    c, arch = case.config, case.config.model_type
    head_dim = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
    w = gguf.GGUFWriter(path, arch)
    w.add_vocab_size(c.vocab_size)
    w.add_context_length(c.max_position_embeddings)
    w.add_embedding_length(c.hidden_size)
    w.add_block_count(c.num_hidden_layers)
    w.add_feed_forward_length(c.intermediate_size)
    w.add_head_count(c.num_attention_heads)
    w.add_head_count_kv(c.num_key_value_heads)
    w.add_key_length(head_dim)
    w.add_value_length(head_dim)
    w.add_rope_dimension_count(head_dim)
    w.add_layer_norm_rms_eps(c.rms_norm_eps)
    w.add_rope_freq_base(c.rope_parameters["rope_theta"])
    if c.rope_parameters["rope_type"] == "linear":
        w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        w.add_rope_scaling_factor(c.rope_parameters["factor"])
    w.add_tokenizer_model("no_vocab")
    if c.rope_parameters["rope_type"] == "llama3":
        plain = c.rope_parameters["rope_theta"] ** (-torch.arange(0, head_dim, 2).double() / head_dim)
        w.add_tensor("rope_freqs.weight", (plain / case.model.model.rotary_emb.inv_freq.double()).float().numpy())
    for key, p in case.params.items():
        w.add_tensor(gguf_name(key), case.stored(key, p))
    finish(w)


def write_reference(case, path):
    w = gguf.GGUFWriter(path, "reference")
    w.add_float32("lora_scale", LORA_SCALE)
    join = lambda parts: torch.cat(list(parts)).int().numpy()
    w.add_tensor("ids", join(case.ids))
    w.add_tensor("labels", join(case.labels))
    w.add_tensor("pos", join(torch.arange(n) for n in LENGTHS))
    w.add_tensor("starts", join(torch.full((n,), sum(LENGTHS[:i])) for i, n in enumerate(LENGTHS)))
    logits, loss = case.run(case.params)
    w.add_tensor("logits", logits.detach().float().numpy())
    w.add_tensor("loss", loss.detach().float().reshape(1).numpy())
    for (key, p), g in zip(case.params.items(), torch.autograd.grad(loss, list(case.params.values()))):
        w.add_tensor("d." + gguf_name(key), case.stored(key, g))
    merged = case.params | {k: case.params[k] + LORA_SCALE * b @ a for k, (a, b) in case.lora.items()}
    logits, loss = case.run(merged)
    w.add_tensor("lora_logits", logits.detach().float().numpy())
    w.add_tensor("lora_loss", loss.detach().float().reshape(1).numpy())
    for key, (a, b) in case.lora.items():
        da, db = torch.autograd.grad(loss, [a, b], retain_graph=True)
        name = gguf_name(key)
        w.add_tensor(name + ".a", a.detach().float().numpy())
        w.add_tensor(name + ".b", case.stored(key, b))
        w.add_tensor(f"d.{name}.a", da.float().numpy())
        w.add_tensor(f"d.{name}.b", case.stored(key, db))
    finish(w)


def finish(w):
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def main():
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent / "reference")
    out.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(CASES):
        case = Case(name, seed)
        write_model(case, out / f"{name}.gguf")
        write_reference(case, out / f"{name}.ref.gguf")
        print(name)


if __name__ == "__main__":
    main()
