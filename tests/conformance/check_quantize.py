#!/usr/bin/env python3
"""`loquat quantize` against llama-quantize: whole files, byte for byte, over every file type, with and without an
importance matrix, and with its options; `loquat imatrix` against llama-imatrix. Also that llama.cpp reads the files.

    check_quantize.py LOQUAT LLAMA_BIN [--models FILE.gguf...] [--text FILE] [--quick]
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile

import gguf
import numpy as np

TYPES = ("F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q2_K_S Q3_K_S Q3_K_M Q3_K_L Q4_K_S Q4_K_M Q5_K_S Q5_K_M Q6_K "
         "IQ4_NL IQ4_XS TQ1_0 TQ2_0 MXFP4_MOE Q1_0 Q2_0").split()
FEW = "Q4_0 Q8_0 Q2_K Q3_K_L Q4_K_M Q6_K IQ4_XS".split()
OPTIONS = [
    ["--pure"], ["--leave-output-tensor"], ["--token-embedding-type", "q8_0", "--output-tensor-type", "q4_0"],
    ["--output-tensor-type", "q5_0"], ["--tensor-type", r"attn_(q|k)=q8_0", "--tensor-type", r"blk\.1\.ffn_down=f16"],
]
# name: layers, width, feed-forward, heads, key heads, experts, tied
SHAPES = {
    "wide": (1, 2048, 5632, 32, 4, 0, False), "tied": (10, 256, 768, 4, 4, 0, True),
    "odd": (3, 160, 432, 4, 2, 0, False), "experts": (4, 256, 256, 8, 2, 8, False),
}


def copy_vocabulary(w, path):
    for key, field in gguf.GGUFReader(path).fields.items():
        if key.startswith("tokenizer."):
            sub = field.types[1] if len(field.types) > 1 else None
            w.add_key_value(key, field.contents(), field.types[0], sub)
    return len(gguf.GGUFReader(path).fields["tokenizer.ggml.tokens"].data)


def write_model(path, layers, width, ff, heads, kv, experts, tied, tokenizer=None):
    rng = np.random.default_rng(7)
    w = gguf.GGUFWriter(path, "llama")
    w.add_block_count(layers), w.add_context_length(512), w.add_embedding_length(width)
    w.add_feed_forward_length(ff), w.add_head_count(heads), w.add_head_count_kv(kv)
    vocab = copy_vocabulary(w, tokenizer) if tokenizer else 320
    w.add_layer_norm_rms_eps(1e-5), w.add_vocab_size(vocab)
    if experts:
        w.add_expert_count(experts), w.add_expert_used_count(2)

    def add(name, *sizes):
        x = rng.standard_normal(sizes, dtype=np.float32) * np.float32(0.05)
        if len(sizes) > 1:
            x[..., rng.integers(0, sizes[-1], 4)] *= 9  # outliers
            x[..., 0, :] = 0
        w.add_tensor(name, x)

    add("token_embd.weight", vocab, width), add("output_norm.weight", width)
    if not tied:
        add("output.weight", vocab, width)
    for i in range(layers):
        b = f"blk.{i}."
        add(b + "attn_norm.weight", width), add(b + "ffn_norm.weight", width)
        add(b + "attn_q.weight", width, width), add(b + "attn_output.weight", width, width)
        add(b + "attn_k.weight", width // heads * kv, width), add(b + "attn_v.weight", width // heads * kv, width)
        if experts:
            add(b + "ffn_gate_inp.weight", experts, width)
            add(b + "ffn_gate_exps.weight", experts, ff, width), add(b + "ffn_up_exps.weight", experts, ff, width)
            add(b + "ffn_down_exps.weight", experts, width, ff)
        else:
            add(b + "ffn_gate.weight", ff, width), add(b + "ffn_up.weight", ff, width)
            add(b + "ffn_down.weight", width, ff)
    w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()


def write_imatrix(path, model, old):
    """Random statistics of every linear but one; with `old` in the older format."""
    rng = np.random.default_rng(8)
    entries = {}
    for t in gguf.GGUFReader(model).tensors:
        if t.name.startswith("blk.") and len(t.shape) > 1 and t.name != "blk.0.attn_q.weight":
            matrices = int(t.shape[2]) if len(t.shape) > 2 else 1
            entries[t.name] = (rng.random((matrices, int(t.shape[0])), dtype=np.float32) ** 4 * 1000, matrices)
    if old:
        with open(path, "wb") as f:
            f.write(np.int32(len(entries)).tobytes())
            for name, (sums, _) in entries.items():
                f.write(np.int32(len(name)).tobytes() + name.encode() + np.int32([7, sums.size]).tobytes() + sums.tobytes())
            f.write(np.int32([7, 8]).tobytes() + b"text.txt")
        return
    w = gguf.GGUFWriter(path, "")
    w.kv_data[0].pop("general.architecture", None)
    w.add_string("general.type", "imatrix"), w.add_array("imatrix.datasets", ["text.txt"])
    w.add_uint32("imatrix.chunk_count", 12), w.add_uint32("imatrix.chunk_size", 512)
    for name, (sums, matrices) in entries.items():
        counts = np.arange(matrices, dtype=np.float32)[:, None] * 100 + (0 if matrices > 1 else 512)
        w.add_tensor(name + ".in_sum2", sums), w.add_tensor(name + ".counts", counts)
    w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()


class Check:
    def __init__(self, a, work):
        self.a, self.work, self.failed, self.n = a, work, [], 0

    def run(self, *command):
        return subprocess.run(list(map(str, command)), capture_output=True, text=True)

    def compare(self, what, model, file_type, options):
        ours, theirs = self.work / "ours.gguf", self.work / "theirs.gguf"
        for p in (ours, theirs):
            p.unlink(missing_ok=True)
        b = self.run(f"{self.a.llama}/llama-quantize", *options, model, theirs, file_type)
        a = self.run(self.a.loquat, "quantize", model, ours, file_type, *options)
        self.n += 1
        if b.returncode == 0 and a.returncode == 0 and ours.read_bytes() == theirs.read_bytes():
            return
        if b.returncode != 0 and a.returncode != 0 and not ours.exists():
            return  # both refuse
        self.failed.append(what)
        print(f"DIFFERENT: {what}: loquat {a.returncode} {a.stderr.strip()[-200:]}; llama-quantize {b.returncode} "
              f"{(b.stdout + b.stderr)[-200:] if b.returncode else ''} {self.first_difference(ours, theirs)}")

    def first_difference(self, ours, theirs):
        if not ours.exists() or not theirs.exists():
            return ""
        try:
            a, b = gguf.GGUFReader(ours), gguf.GGUFReader(theirs)
        except ValueError as e:
            return str(e)  # a type that gguf does not know
        for x, y in zip(a.tensors, b.tensors):
            if x.name != y.name or x.tensor_type != y.tensor_type:
                return f"{x.name} {x.tensor_type.name}, {y.name} {y.tensor_type.name}"
            if not np.array_equal(x.data, y.data):
                return f"{x.name} {x.tensor_type.name}: {np.count_nonzero(x.data != y.data)} of {x.data.size} bytes"
        return "the keys"

    def model(self, name, path):
        few = self.a.quick or name == "wide"
        imatrix, old = self.work / "imatrix.gguf", self.work / "imatrix.dat"
        write_imatrix(imatrix, path, False), write_imatrix(old, path, True)
        for t in FEW if name == "wide" else TYPES:
            self.compare(f"{name} {t}", path, t, [])
            self.compare(f"{name} {t} imatrix", path, t, ["--imatrix", imatrix])
        for o in OPTIONS:
            for t in ("Q4_K_M",) if few else ("F16", "Q4_0", "Q8_0", "Q4_K_M", "Q2_K", "IQ4_XS"):
                self.compare(f"{name} {t} {' '.join(o)}", path, t, o)
        self.compare(f"{name} old imatrix", path, "Q4_K_M", ["--imatrix", old])
        again = self.work / "q8.gguf"
        self.run(f"{self.a.llama}/llama-quantize", path, again, "Q8_0")
        self.compare(f"{name} requantize", again, "Q4_K_M", ["--allow-requantize"])
        self.compare(f"{name} requantize refused", again, "Q4_K_M", [])
        print(f"{name}: done", flush=True)

    def imatrix(self, model):
        ours, theirs = self.work / "ours.gguf", self.work / "theirs.gguf"
        for extra in [], ["--process-output"]:
            a = self.run(self.a.loquat, "imatrix", model, "--file", self.a.text, "--output", ours, "--ctx-size", 128,
                         "--chunks", 8, *extra)
            b = self.run(f"{self.a.llama}/llama-imatrix", "-m", model, "-f", self.a.text, "-o", theirs, "-c", 128,
                         "--chunks", 8, "-fa", "off", "-ctk", "f32", "-ctv", "f32", *extra)
            if a.returncode or b.returncode:
                self.failed.append(f"imatrix of {model}: {a.stderr} {b.stderr[-300:]}")
                continue
            x, y = gguf.GGUFReader(ours), gguf.GGUFReader(theirs)
            same = [t.name for t in x.tensors] == [t.name for t in y.tensors] and all(
                x.fields[k].contents() == y.fields[k].contents() for k in y.fields if "." in k and "GGUF" not in k)
            worst = max(float(np.max(np.abs(p.data - q.data) / (q.data + q.data.mean() / 100)))
                        for p, q in zip(x.tensors, y.tensors)) if same else 1.0
            print(f"imatrix of {pathlib.Path(model).name}: largest relative difference {worst:.1e}")
            if not worst < 5e-3:
                self.failed.append(f"imatrix of {model}")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("loquat"), p.add_argument("llama"), p.add_argument("--models", nargs="*", default=[])
    p.add_argument("--text"), p.add_argument("--quick", action="store_true")
    p.add_argument("--types", nargs="*")
    a = p.parse_args()
    if a.types:
        TYPES[:] = a.types
    with tempfile.TemporaryDirectory() as d:
        check = Check(a, pathlib.Path(d))
        for name, shape in SHAPES.items():
            path = check.work / f"{name}.gguf"
            write_model(path, *shape)
            check.model(name, path)
            path.unlink()
        for m in a.models:
            check.model(pathlib.Path(m).name, m)
            if a.text:
                check.imatrix(m)
        if a.text:
            write_model(check.work / "experts.gguf", 2, 256, 512, 8, 2, 4, False, a.models[0])
            check.imatrix(check.work / "experts.gguf")
    print(f"{check.n} files compared, {len(check.failed)} differ")
    sys.exit(bool(check.failed))


if __name__ == "__main__":
    main()
