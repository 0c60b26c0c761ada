#!/usr/bin/env python3
"""Loquat's PiSSA against numpy's singular value decomposition, on every linear of a real model: how much of W the best part
of rank r holds and Loquat's holds, and how far the two products are apart. Loquat's is randomized where the model is large
beside r: there the part must be as good, and where neighbouring singular values are equal it is not the same one.

  check_pissa.py LOQUAT MODEL.gguf DATA.jsonl
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile

import gguf
import numpy as np

LEAST_SHARE = 0.999   # of the energy that the best part holds
SAME = 1e-4           # of |W|, where the decomposition is exact: r + 8 a quarter of the smaller side


def tensors(path):
    return {t.name: gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float64).reshape(t.shape[::-1])
            for t in gguf.GGUFReader(path).tensors}


def started(loquat, model, data, rank, work):
    """s B A of every weight as it starts: the run's only step moves nothing."""
    out = work / f"run-{rank}"
    config = work / "run.yaml"
    config.write_text(f"base_model: {model}\ndata: {data}\noutput_dir: {out}\nlora_r: {rank}\ninit_lora_weights: pissa\n"
                      "qat: {weight_dtype: f32, mode: separate}\nmax_steps: 1\nlearning_rate: 1e-30\nval_set_size: 0\n"
                      "micro_batch_size: 1\nsequence_len: 64\nexcess_length_strategy: truncate\n")
    done = subprocess.run([loquat, "train", config], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    file = next(out.glob("*LoRA.gguf"))
    scale = gguf.GGUFReader(file).get_field("adapter.lora.alpha").contents() / rank
    halves = tensors(file)
    return {name[:-len(".lora_a")]: scale * halves[name[:-1] + "b"] @ a for name, a in halves.items() if name.endswith("a")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("loquat")
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("data", type=pathlib.Path)
    options = parser.parse_args()
    weights, bad = tensors(options.model), 0
    with tempfile.TemporaryDirectory() as work:
        for rank in (4, 16, 64):
            least, furthest, n_exact = 1.0, 0.0, 0
            parts = started(options.loquat, options.model.resolve(), options.data.resolve(), rank, pathlib.Path(work))
            for name, part in parts.items():
                u, s, v = np.linalg.svd(weights[name], full_matrices=False)
                best = (u[:, :rank] * s[:rank]) @ v[:rank]
                total = np.sum(s**2)
                kept = total - np.sum((weights[name] - part)**2)
                least = min(least, kept / np.sum(s[:rank]**2))
                if min(weights[name].shape) <= 4 * (rank + 8):
                    furthest = max(furthest, np.linalg.norm(part - best) / np.linalg.norm(s))
                    n_exact += 1
            ok = least >= LEAST_SHARE and furthest <= SAME
            bad += not ok
            print(f"rank {rank}: {len(parts)} weights, at least {least:.6f} of the best part's energy; {n_exact} decomposed "
                  f"exactly, off by at most {furthest:.1e} of |W|{'' if ok else '  <- BAD'}")
    return bad != 0


if __name__ == "__main__":
    sys.exit(main())
