#!/usr/bin/env python3
"""Every family of models in Loquat, transformers and llama.cpp: the same logits, and what Loquat exports runs there.

    python3 tests/conformance/check_families.py LOQUAT MAKE_TINY LLAMA_BIN [CASE ...]

For each case of families.py, made larger so that Q4_0's blocks divide the rows, with MAKE_TINY's tokenizer:
  * Loquat's logits of the F32 model against transformers' in F64;
  * base + a random adapter in both programs; merged into F16 and Q4_0, loaded by both: the same top token on at least
    99 % of the positions, and the F16 file's perplexity within 0.1 % of llama-perplexity's.
Needs torch, transformers, numpy, gguf, xllamacpp. llama.cpp rounds activations to the weights' type; so the Q4_0 file
is also judged with its weights expanded to F32, where only the arithmetic is compared.
"""
import dataclasses
import pathlib
import subprocess
import sys
import tempfile

import gguf
import numpy as np
import torch

import llama_cpp
from end_to_end import evaluate, judge, loras, number_in_llama
from expand import expand
from families import FAMILIES
from make_tiny_families import Case, finish, to_numpy, write_model
from perplexity import ESTIMATE

LOGITS, TOP, PERPLEXITY = 1e-4, 0.99, 1e-3
POSITIONS, ALPHA, RANK = 160, 8.0, 4
SIZES = dict(vocab_size=320, hidden_size=128, intermediate_size=160, max_position_embeddings=512, num_attention_heads=4,
             num_key_value_heads=2, head_dim=32, query_pre_attn_scalar=32, sliding_window=24, moe_intermediate_size=64,
             shared_expert_intermediate_size=96, n_embd=128, n_head=4, n_positions=512, d_model=128, n_heads=4,
             max_seq_len=512, num_kv_heads=2)


def larger(family):
    """Rows of 128. Window, scaling and the original context stay below the text's length."""
    options = {k: SIZES.get(k, v) for k, v in family.options.items()}
    factors = {k: [1 + 0.3 * i for i in range(12)] if k == "long_factor" else [1 + 0.02 * i for i in range(12)]
               for k in ("long_factor", "short_factor") if k in options.get("rope_parameters", {})}
    if factors:
        options |= dict(rope_parameters=options["rope_parameters"] | factors)
    return dataclasses.replace(family, options=options, first=(0, 0))


def vocabulary_of(path):
    fields = gguf.GGUFReader(path).fields

    def add(w):
        for key, field in fields.items():
            if key.startswith("tokenizer."):
                sub = field.types[1] if len(field.types) > 1 else None
                w.add_key_value(key, field.contents(), field.types[0], sub)
    return add


def write_adapter(case, path):
    """All linears of the blocks; those of experts in three dimensions."""
    w = gguf.GGUFWriter(path, case.family.arch)
    w.add_string("general.type", "adapter")
    w.add_string("adapter.type", "lora")
    w.add_float32("adapter.lora.alpha", ALPHA)
    rng = np.random.default_rng(5)
    for name in case.lora:
        *mats, rows, cols = case.stored[name].shape
        w.add_tensor(name + ".lora_a", (rng.standard_normal((*mats, RANK, cols)) / cols**0.5).astype(np.float32))
        w.add_tensor(name + ".lora_b", (0.1 * rng.standard_normal((*mats, rows, RANK))).astype(np.float32))
    finish(w)


def our_logits(loquat, model, ids, work, adapter=None):
    out = work / "x.npy"
    subprocess.run([loquat, "logits", model, *loras(adapter), "--ids", " ".join(map(str, ids)), "--output", out],
                   check=True, capture_output=True)
    return np.load(out)


def same_top(a, b):
    return float((a.argmax(axis=1) == b.argmax(axis=1)).mean())


def check_file(args, name, model, ids, adapter=None):
    ours = our_logits(args.loquat, model, ids, args.work, adapter)
    theirs = llama_cpp.logits(model, ids, adapter)
    judge(f"{name}: finite, 1 - share", 1 - np.isfinite(theirs).mean(), 0)
    return ours, same_top(ours, theirs)


def check_case(args, name, add_vocabulary):
    case = Case(name, larger(FAMILIES[name]), lambda cols: cols**-0.5)
    base, adapter = args.work / "base.gguf", args.work / "adapter.gguf"
    write_model(case, base, add_vocabulary)
    write_adapter(case, adapter)
    ids = np.random.default_rng(3).integers(0, case.config.vocab_size, POSITIONS).tolist()
    with torch.no_grad():
        reference = to_numpy(case.model(torch.tensor([ids])).logits[0])
    ours, top = check_file(args, f"{name} F32", base, ids)
    judge(f"{name} F32: logits against transformers, max |d|", np.abs(ours - reference).max(), LOGITS)
    judge(f"{name} F32: other top token in llama.cpp, share", 1 - top, 1 - TOP)
    _, top = check_file(args, f"{name} base + adapter", base, ids, adapter)
    judge(f"{name} base + adapter: other top token in llama.cpp, share", 1 - top, 1 - TOP)
    for kind in ("F16", "Q4_0"):
        merged = args.work / f"merged-{kind}.gguf"
        subprocess.run([args.loquat, "merge", base, "--lora", adapter, "--output", merged, "--type", kind],
                       check=True, capture_output=True)
        ours, top = check_file(args, f"{name} merged {kind}", merged, ids)
        if kind == "Q4_0":
            print(f"     {name} merged Q4_0: same top token with llama.cpp's rounded activations {100 * top:.1f} %")
            top = same_top(ours, llama_cpp.logits(expand(merged, args.work / "expanded.gguf"), ids))
        judge(f"{name} merged {kind}: other top token in llama.cpp, share", 1 - top, 1 - TOP)
    check_perplexity(args, name, args.work / "merged-F16.gguf")


def check_perplexity(args, name, model):
    text = args.work / "text.txt"
    ours = evaluate(args.loquat, model, None, "--perplexity", text, "--ctx-size", "128")["perplexity"]
    theirs = number_in_llama(args.llama_bin, model, ESTIMATE, "-f", text)
    judge(f"{name} merged F16: perplexity {ours:.4f} against llama-perplexity, relative", abs(ours / theirs - 1),
          PERPLEXITY)


def write_text(path):
    rng = np.random.default_rng(8)
    words = "the and a hello there in on sand red her".split()
    path.write_text("\n".join(" ".join(rng.choice(words, 9)) for _ in range(240)) + "\n")


class Arguments:
    def __init__(self, work):
        self.loquat, make_tiny, self.llama_bin, *self.cases = sys.argv[1:]
        self.llama_bin, self.work = pathlib.Path(self.llama_bin), pathlib.Path(work)
        self.tiny = self.work / "tiny.gguf"
        subprocess.run([make_tiny, self.tiny], check=True)


def main():
    with tempfile.TemporaryDirectory() as work:
        args = Arguments(work)
        write_text(args.work / "text.txt")
        add_vocabulary = vocabulary_of(args.tiny)
        for name in args.cases or FAMILIES:
            check_case(args, name, add_vocabulary)
    sys.exit(judge.failed > 0)


if __name__ == "__main__":
    main()
