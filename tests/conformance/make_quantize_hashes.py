#!/usr/bin/env python3
"""Makes tests/quantize_hashes.h: SHA-256 of the tensor data that llama-quantize makes of examples/pip-F16.gguf, for some
file types, a few with an importance matrix of simple numbers (check_quantize_file.c makes the same one). All types are
compared by check_quantize.py.

    make_quantize_hashes.py LLAMA_BIN examples/pip-F16.gguf > tests/quantize_hashes.h
"""
import hashlib
import pathlib
import subprocess
import sys
import tempfile

import gguf
import numpy as np

CASES = [("F32", False), ("BF16", False), ("Q4_0", True), ("Q8_0", False), ("Q2_K_S", True), ("Q3_K_M", False),
         ("Q4_K_M", False), ("Q5_K_S", True), ("IQ4_XS", False), ("TQ2_0", False), ("MXFP4_MOE", False)]


def write_imatrix(path, model):
    names = sorted((t.name, int(t.shape[0])) for t in gguf.GGUFReader(model).tensors
                   if t.name.startswith("blk.") and len(t.shape) > 1)
    w = gguf.GGUFWriter(path, "")
    w.kv_data[0].pop("general.architecture", None)
    w.add_string("general.type", "imatrix"), w.add_array("imatrix.datasets", ["t"])
    w.add_uint32("imatrix.chunk_count", 1), w.add_uint32("imatrix.chunk_size", 512)
    for i, (name, cols) in enumerate(names):
        w.add_tensor(name + ".in_sum2", ((np.arange(cols) * 37 + i * 11) % 101 + 1).astype(np.float32))
        w.add_tensor(name + ".counts", np.ones(1, np.float32))
    w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()


def main():
    llama, model = pathlib.Path(sys.argv[1]), sys.argv[2]
    print("/* Made by tests/conformance/make_quantize_hashes.py with llama-quantize. */\n"
          "static const struct { const char *type; bool imatrix; const char *sha256; } quantize_hashes[] = {")
    with tempfile.TemporaryDirectory() as d:
        out, imatrix = pathlib.Path(d, "out.gguf"), pathlib.Path(d, "imatrix.gguf")
        write_imatrix(imatrix, model)
        start = {}  # of the data: the same for all types, some of which gguf does not know
        for t, with_imatrix in [("Q8_0", False), ("Q8_0", True)] + CASES:
            options = ["--imatrix", imatrix] if with_imatrix else []
            subprocess.run([llama / "llama-quantize", *options, model, out, t], check=True, capture_output=True)
            if with_imatrix not in start:
                start[with_imatrix] = gguf.GGUFReader(out).data_offset
                continue
            data = out.read_bytes()[start[with_imatrix]:]
            print(f'    {{"{t}", {str(with_imatrix).lower()},\n     "{hashlib.sha256(data).hexdigest()}"}},')
    print("};")


if __name__ == "__main__":
    main()
