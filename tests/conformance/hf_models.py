"""Loquat against transformers and llama.cpp's converter on tiny random models of every family that Loquat opens from a
Hugging Face directory: logits from the directory and from the GGUF that `loquat merge` makes of it, and that file against
convert_hf_to_gguf.py's, tensor by tensor and key by key.

  hf_models.py LOQUAT [LLAMA_SOURCE]

LLAMA_SOURCE: llama.cpp's source tree; without it only logits are compared."""
import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import gguf
import numpy as np
import safetensors.torch
import torch
import transformers as hf

from converter import convert

hf.utils.logging.disable_progress_bar()

TOLERANCE = 1e-4
BYTE_LEVEL = ("qwen", "olmo", "stablelm", "gpt2", "falcon", "mpt")   # families with such tokenizers; the others have SentencePiece
SHAPE = dict(vocab_size=96, hidden_size=24, intermediate_size=40, num_hidden_layers=3, max_position_embeddings=128,
             num_attention_heads=6, num_key_value_heads=2, pad_token_id=None, bos_token_id=1, eos_token_id=2)
LLAMA3 = dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=32)
YARN = dict(rope_type="yarn", rope_theta=100.0, factor=4.0, original_max_position_embeddings=32, beta_fast=16.0)
LINEAR = dict(rope_type="linear", rope_theta=10000.0, factor=4.0)

# name: class, options, dtype of the file, bytes of a shard
MODELS = {
    "llama-tied": (hf.LlamaConfig, dict(tie_word_embeddings=True), torch.float32, None),
    "llama-tied-own-head": (hf.LlamaConfig, dict(tie_word_embeddings=True), torch.float32, None),
    "llama-tied-same-head": (hf.LlamaConfig, dict(tie_word_embeddings=True), torch.float32, None),
    "llama-untied-sharded": (hf.LlamaConfig, dict(tie_word_embeddings=False), torch.bfloat16, "8KB"),
    "llama-biases-linear": (hf.LlamaConfig, dict(attention_bias=True, mlp_bias=True, rope_parameters=LINEAR),
                            torch.float16, None),
    "llama3-head-dim": (hf.LlamaConfig, dict(head_dim=8, rope_parameters=LLAMA3, tie_word_embeddings=True),
                        torch.float32, None),
    "mistral": (hf.MistralConfig, dict(sliding_window=None, head_dim=4), torch.bfloat16, None),
    "qwen2": (hf.Qwen2Config, dict(tie_word_embeddings=True), torch.float32, None),
    "qwen2-yarn": (hf.Qwen2Config, dict(hidden_size=48, num_attention_heads=2, num_key_value_heads=1, rope_parameters=YARN),
                   torch.float32, None),
    "qwen3": (hf.Qwen3Config, dict(head_dim=8, tie_word_embeddings=False), torch.bfloat16, "8KB"),
    "gemma": (hf.GemmaConfig, dict(head_dim=8, vocab_size=112), torch.bfloat16, None),
    "gemma2": (hf.Gemma2Config, dict(head_dim=8, sliding_window=8, query_pre_attn_scalar=8,
                                     attn_implementation="eager"), torch.float32, None),
    "gemma3": (hf.Gemma3TextConfig, dict(head_dim=8, sliding_window=8, num_hidden_layers=7, query_pre_attn_scalar=8,
                                         attn_implementation="eager"), torch.float32, None),
    "phi3": (hf.Phi3Config, dict(num_attention_heads=4, sliding_window=None, rope_parameters=dict(
        rope_type="default", rope_theta=10000.0, partial_rotary_factor=1.0),
        original_max_position_embeddings=128), torch.float32, None),
    "phi3-longrope": (hf.Phi3Config, dict(num_attention_heads=2, num_key_value_heads=1, hidden_size=16, rope_parameters=dict(
        rope_type="longrope", rope_theta=500.0, partial_rotary_factor=0.75, short_factor=[1.0, 1.25, 1.5],
        long_factor=[1.5, 3.0, 5.5], original_max_position_embeddings=32), original_max_position_embeddings=32),
        torch.float32, None),
    "smollm3": (hf.SmolLM3Config, dict(num_hidden_layers=5), torch.bfloat16, None),
    "olmo2": (hf.Olmo2Config, dict(), torch.float32, None),
    "granite": (hf.GraniteConfig, dict(embedding_multiplier=3.0, attention_multiplier=0.4, residual_multiplier=0.5,
                                       logits_scaling=2.0), torch.float32, None),
    "stablelm": (hf.StableLmConfig, dict(partial_rotary_factor=0.5, use_qkv_bias=True), torch.float32, None),
    "gpt2": (hf.GPT2Config, dict(n_embd=24, n_layer=3, n_head=6, n_positions=128, n_ctx=128), torch.float32, None),
    "falcon": (hf.FalconConfig, dict(multi_query=True, num_kv_heads=1, alibi=False), torch.float32, None),
    "falcon-grouped": (hf.FalconConfig, dict(num_kv_heads=2, new_decoder_architecture=True, alibi=False), torch.bfloat16,
                       None),
    "mpt": (hf.MptConfig, dict(max_seq_len=128, attn_config=dict(alibi=True, clip_qkv=0.75)), torch.float32, None),
    "mixtral": (hf.MixtralConfig, dict(num_local_experts=4, num_experts_per_tok=2), torch.float32, None),
    "qwen2moe": (hf.Qwen2MoeConfig, dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16,
                                         shared_expert_intermediate_size=20, norm_topk_prob=False), torch.bfloat16, None),
    "qwen3moe": (hf.Qwen3MoeConfig, dict(head_dim=8, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16,
                                         norm_topk_prob=True), torch.float32, None),
}


