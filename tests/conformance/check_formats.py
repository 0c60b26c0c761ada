"""Compares Loquat's quantizers with ggml's own, byte for byte.

    check_formats.py QUANTIZE_ROWS GGML_LIBRARY

QUANTIZE_ROWS is the program built from quantize_rows.c, GGML_LIBRARY a libggml-base.so (llama.cpp's build, or
the one inside an installed llama-cpp-python or xllamacpp). By hand, not part of the test suite.
"""
import ctypes
import subprocess
import sys

import numpy as np

TYPES = {"f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "q2_K": 10, "q3_K": 11, "q4_K": 12,
         "q5_K": 13, "q6_K": 14, "iq4_nl": 20, "iq4_xs": 23, "bf16": 30, "tq1_0": 34, "tq2_0": 35,
         "mxfp4": 39, "nvfp4": 40, "q1_0": 41, "q2_0": 42}
ROW, ROWS = 1024, 256


def inputs(rng):
    """Name and (ROWS, ROW) float32 rows: ordinary, tie-rich, tiny, huge, flat, with an outlier."""
    normal = rng.standard_normal((ROWS, ROW)).astype(np.float32)
    bits = normal.view(np.uint32)
    yield "normal", normal
    yield "bf16-rounded", (bits & 0xFFFF0000).view(np.float32)
    yield "half steps", (rng.integers(-16, 17, (ROWS, ROW)) / 2).astype(np.float32)
    yield "tiny", normal * np.float32(1e-8)
    yield "subnormal", normal * np.float32(1e-39)
    yield "huge", normal * np.float32(5e37)
    yield "zero", np.zeros((ROWS, ROW), np.float32)
    yield "constant", np.full((ROWS, ROW), -0.3, np.float32)
    outlier = normal * np.float32(1e-3)
    outlier[:, 17::32] = 1e4
    yield "outlier", outlier


def ggml_blocks(ggml, type_id, x, imatrix):
    out = np.zeros(x.size * 4, np.uint8)
    pointer = ctypes.POINTER(ctypes.c_float)
    weights = imatrix.ctypes.data_as(pointer) if imatrix is not None else None
    n = ggml.ggml_quantize_chunk(type_id, x.ctypes.data_as(pointer), out.ctypes.data_as(ctypes.c_void_p),
                                 ctypes.c_int64(0), ctypes.c_int64(ROWS), ctypes.c_int64(ROW), weights)
    return out[:n].tobytes()


def loquat_blocks(program, name, x, imatrix):
    weights = imatrix.tobytes() if imatrix is not None else b""
    args = [program, name, str(ROWS), str(ROW), "weighted" if weights else "plain"]
    return subprocess.run(args, input=weights + x.tobytes(), stdout=subprocess.PIPE, check=True).stdout


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    program, library = sys.argv[1:]
    ggml = ctypes.CDLL(library)
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    rng = np.random.default_rng(1)
    failures = 0
    for kind, x in inputs(rng):
        x = np.ascontiguousarray(x)
        for name, type_id in TYPES.items():
            sparse = np.where(rng.random(ROW) < 0.9, 0, rng.random(ROW)).astype(np.float32)
            for imatrix in (None, rng.random(ROW, np.float32) * 4, sparse):
                same = ggml_blocks(ggml, type_id, x, imatrix) == loquat_blocks(program, name, x, imatrix)
                failures += not same
                label = f"{name} {'weighted' if imatrix is not None else 'plain'}, {kind}"
                print("same     " if same else "DIFFERENT", label)
    sys.exit(f"{failures} differ" if failures else 0)


if __name__ == "__main__":
    main()
