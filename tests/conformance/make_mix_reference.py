#!/usr/bin/env python3
"""Makes tests/mix_reference.h: which types llama.cpp's own rules give the tensors of models of many shapes, for every
file type. Its functions for this are C++ without a header to install, so their names are mangled.

    python3 tests/conformance/make_mix_reference.py LLAMA_BIN > tests/mix_reference.h
"""
import ctypes as c
import pathlib
import re
import sys

U32 = c.c_uint32
# architecture, layers, heads, key heads, experts, tied, fused QKV, width, width of the feed-forward block
MODELS = [
    ("llama", 16, 8, 8, 0, 1, 0, 256, 512), ("llama", 22, 8, 2, 0, 0, 0, 256, 512),
    ("llama", 80, 8, 2, 0, 0, 0, 256, 512), ("llama", 80, 8, 8, 0, 0, 0, 256, 512),
    ("llama", 32, 8, 2, 8, 0, 0, 256, 512), ("llama", 5, 8, 2, 4, 1, 0, 256, 512),
    ("falcon", 24, 8, 8, 0, 0, 1, 256, 512), ("falcon", 32, 8, 1, 0, 1, 0, 256, 512),
    ("qwen2", 28, 14, 2, 0, 1, 0, 224, 1216), ("gemma3", 26, 4, 1, 0, 1, 0, 1152, 6912),
    ("llama", 3, 4, 4, 0, 0, 0, 72, 176), ("gpt2", 12, 12, 12, 0, 1, 1, 256, 1024),
    ("glm5-next", 9, 8, 8, 8, 0, 0, 256, 512), ("bailingmoe3", 9, 8, 2, 16, 0, 0, 256, 512),
]
FILE_TYPES = [0, 1, 32, 2, 3, 8, 9, 7, 10, 21, 11, 12, 13, 14, 15, 16, 17, 18, 25, 30, 36, 37, 38, 40, 41]
Q1_0, Q2_K_S = 40, 21


class Description(c.Structure):
    _fields_ = [("arch", c.c_char_p)] + [(n, U32) for n in (
        "n_embd", "n_ff", "n_layer", "n_head", "n_head_kv", "n_expert", "head_k", "head_v")]


class Parameters(c.Structure):
    _fields_ = [("n_threads", c.c_int32), ("ftype", c.c_int), ("output", c.c_int), ("embedding", c.c_int)]
    _fields_ += [(n, c.c_bool) for n in ("requantize", "quantize_output", "copy", "pure", "split", "dry")]
    _fields_ += [(n, c.c_void_p) for n in ("imatrix", "kv", "types", "prune")] + [("buffer", c.c_size_t)]


class Init(c.Structure):
    _fields_ = [("size", c.c_size_t), ("memory", c.c_void_p), ("no_alloc", c.c_bool)]


def tensors(arch, layers, experts, tied, fused, width, ff):
    """(name, sizes) in the order of the file."""
    rows = [("token_embd.weight", (width, 2))] + ([] if tied else [("output.weight", (width, 2))])
    for i in range(layers):
        attention = ["attn_qkv"] if fused else ["attn_q", "attn_k", "attn_v"]
        rows += [(f"blk.{i}.{n}.weight", (width, 2)) for n in attention + ["attn_output"]]
        rows += [(f"blk.{i}.attn_norm.weight", (width,)), (f"blk.{i}.attn_q_a.weight", (width, 2))]
        if experts:
            rows += [(f"blk.{i}.ffn_gate_inp.weight", (width, 2))]
            rows += [(f"blk.{i}.ffn_{n}_exps.weight", (ff if n == "down" else width, 2, 2))
                     for n in ("gate", "up", "down")]
        else:
            rows += [(f"blk.{i}.ffn_{n}.weight", (ff if n == "down" else width, 2)) for n in ("gate", "up", "down")]
    return rows


def layer_and_name(row):
    layer = re.match(r"blk\.(\d+)\.", row[0])
    return (int(layer[1]) if layer else -1, row[0])