def run(*args, **kw):
    done = subprocess.run([str(a) for a in args], capture_output=True, text=True, **kw)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, args))}\n{done.stdout}{done.stderr}")
    return done.stdout


def make(name, directory):
    cls, options, dtype, shard = MODELS[name]
    torch.manual_seed(len(name))
    config = cls(**(SHAPE | options))
    model = hf.AutoModelForCausalLM.from_config(config).float()
    with torch.no_grad():
        for key, x in model.named_parameters():
            x.normal_(0.0, 0.2)
            if "norm" in key and not key.startswith("gemma") and x.dim() == 1:
                x.add_(0.0 if "gemma" in name else 1.0)
    model = model.to(dtype)
    model.save_pretrained(directory, **({"max_shard_size": shard} if shard else {}))
    if name.endswith("-head"):   # stored, though the configuration says that it is the embedding
        tensors = safetensors.torch.load_file(directory / "model.safetensors")
        embedding = tensors["model.embed_tokens.weight"]
        tensors["lm_head.weight"] = embedding.flip(0) if "own" in name else embedding.clone()
        safetensors.torch.save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    if name == "mpt":   # the converter knows the class by its older name only
        config = directory / "config.json"
        config.write_text(config.read_text().replace("MptForCausalLM", "MPTForCausalLM"))
    return hf.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager").eval()


def logits(loquat, model, ids, work):
    run(loquat, "logits", model, "--ids", " ".join(map(str, ids)), "--output", work / "l.npy")
    return np.load(work / "l.npy")


def keys_that_llama_cpp_reads(source, arch):
    text = (pathlib.Path(source) / "src/llama-arch.cpp").read_text()
    return {m.replace("%s", arch) for m in re.findall(r'LLM_KV_\w+,\s*"([^"]+)"', text)}


def compare_files(ours, theirs, source):
    a, b = gguf.GGUFReader(ours), gguf.GGUFReader(theirs)
    arch = b.fields["general.architecture"].contents()
    read = keys_that_llama_cpp_reads(source, arch)
    bad = []
    for key in sorted(read):
        x, y = (f.fields[key].contents() if key in f.fields else None for f in (a, b))
        if key in ("general.name", "general.license", "general.description"):
            continue
        if key == "general.file_type" and y is None:   # the converter forgets it for some
            continue
        same = x == y and (x is None or a.fields[key].types == b.fields[key].types)
        if not same:
            bad.append(f"{key}: {str(x)[:60]} here, {str(y)[:60]} there")
    x, y = ({t.name: t for t in f.tensors} for f in (a, b))
    bad += [f"tensor {n}: only {'here' if n in x else 'there'}" for n in sorted(x.keys() ^ y.keys())]
    for n in sorted(x.keys() & y.keys()):
        if x[n].tensor_type != y[n].tensor_type or list(x[n].shape) != list(y[n].shape):
            bad.append(f"tensor {n}: {x[n].tensor_type.name} {x[n].shape}, {y[n].tensor_type.name} {y[n].shape}")
        elif x[n].data.tobytes() != y[n].data.tobytes():
            bad.append(f"tensor {n}: other bytes")
    return bad


