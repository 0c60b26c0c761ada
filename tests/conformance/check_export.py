#!/usr/bin/env python3
"""Merges a random adapter with `loquat merge` and judges the files by llama.cpp's own code.

    python3 tests/conformance/check_export.py LOQUAT MODEL.gguf LLAMA_BIN [TEXT]

MODEL is a llama GGUF in F32 or F16; LLAMA_BIN a folder with llama-export-lora and llama-perplexity;
TEXT (optional) a text for the perplexities. Needs numpy and gguf. Checks:
  * the adapter is read as llama.cpp reads it: merged F16 equals llama-export-lora's within an F16 step;
  * Q8_0 and Q4_0 files hold exactly what gguf's own quantizer makes of W + s B A in F32;
  * llama.cpp loads every file, and base + adapter has the merged file's perplexity.
"""
import pathlib
import subprocess
import sys
import tempfile

import gguf
import numpy as np

from perplexity import ESTIMATE, EXACT, llama_perplexity

LINEARS = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
RANK, ALPHA = 4, 8.0


def tensors(path):
    return {t.name: t for t in gguf.GGUFReader(path).tensors}


def values(t):
    return gguf.quants.dequantize(t.data, t.tensor_type).reshape(tuple(reversed(t.shape.tolist())))


def write_adapter(path, base):
    rng = np.random.default_rng(1)
    w = gguf.GGUFWriter(path, "llama")
    w.add_string("general.type", "adapter")
    w.add_string("adapter.type", "lora")
    w.add_float32("adapter.lora.alpha", ALPHA)
    pairs = {}
    for name, t in base.items():
        if not any(name.endswith(f".{x}.weight") for x in LINEARS):
            continue
        cols, rows = t.shape.tolist()
        a = (rng.standard_normal((RANK, cols)) / cols**0.5).astype(np.float32)
        b = (0.1 * rng.standard_normal((rows, RANK))).astype(np.float32)
        w.add_tensor(name + ".lora_a", a)
        w.add_tensor(name + ".lora_b", b)
        pairs[name] = (a, b)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return pairs


def perplexity(llama, model, text, *more):
    return float(llama_perplexity(llama, ESTIMATE, "-m", model, "-f", text, "-c", 128, "--chunks", 16, *EXACT, *more).group(1))


def check_values(name, path, pairs, base, kind):
    """Every adapted matrix against W + s B A in double: F32 within rounding, others block by block."""
    same = total = 0
    for key, t in tensors(path).items():
        if key not in pairs:
            continue
        a, b = pairs[key]
        want = values(base[key]).astype(np.float64) + ALPHA / RANK * (b.astype(np.float64) @ a)
        want = want.astype(np.float32)
        if t.tensor_type == gguf.GGMLQuantizationType.F32:
            assert np.max(np.abs(values(t) - want)) <= 1e-6 * np.max(np.abs(want)), key
            continue
        if t.tensor_type != kind:  # no block divides the row
            assert t.tensor_type == gguf.GGMLQuantizationType.F16, f"{name}: {key}: {t.tensor_type}"
        raw = gguf.quants.quantize(want, t.tensor_type).view(np.uint8).reshape(-1)
        got = t.data.view(np.uint8).reshape(-1)
        assert raw.size == got.size, f"{name}: {key} has {got.size} bytes, wanted {raw.size}"
        block = gguf.GGML_QUANT_SIZES[t.tensor_type][1]
        equal = (raw.reshape(-1, block) == got.reshape(-1, block)).all(axis=1)
        same += int(equal.sum())
        total += equal.size
    print(f"{name}: {same} of {total} blocks equal gguf's quantizer on W + s B A in double")
    assert total == 0 or same >= 0.99 * total, "more than a sum's last bit differs"


def main():
    loquat, model, llama = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
    text = sys.argv[4] if len(sys.argv) > 4 else None
    base = tensors(model)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        adapter = folder / "adapter.gguf"
        pairs = write_adapter(adapter, base)
        merged = {}
        for kind in ("F32", "F16", "Q8_0", "Q4_0"):
            merged[kind] = folder / f"merged-{kind}.gguf"
            subprocess.run([loquat, "merge", model, "--lora", adapter, "--output", merged[kind],
                            "--type", kind], check=True)
            check_values(kind, merged[kind], pairs, base, gguf.GGMLQuantizationType[kind])
        theirs = folder / "theirs.gguf"
        subprocess.run([llama / "llama-export-lora", "-m", model, "--lora", adapter, "-o", theirs],
                       check=True, capture_output=True)
        ours, worst = tensors(merged["F16"]), 0.0
        for key, t in tensors(theirs).items():
            if key in pairs:
                x, y = values(t).astype(np.float32), values(ours[key]).astype(np.float32)
                worst = max(worst, float(np.max(np.abs(x - y) / (np.abs(x) + 1e-3))))
        print(f"F16 against llama-export-lora: largest relative difference {worst:.2g}")
        assert worst < 2e-3
        if text:
            separate = perplexity(llama, model, text, "--lora", adapter)
            for kind, path in merged.items():
                print(f"perplexity {kind}: {perplexity(llama, path, text):.4f}; "
                      f"base and adapter: {separate:.4f}")
            assert abs(perplexity(llama, merged["F32"], text) / separate - 1) < 1e-3
    print("ok")


if __name__ == "__main__":
    main()
