"""A random PEFT adapter for a llama GGUF, and the config.json that a converter asks for. Rank 4, all linear layers."""
import json

import gguf
import torch
from safetensors.torch import save_file

RANK, ALPHA = 4, 8
LINEARS = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
           "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
           "ffn_down": "mlp.down_proj"}


def write_config(reader, directory):
    def key(name):
        return reader.get_field("llama." + name).contents()
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": key("embedding_length"),
        "intermediate_size": key("feed_forward_length"), "num_hidden_layers": key("block_count"),
        "num_attention_heads": key("attention.head_count"), "num_key_value_heads": key("attention.head_count_kv"),
        "head_dim": key("attention.key_length"), "vocab_size": key("vocab_size"),
        "max_position_embeddings": key("context_length"), "rms_norm_eps": key("attention.layer_norm_rms_epsilon"),
        "rope_theta": key("rope.freq_base")}))


def write(base, config_directory, adapter_directory):
    reader = gguf.GGUFReader(base)
    write_config(reader, config_directory)
    torch.manual_seed(3)
    tensors = {}
    for t in reader.tensors:
        parts = t.name.split(".")
        if len(parts) != 4 or parts[2] not in LINEARS:
            continue
        cols, rows = t.shape.tolist()
        name = f"base_model.model.model.layers.{parts[1]}.{LINEARS[parts[2]]}"
        tensors[name + ".lora_A.weight"] = torch.randn(RANK, cols) / cols**0.5
        tensors[name + ".lora_B.weight"] = 0.3 * torch.randn(rows, RANK)
    adapter_directory.mkdir()
    save_file(tensors, adapter_directory / "adapter_model.safetensors")
    (adapter_directory / "adapter_config.json").write_text(json.dumps({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": ALPHA, "bias": "none",
        "base_model_name_or_path": str(config_directory),
        "target_modules": [v.split(".")[1] for v in LINEARS.values()]}))
