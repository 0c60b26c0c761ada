"""Writes tests/format_hashes.h: what ggml makes of numbers and of bytes that check_format.c can make too.

    format_hashes.py GGML_LIBRARY > tests/format_hashes.h

GGML_LIBRARY is a libggml-base.so for x86-64 (llama.cpp's build, or the one inside an installed
llama-cpp-python or xllamacpp), with its libggml-cpu.so beside it. Per format: FNV-1a-64 of the
blocks of 4 rows of 1024 numbers of every kind, without and with importance weights, and of what
random blocks dequantize to (every NaN taken as the same one). Per rounding of activations and caches: of what
the numbers of every kind become on a CPU with AVX2, -0 taken as 0.
"""
import ctypes
import pathlib
import sys

import numpy as np

TARGETS = {"q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "q2_K": 10, "q3_K": 11, "q4_K": 12,
           "q5_K": 13, "q6_K": 14, "iq4_nl": 20, "iq4_xs": 23, "tq1_0": 34, "tq2_0": 35, "mxfp4": 39,
           "nvfp4": 40, "q1_0": 41, "q2_0": 42}
READ_ONLY = {"iq2_xxs": 16, "iq2_xs": 17, "iq3_xxs": 18, "iq1_s": 19, "iq3_s": 21, "iq2_s": 22, "iq1_m": 29}
ROW, ROWS = 1024, 4
N = ROW * ROWS
ROUNDINGS = {"q8_0": 8, "q8_K": 15, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "iq4_nl": 20}
BLOCKS = 4096  # random bytes per format, in whole blocks


class Traits(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("block", ctypes.c_int64), ("interleave", ctypes.c_int64),
                ("bytes", ctypes.c_size_t), ("is_quantized", ctypes.c_bool), ("to_float", ctypes.c_void_p)]


def draws(n):
    state = 12345
    for _ in range(n):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        yield state


def fnv1a(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


def kinds(x):
    """The kinds of check_format.c, in its order."""
    i = np.arange(N)
    f = np.float32
    yield "golden", x
    yield "zero", 0 * np.abs(x)
    yield "signed zero", np.where(i % 3, f(0), f(-0.0))
    yield "constant", np.full(N, -0.3, np.float32)
    yield "tiny", x * f(2**-27)
    yield "subnormal", x * f(2**-126)
    yield "large", x * f(2**30)
    yield "huge", x * f(2**126)
    yield "ties", ((x.view(np.uint32) + 0x7FFF + (x.view(np.uint32) >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    yield "steps", ((i * 7 % 33 - 16) * 0.5).astype(np.float32)
    yield "outlier", np.where(i % 32 == 17, f(1e4), x * f(2**-10))
    yield "positive", np.abs(x) + f(0.125)
    yield "sparse", np.where(i % 37 == 0, x, f(0))


def pointer(array):
    return array.ctypes.data_as(ctypes.c_void_p)


def blocks_of(ggml, type_id, x, imatrix):
    x = np.ascontiguousarray(x, np.float32)
    out = np.zeros(N * 4, np.uint8)
    n = ggml.ggml_quantize_chunk(type_id, pointer(x), pointer(out), ctypes.c_int64(0), ctypes.c_int64(ROWS),
                                 ctypes.c_int64(ROW), None if imatrix is None else pointer(imatrix))
    return out[:n].tobytes()


def dequantized(ggml, type_id, noise):
    traits = ggml.ggml_get_type_traits(type_id).contents
    n = len(noise) // traits.bytes
    out = np.zeros(n * traits.block, np.float32)
    to_float = (ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(traits.to_float)
                if traits.to_float else ggml.dequantize_row_q8_K)
    to_float(pointer(noise), pointer(out), ctypes.c_int64(out.size))
    out.view(np.uint32)[np.isnan(out)] = 0x7FC00000
    return out


def rounded(ggml, cpu, name, x):
    x = np.ascontiguousarray(x, np.float32)
    traits = ggml.ggml_get_type_traits(ROUNDINGS[name]).contents
    out = np.zeros(N // traits.block * traits.bytes, np.uint8)
    cpu[f"quantize_row_{name}"](pointer(x), pointer(out), ctypes.c_int64(N))
    return dequantized(ggml, ROUNDINGS[name], out) + np.float32(0)


def hash_list(values):
    hashes = [f"0x{fnv1a(bytes(value)):016x}u" for value in values] or ["0"]
    groups = [", ".join(hashes[k:k + 4]) for k in range(0, len(hashes), 4)]
    return "     {" + ",\n      ".join(groups) + "}"


def row(ggml, name, type_id, inputs, imatrix, noise):
    lines = [f'    {{"{name}", 0x{fnv1a(dequantized(ggml, type_id, noise).tobytes()):016x}u']
    for weights in (None, imatrix):
        lines.append(hash_list(blocks_of(ggml, type_id, x, weights) for _, x in inputs))
    return ",\n".join(lines) + "},\n"


def quoted(names):
    names = [f'"{name}"' for name in names]
    return ",\n    ".join(", ".join(names[k:k + 5]) for k in range(0, len(names), 5))


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    ggml = ctypes.CDLL(sys.argv[1])
    cpu = ctypes.CDLL(str(pathlib.Path(sys.argv[1]).with_name("libggml-cpu.so")))
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    ggml.ggml_get_type_traits.restype = ctypes.POINTER(Traits)
    drawn = np.fromiter(draws(4 * N + ROW + BLOCKS * 4), np.uint32)
    x = ((drawn[:4 * N] >> 16).astype(np.int64) - 32768).reshape(N, 4).sum(1).astype(np.float32) * np.float32(2**-20)
    imatrix = ((drawn[4 * N:4 * N + ROW] >> 24) + 1).astype(np.float32) / np.float32(64)
    noise = (drawn[4 * N + ROW:] >> 24).astype(np.uint8)
    inputs = list(kinds(x))
    print(f"""/* Made by conformance/format_hashes.py, which says what these are. */
#ifndef LOQUAT_FORMAT_HASHES_H
#define LOQUAT_FORMAT_HASHES_H

#include <stdint.h>

enum {{ FORMAT_KINDS = {len(inputs)}, FORMAT_NOISE = {len(noise)} }};

static const char *const format_kinds[FORMAT_KINDS] = {{
    {quoted(kind for kind, _ in inputs)},
}};

static const struct format_hashes {{
    const char *name;
    uint64_t dequantized, plain[FORMAT_KINDS], weighted[FORMAT_KINDS];   /* 0: not a target */
}} format_hashes[] = {{""")
    for name, type_id in TARGETS.items():
        print(row(ggml, name, type_id, inputs, imatrix, noise), end="")
    for name, type_id in READ_ONLY.items():
        print(row(ggml, name, type_id, [], imatrix, noise), end="")
    print("""};

static const struct rounding_hashes {
    const char *name;
    uint64_t rounded[FORMAT_KINDS];
} rounding_hashes[] = {""")
    for name in ROUNDINGS:
        print(f'    {{"{name}",\n' + hash_list(rounded(ggml, cpu, name, x) for _, x in inputs) + "},")
    print("};\n\n#endif")


if __name__ == "__main__":
    main()
