#!/usr/bin/env python3
"""Writes the random beginning of the shipped base model: a llama-architecture GGUF in F32 with its own tokenizer.
`loquat train examples/base.yaml` then trains it (`adapter: full`).

usage: make_base.py TEXT.jsonl [MORE.jsonl ...] OUTPUT.gguf [--vocabulary 2048] [--seed 1]
needs the packages `tokenizers`, `gguf` and `numpy`

The tokenizer is byte-level BPE with GPT-2's splitting rule, made once from the given texts.
"""
import argparse
import json

import gguf
import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

LAYERS, WIDTH, HEADS, KV_HEADS, HEAD, FEED_FORWARD, CONTEXT = 4, 256, 4, 2, 64, 512, 1024
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")


def texts(paths):
    for path in paths:
        for line in open(path, encoding="utf-8"):
            record = json.loads(line)
            if "text" in record:
                yield record["text"]
            for message in record.get("messages", []):
                yield message["content"]


def make_tokenizer(paths, size):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=SPECIAL, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(texts(paths), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = [None] * len(model["vocab"])
    for token, i in model["vocab"].items():
        tokens[i] = token
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    return tokens, merges


def add_tokenizer(writer, tokens, merges):
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if t in SPECIAL else gguf.TokenType.NORMAL for t in tokens])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_eot_token_id(tokens.index("<|im_end|>"))
    writer.add_add_bos_token(True)
    writer.add_chat_template(CHAT_TEMPLATE)


def add_keys(writer, vocabulary):
    writer.add_name("Loquat Pip")
    writer.add_description("a 3M-parameter model of simple English, made by Loquat for its own examples")
    writer.add_license("MIT")
    writer.add_languages(["en"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_quantization_version(2)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(HEAD)
    writer.add_vocab_size(vocabulary)


def add_weights(writer, vocabulary, seed):
    rng = np.random.default_rng(seed)

    def normal(name, rows, cols, scale=1.0):
        writer.add_tensor(name, (0.02 * scale * rng.standard_normal((rows, cols))).astype(np.float32))

    def ones(name):
        writer.add_tensor(name, np.ones(WIDTH, dtype=np.float32))

    into_residual = (2 * LAYERS) ** -0.5  # GPT-2's rule: the residual stream keeps its size
    normal("token_embd.weight", vocabulary, WIDTH)
    for i in range(LAYERS):
        ones(f"blk.{i}.attn_norm.weight")
        normal(f"blk.{i}.attn_q.weight", HEADS * HEAD, WIDTH)
        normal(f"blk.{i}.attn_k.weight", KV_HEADS * HEAD, WIDTH)
        normal(f"blk.{i}.attn_v.weight", KV_HEADS * HEAD, WIDTH)
        normal(f"blk.{i}.attn_output.weight", WIDTH, HEADS * HEAD, into_residual)
        ones(f"blk.{i}.ffn_norm.weight")
        normal(f"blk.{i}.ffn_gate.weight", FEED_FORWARD, WIDTH)
        normal(f"blk.{i}.ffn_up.weight", FEED_FORWARD, WIDTH)
        normal(f"blk.{i}.ffn_down.weight", WIDTH, FEED_FORWARD, into_residual)
    ones("output_norm.weight")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="+")
    parser.add_argument("output")
    parser.add_argument("--vocabulary", type=int, default=2048)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    tokens, merges = make_tokenizer(args.texts, args.vocabulary)
    writer = gguf.GGUFWriter(args.output, "llama")
    add_keys(writer, len(tokens))
    add_tokenizer(writer, tokens, merges)
    add_weights(writer, len(tokens), args.seed)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
