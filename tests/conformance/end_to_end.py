#!/usr/bin/env python3
"""Trains a tiny llama with `loquat train` in all modes and has llama.cpp judge what comes out.

    python3 tests/conformance/end_to_end.py LOQUAT MAKE_TINY [--llama-bin DIR] [--llama-source DIR]

LOQUAT and MAKE_TINY (make_tiny) are programs of the build. Needs numpy, gguf, xllamacpp; with --llama-bin (a folder
with llama-perplexity) also perplexities and logits files, with --llama-source (llama.cpp's tree; needs safetensors,
torch, transformers) also an adapter made by its converter. Checks:
  * llama.cpp loads every merged file and base + adapter, and on the same weights in F32 its logits are Loquat's;
  * `evaluate --data` on the exported files gives the very loss that the run recorded as its best;
  * `evaluate --perplexity` agrees with llama-perplexity; each reads the logits file that the other wrote;
  * an adapter from convert_lora_to_gguf.py means the same to both.
"""
import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import numpy as np

import llama_cpp
from expand import expand
from perplexity import ESTIMATE, EXACT, NUMBER, llama_perplexity

LOGITS, LOSS, PERPLEXITY, DIVERGENCE = 1e-3, 1e-6, 1e-3, 2e-2  # absolute; relative; relative; relative
WORDS = "the and in on her he red sea salt ship stone story lost alone hollow island thunder dinner".split()
IDS = [1, 270, 300, 310, 261, 275, 280, 264, 299, 305, 3, 77, 4]


class Judge:
    def __init__(self):
        self.failed = 0

    def __call__(self, what, found, bound):
        good = found <= bound  # NaN is not
        self.failed += not good
        print(f"{'ok  ' if good else 'FAIL'} {what}: {found:.3g} (at most {bound:g})", flush=True)


judge = Judge()