def check(name, args, work, tokenizer=None):
    directory = work / name
    model = make(name, directory)
    if tokenizer:
        tokenizer(directory)
    ids = torch.randint(0, SHAPE["vocab_size"], (40,), generator=torch.Generator().manual_seed(1)).tolist()
    with torch.no_grad():
        want = model(torch.tensor([ids])).logits[0].numpy()
    bad = []
    here = logits(args.loquat, directory, ids, work)
    worst = np.abs(here - want).max()
    if not worst <= TOLERANCE:
        bad.append(f"logits of the directory: off by {worst:.2e}")
    for kind in ("F32", "F16", "BF16") if name == "llama-untied-sharded" else ("F16",):
        run(args.loquat, "merge", directory, "--output", work / "ours.gguf", "--type", kind)
        if kind == "F32" or name.endswith("biases-linear"):   # stored in F16
            off = np.abs(logits(args.loquat, work / "ours.gguf", ids, work) - want).max()
            if not off <= TOLERANCE:
                bad.append(f"logits of the GGUF: off by {off:.2e}")
        if tokenizer:
            done = convert(args.llama_source, "qwen2", directory, "--outfile", work / "theirs.gguf", "--outtype", kind.lower())
            if done.returncode:
                sys.exit(f"convert_hf_to_gguf.py {name}\n{done.stdout}{done.stderr}")
            bad += [f"{kind}: {b}" for b in compare_files(work / "ours.gguf", work / "theirs.gguf", args.llama_source)]
    print(f"{name}: logits off by {worst:.1e} (largest {np.abs(want).max():.1f}){', files equal' if tokenizer and not bad else ''}")
    return [f"{name}: {b}" for b in bad]


def spm_tokenizer(directory):
    """A tiny SentencePiece model with byte fallback, as Llama 2 has."""
    import sentencepiece
    text = directory / "text.txt"
    text.write_text("the cat sat on the mat and the dog ran away from the cat\n" * 50)
    n = json.loads((directory / "config.json").read_text())["vocab_size"]
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(directory / "tokenizer"), vocab_size=n - 3, model_type="bpe",
        byte_fallback=n > 300, hard_vocab_limit=False, bos_id=1, eos_id=2, unk_id=0, minloglevel=2)
    text.unlink()
    (directory / "tokenizer.vocab").unlink()
    (directory / "tokenizer_config.json").write_text(json.dumps(dict(
        tokenizer_class="LlamaTokenizer", bos_token="<s>", eos_token="</s>", unk_token="<unk>", add_bos_token=True,
        add_eos_token=False, chat_template="{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}")))


def bpe_tokenizer(directory):
    """A byte-level BPE tokenizer.json with Qwen 2's pre-tokenizer."""
    import tokenizers
    t = tokenizers.Tokenizer(tokenizers.models.BPE())
    regex = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
             r"\s+(?!\S)|\s+")
    t.normalizer = tokenizers.normalizers.NFC()
    t.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([
        tokenizers.pre_tokenizers.Split(tokenizers.Regex(regex), "isolated"),
        tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = tokenizers.decoders.ByteLevel()
    n = json.loads((directory / "config.json").read_text())["vocab_size"]
    t.train_from_iterator(["the cat sat on the mat and the dog ran away from the cat"] * 50,
                          tokenizers.trainers.BpeTrainer(vocab_size=n - 8, special_tokens=["<|endoftext|>", "<|im_start|>",
                                                                                         "<|im_end|>"]))
    t.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(json.dumps(dict(
        tokenizer_class="Qwen2Tokenizer", eos_token="<|im_end|>", pad_token="<|endoftext|>", bos_token=None,
        add_bos_token=False, chat_template="{% for m in messages %}<|im_start|>{{ m.role }}{% endfor %}")))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("loquat", type=lambda x: pathlib.Path(x).resolve())
    p.add_argument("llama_source", nargs="?")
    p.add_argument("--only", nargs="+", default=[""], help="only models whose name contains one of these")
    args = p.parse_args()
    bad = []
    with tempfile.TemporaryDirectory() as tmp:
        for name in MODELS:
            if any(part in name for part in args.only):
                tokenizer = bpe_tokenizer if name.startswith(BYTE_LEVEL) else spm_tokenizer
                bad += check(name, args, pathlib.Path(tmp), tokenizer if args.llama_source else None)
    print("\n".join(bad) if bad else "directories, logits and conversions agree")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
