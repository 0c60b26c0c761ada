#!/usr/bin/env python3
"""Every family of models in Loquat, transformers and llama.cpp: the same logits, and what Loquat exports runs there.

    python3 tests/conformance/check_families.py LOQUAT MAKE_TINY LLAMA_BIN [CASE ...]

For each case of families.py, made larger so that Q4_0's blocks divide the rows, with MAKE_TINY's tokenizer:
  * Loquat's logits of the F32 model against transformers' in F64, also with the head tied or untied, with other numbers
    of key/value heads, and with sizes that no block divides;
  * base + a random adapter in both programs; merged into F16 and Q4_0, loaded by both: the same top token on at least
    99 % of the positions, and the F16 file's perplexity within 0.1 % of llama-perplexity's.
Needs torch, transformers, numpy, gguf, xllamacpp. llama.cpp rounds activations to the weights' type; so the Q4_0 file
is judged with its weights expanded to F32, where only the arithmetic is compared, and as it is with Loquat rounding
activations, too (which it does not on experts).
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
from perplexity import ESTIMATE, EXACT, llama_perplexity

LOGITS, TOP, PERPLEXITY, ROUNDED = 1e-4, 0.99, 1e-3, 0.1
ROUNDED_TOP = 0.97   # a sum's last bit turns a code over at times, and random layers, most so many of them, magnify that
POSITIONS, ALPHA, RANK = 160, 8.0, 4
SIZES = dict(vocab_size=320, hidden_size=128, intermediate_size=160, max_position_embeddings=512, num_attention_heads=4,
             num_key_value_heads=2, head_dim=32, query_pre_attn_scalar=32, sliding_window=24, moe_intermediate_size=64,
             shared_expert_intermediate_size=96, n_embd=128, n_head=4, n_positions=512, d_model=128, n_heads=4,
             max_seq_len=512, num_kv_heads=2)


ODD = dict(vocab_size=97, hidden_size=120, intermediate_size=75, head_dim=30, query_pre_attn_scalar=30, moe_intermediate_size=21,
           num_experts=7, num_local_experts=3, shared_expert_intermediate_size=33, n_embd=120, d_model=120, n_head=5, n_heads=5)
ONE_HEAD = ("gemma", "gemma2", "qwen2moe", "olmo2", "stablelm")   # llama.cpp takes them tied or untied, not both


def larger(family):
    """Rows of 128. Window, scaling and the original context stay below the text's length, but for the case whose examples
    do not go past that context."""
    options = {k: SIZES.get(k, v) for k, v in family.options.items()}
    original = options.get("original_max_position_embeddings", 0)
    if original > max(family.first):
        options["original_max_position_embeddings"] = 256
        options["rope_parameters"] = options["rope_parameters"] | dict(original_max_position_embeddings=256)
    return changed(family, options)


def changed(family, options):
    """With other options, and as many RoPE factors as these need."""
    options = family.options | options
    rope = options.get("rope_parameters", {})
    if "long_factor" in rope:
        n = int(rope["partial_rotary_factor"] * options["hidden_size"] / options["num_attention_heads"]) // 2
        factors = {f"{length}_factor": [1 + step * i for i in range(n)] for length, step in (("long", 0.3), ("short", 0.02))}
        options["rope_parameters"] = rope | factors
    return dataclasses.replace(family, options=options, first=(0, 0))


def variants(family):
    """(name, options) in which the family may differ from its case."""
    o = family.options
    heads = o.get("num_attention_heads")
    tied = family.config(**o).tie_word_embeddings
    if family.arch not in ONE_HEAD:
        yield "untied" if tied else "tied", dict(tie_word_embeddings=not tied)
    for n in {1, 2, heads} if "num_key_value_heads" in o else ():
        if n != o["num_key_value_heads"]:
            yield f"{heads} heads on {n}", dict(num_key_value_heads=n)
    odd = {k: v for k, v in ODD.items() if k in o}
    if family.arch == "stablelm":   # a quarter of each head is rotated
        odd["hidden_size"] = 96
    yield "odd sizes", odd


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


def check_base(args, name, case, base):
    """The F32 file in all three; the ids."""
    ids = np.random.default_rng(3).integers(0, case.config.vocab_size, POSITIONS).tolist()
    with torch.no_grad():
        reference = to_numpy(case.model(torch.tensor([ids])).logits[0])
    ours, top = check_file(args, name, base, ids)
    judge(f"{name}: logits against transformers, max |d|", np.abs(ours - reference).max(), LOGITS)
    judge(f"{name}: other top token in llama.cpp, share", 1 - top, 1 - TOP)
    return ids


def check_variants(args, name):
    family = larger(FAMILIES[name])
    for what, options in variants(family):
        case = Case(name, changed(family, options), lambda cols: cols**-0.5)
        write_model(case, args.work / "variant.gguf")
        check_base(args, f"{name}, {what}", case, args.work / "variant.gguf")


def check_case(args, name, add_vocabulary):
    case = Case(name, larger(FAMILIES[name]), lambda cols: cols**-0.5)
    base, adapter = args.work / "base.gguf", args.work / "adapter.gguf"
    write_model(case, base, add_vocabulary)
    write_adapter(case, adapter)
    ids = check_base(args, f"{name} F32", case, base)
    _, top = check_file(args, f"{name} base + adapter", base, ids, adapter)
    judge(f"{name} base + adapter: other top token in llama.cpp, share", 1 - top, 1 - TOP)
    for kind in ("F16", "Q4_0"):
        merged = args.work / f"merged-{kind}.gguf"
        subprocess.run([args.loquat, "merge", base, "--lora", adapter, "--output", merged, "--type", kind],
                       check=True, capture_output=True)
        ours, top = check_file(args, f"{name} merged {kind}", merged, ids)
        if kind == "Q4_0":
            check_rounded(args, name, merged, top)
            top = same_top(ours, llama_cpp.logits(expand(merged, args.work / "expanded.gguf"), ids))
        judge(f"{name} merged {kind}: other top token in llama.cpp, share", 1 - top, 1 - TOP)
    check_perplexity(args, name, args.work / "merged-F16.gguf")
    if "moe" in name or name == "mixtral":
        check_rounding(args, name, args.work / "merged-Q4_0.gguf")


def check_rounding(args, name, model):
    """Experts' products round what enters them as all others do: check_runtime.py has the models without experts."""
    text, logits, short = args.work / "text.txt", args.work / "logits.kld", ("--ctx-size", "16", "--chunks", "32")
    llama_perplexity(args.llama_bin, ESTIMATE, "-m", model, "-f", text, *short, *EXACT, "--kl-divergence-base", logits)
    exact, rounded = (evaluate(args.loquat, model, None, "--perplexity", text, *short, "--activation-dtype", how,
                               "--kl-divergence-base", logits)["kl_divergence_median"] for how in ("off", "runtime"))
    judge(f"{name} merged Q4_0: median KL {rounded:.1e} with rounded activations, of that with exact ones",
          rounded / exact, ROUNDED)


def check_rounded(args, name, model, same_exact):
    """The file as it is, where llama.cpp rounds activations."""
    print(f"     {name} merged Q4_0: same top token where only llama.cpp rounds activations {100 * same_exact:.1f} %")
    logits, options = args.work / "rounded.kld", ("-f", args.work / "text.txt", "-c", 128, *EXACT)
    llama_perplexity(args.llama_bin, ESTIMATE, "-m", model, *options, "--kl-divergence-base", logits)
    found = evaluate(args.loquat, model, None, "--kl-divergence-base", logits, "--activation-dtype", "runtime")
    judge(f"{name} merged Q4_0: other top token where both round them, share", 1 - found["same_top"], 1 - ROUNDED_TOP)


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
            try:
                check_case(args, name, add_vocabulary)
                check_variants(args, name)
            except (SystemExit, subprocess.CalledProcessError, RuntimeError, ValueError) as error:
                judge.failed += 1
                print(f"FAIL {name}: {error}", flush=True)
    sys.exit(judge.failed > 0)


if __name__ == "__main__":
    main()