def run(*command):
    done = subprocess.run([str(x) for x in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done


def sentence(rng):
    return " ".join(rng.choices(WORDS, k=rng.randint(4, 12)))


def write_data(work):
    rng = random.Random(7)
    for name, n in (("train", 48), ("valid", 12)):
        lines = [json.dumps({"prompt": sentence(rng) + " :", "completion": " " + sentence(rng)}) for _ in range(n)]
        (work / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    (work / "text.txt").write_text("\n".join(sentence(rng) for _ in range(400)) + "\n")


def loras(adapter):
    return ["--lora", adapter] if adapter else []


def our_logits(loquat, model, adapter=None):
    with tempfile.TemporaryDirectory() as d:
        run(loquat, "logits", model, *loras(adapter), "--ids", " ".join(map(str, IDS)), "--output", f"{d}/x.npy")
        return np.load(f"{d}/x.npy")


def evaluate(loquat, model, adapter, *options):
    return json.loads(run(loquat, "evaluate", model, *loras(adapter), "--json", *options).stdout)


def train(loquat, base, work, name, *options):
    out = work / name
    run(loquat, "train", "--base-model", base, "--datasets", f"[{{path: {work}/train.jsonl}}]",
        "--test-datasets", f"[{{path: {work}/valid.jsonl}}]", "--output-dir", out, "--max-steps", "24",
        "--learning-rate", "3e-3", "--micro-batch-size", "4", "--gradient-accumulation-steps", "1",
        "--sequence-len", "128", "--dataset-prepared-path", work / "cache", *options)
    return json.loads((out / "run.json").read_text())


def artifacts(record, kind):
    return {a["type"]: pathlib.Path(a["path"]) for a in record["artifacts"] if a["kind"] == kind}


def only(found):
    (path,) = found.values()
    return path


def number_in_llama(tools, model, wanted, *options):
    return float(llama_perplexity(tools, wanted, "-m", model, "-c", 128, *EXACT, *options).group(1))


def check_logits(args, name, model, adapter=None):
    """The file as it is loads in llama.cpp; expanded to F32 it gives our logits."""
    ours = our_logits(args.loquat, model, adapter)
    rounded = llama_cpp.logits(model, IDS, adapter)
    expanded = expand(model, args.work / f"{name}-expanded.gguf")
    exact = llama_cpp.logits(expanded, IDS, adapter)
    judge(f"{name}: logits, llama.cpp on F32 weights against Loquat, max |d|", np.abs(ours - exact).max(), LOGITS)
    print(f"     {name}: llama.cpp on the file itself, with its rounded activations: max |d| "
          f"{np.abs(ours - rounded).max():.3g} of logits with deviation {ours.std():.3g}")
    judge(f"{name}: tokens that are not finite in llama.cpp", np.sum(~np.isfinite(rounded)), 0)
    return expanded


def check_loss(args, name, record, model, adapter=None):
    found = evaluate(args.loquat, model, adapter, "--data", args.work / "valid.jsonl")["loss"]
    best = record["best_eval_loss"]
    judge(f"{name}: loss of the exported file against the validated one, relative", abs(found / best - 1), LOSS)


def check_perplexity(args, name, model, expanded, adapter=None):
    if not args.llama_bin:
        return
    text = args.work / "text.txt"
    ours = evaluate(args.loquat, model, adapter, "--perplexity", text, "--ctx-size", "128")["perplexity"]
    theirs = number_in_llama(args.llama_bin, expanded, ESTIMATE, "-f", text, *loras(adapter))
    judge(f"{name}: perplexity {ours:.4f} against llama-perplexity, relative", abs(ours / theirs - 1), PERPLEXITY)


def check_logits_files(args, full, quantized):
    """The divergence of `quantized` from `full` (both F32 files) by both programs, from either's logits file."""
    text, ours, theirs = args.work / "text.txt", args.work / "ours.kld", args.work / "theirs.kld"
    evaluate(args.loquat, full, None, "--perplexity", text, "--ctx-size", "128", "--save-all-logits", ours)
    number_in_llama(args.llama_bin, full, ESTIMATE, "-f", text, "--save-all-logits", theirs)
    for name, file in (("Loquat's", ours), ("llama-perplexity's", theirs)):
        a = evaluate(args.loquat, quantized, None, "--perplexity", text, "--ctx-size", "128", "--kl-divergence-base", file)
        options = ("--kl-divergence", "--kl-divergence-base", file)
        b = number_in_llama(args.llama_bin, quantized, "Mean +KLD:" + NUMBER, *options)
        top = number_in_llama(args.llama_bin, quantized, "Same top p:" + NUMBER, *options)
        judge(f"divergence {a['kl_divergence']:.6f} from {name} logits file, against llama-perplexity, relative",
              abs(a["kl_divergence"] / b - 1), DIVERGENCE)
        judge("  same top token, difference in %", abs(100 * a["same_top"] - top), 0.1)


def check_merged(args, name, record):
    files = {}
    for kind, path in artifacts(record, "merged").items():
        files[kind] = check_logits(args, f"{name} {kind}", path)
        check_perplexity(args, f"{name} {kind}", path, files[kind])
    return files


def check_plain(args):
    record = train(args.loquat, args.base, args.work, "plain", "--export.quantize", "[F32, F16, Q8_0, Q4_0]",
                   "--export.lora", "true", "--export.outtype", "f32")
    files = check_merged(args, "plain", record)
    check_loss(args, "plain F32", record, artifacts(record, "merged")["F32"])
    adapter = only(artifacts(record, "adapter"))
    check_logits(args, "plain adapter", args.base, adapter)
    check_loss(args, "plain adapter", record, args.base, adapter)
    if args.llama_bin:
        check_logits_files(args, files["F32"], files["Q4_0"])


def check_qat_merged(args, dtype):
    name = f"merged-{dtype}"
    record = train(args.loquat, args.base, args.work, name, "--qat.weight_dtype", dtype, "--qat.mode", "merged")
    check_merged(args, name, record)
    check_loss(args, name, record, only(artifacts(record, "merged")))


def check_qat_separate(args, dtype):
    name = f"separate-{dtype}"
    record = train(args.loquat, args.base, args.work, name, "--qat.weight_dtype", dtype, "--qat.mode", "separate",
                   "--export.outtype", "f32")
    base, adapter = only(artifacts(record, "base")), only(artifacts(record, "adapter"))
    expanded = check_logits(args, name, base, adapter)
    check_loss(args, name, record, base, adapter)
    check_perplexity(args, name, base, expanded, adapter)


def check_converter(args):
    """A PEFT adapter through llama.cpp's converter: both programs read the file the same way."""
    import peft_adapter
    peft_adapter.write(args.base, args.work / "hf", args.work / "peft")
    out = args.work / "converted.gguf"
    run(sys.executable, args.llama_source / "convert_lora_to_gguf.py", "--base", args.work / "hf", "--outtype", "f32",
        "--outfile", out, args.work / "peft")
    moved = np.abs(our_logits(args.loquat, args.base, out) - our_logits(args.loquat, args.base)).max()
    judge("converted adapter: it changes the logits, 1 / max |d|", 1 / moved, 10)
    check_logits(args, "converted adapter", args.base, out)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("loquat")
    p.add_argument("make_tiny")
    p.add_argument("--llama-bin", type=pathlib.Path)
    p.add_argument("--llama-source", type=pathlib.Path)
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as work:
        args.work = pathlib.Path(work)
        args.base = args.work / "tiny.gguf"
        run(args.make_tiny, args.base)
        write_data(args.work)
        check_plain(args)
        for dtype in ("q4_0", "q8_0"):
            check_qat_merged(args, dtype)
            check_qat_separate(args, dtype)
        if args.llama_source:
            check_converter(args)
    sys.exit(judge.failed > 0)


if __name__ == "__main__":
    main()