class Llama:
    def __init__(self, folder):
        self.base = c.CDLL(str(folder / "libggml-base.so"), mode=c.RTLD_GLOBAL)
        self.lib = c.CDLL(str(folder / "libllama.so"), mode=c.RTLD_GLOBAL)
        self.log = c.CFUNCTYPE(None, c.c_int, c.c_char_p, c.c_void_p)(lambda *_: None)
        self.lib.llama_log_set(self.log, None)
        self.lib.llama_model_quantize_default_params.restype = Parameters
        self.make = self.lib._Z31llama_quant_model_from_metadataPK22llama_quant_model_desc
        self.init = self.lib._Z16llama_quant_initPK11llama_modelPK27llama_model_quantize_params
        self.allows = self.lib._Z38llama_quant_tensor_allows_quantizationPK19quantize_state_implPK11ggml_tensor
        self.compute = self.lib._Z25llama_quant_compute_typesP19quantize_state_impl11llama_ftypePP11ggml_tensorP9ggml_typem
        self.base.ggml_init.restype, self.base.ggml_init.argtypes = c.c_void_p, [Init]
        self.base.ggml_new_tensor.restype = c.c_void_p
        self.base.ggml_new_tensor.argtypes = [c.c_void_p, c.c_int, c.c_int, c.POINTER(c.c_int64)]
        self.base.ggml_set_name.argtypes = [c.c_void_p, c.c_char_p]
        self.base.ggml_free.argtypes = [c.c_void_p]
        self.make.restype = self.init.restype = c.c_void_p
        self.init.argtypes, self.allows.argtypes = [c.c_void_p, c.c_void_p], [c.c_void_p, c.c_void_p]
        self.allows.restype = c.c_bool
        self.compute.argtypes = [c.c_void_p, c.c_int, c.c_void_p, c.c_void_p, c.c_size_t]

    def types(self, model, rows, file_type):
        arch, layers, heads, kv, experts, _, _, width, ff = model
        description = Description(arch.encode(), width, ff, layers, heads, kv, experts, 32, 32)
        parameters = self.lib.llama_model_quantize_default_params()
        state = self.init(self.make(c.byref(description)), c.byref(parameters))
        context = self.base.ggml_init(Init(1 << 22, None, True))
        found = {name: 0 for name, _ in rows}  # F32
        chosen, order = [], []
        for name, sizes in sorted(rows, key=layer_and_name):
            t = self.base.ggml_new_tensor(context, 0, len(sizes), (c.c_int64 * len(sizes))(*sizes))
            self.base.ggml_set_name(t, name.encode())
            if self.allows(state, t):
                chosen.append(t)
                order.append(name)
        result = (c.c_int * len(chosen))()
        self.compute(state, file_type, (c.c_void_p * len(chosen))(*chosen), result, len(chosen))
        found.update(zip(order, result))
        self.base.ggml_free(context)
        return [found[name] for name, _ in rows]


def fnv1a(values):
    h = 0xcbf29ce484222325
    for v in values:
        h = (h ^ v) * 0x100000001b3 % 2**64
    return h


def main():
    llama = Llama(pathlib.Path(sys.argv[1]))
    print("/* Made by tests/conformance/make_mix_reference.py from llama.cpp's own rules: FNV-1a over the types of\n"
          " * all tensors, in the order in which check_mix.c lists them. */\n"
          "static const struct mix_model {\n"
          "    const char *arch;\n    int layers, heads, kv_heads, experts, tied, fused, width, ff;\n"
          "} mix_models[] = {")
    for m in MODELS:
        print("    {%s}," % ", ".join(f'"{x}"' if isinstance(x, str) else str(x) for x in m))
    print("};\n\nstatic const struct { int model, file_type; uint64_t hash; } mix_hashes[] = {")
    for i, m in enumerate(MODELS):
        arch, layers, _, _, experts, tied, fused, width, ff = m
        rows = tensors(arch, layers, experts, tied, fused, width, ff)
        for file_type in FILE_TYPES:
            if file_type == Q1_0 and (width % 128 or ff % 128):
                continue  # nothing to fall back to: an error
            print(f"    {{{i}, {file_type}, 0x{fnv1a(llama.types(m, rows, file_type)):016x}}},")
    print("};")


if __name__ == "__main__":
    main()
