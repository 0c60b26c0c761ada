"""Logits by llama.cpp, for the other scripts: its C interface, as the xllamacpp package carries it, called through ctypes.

Everything in F32 on the CPU with one thread: F32 key and value cache, no flash attention, weights as the file has them
(not repacked). The interface changes from time to time, so the parameters' layout is checked against its own defaults
before anything is set."""
import ctypes as c
import pathlib

import numpy as np
import xllamacpp

F16, F32, AUTO, OFF = 1, 0, -1, 0  # ggml types; flash attention


class ModelParams(c.Structure):
    _fields_ = [("devices", c.c_void_p), ("overrides", c.c_void_p), ("n_gpu_layers", c.c_int32),
                ("split_mode", c.c_int), ("load_mode", c.c_int), ("lazy_mode", c.c_int), ("main_gpu", c.c_int32),
                ("tensor_split", c.c_void_p), ("progress", c.c_void_p), ("progress_data", c.c_void_p),
                ("kv_overrides", c.c_void_p), ("vocab_only", c.c_bool), ("check_tensors", c.c_bool),
                ("use_extra_bufts", c.c_bool), ("no_host", c.c_bool), ("no_alloc", c.c_bool), ("load_mtp", c.c_bool),
                ("room", c.c_char * 128)]


class ContextParams(c.Structure):
    _fields_ = [(n, c.c_uint32) for n in ("n_ctx", "n_batch", "n_ubatch", "n_seq_max", "n_rs_seq", "n_outputs_max",
                                          "n_outputs_max_per_seq")]
    _fields_ += [("n_threads", c.c_int32), ("n_threads_batch", c.c_int32)]
    _fields_ += [(n, c.c_int) for n in ("ctx_type", "rope_scaling", "pooling", "attention", "flash_attn")]
    _fields_ += [(n, c.c_float) for n in ("rope_base", "rope_scale", "yarn_ext", "yarn_attn", "yarn_fast", "yarn_slow")]
    _fields_ += [("yarn_orig_ctx", c.c_uint32), ("defrag", c.c_float), ("cb_eval", c.c_void_p), ("cb_data", c.c_void_p),
                 ("type_k", c.c_int), ("type_v", c.c_int), ("room", c.c_char * 256)]


class Batch(c.Structure):
    _fields_ = [("n_tokens", c.c_int32), ("token", c.POINTER(c.c_int32)), ("embd", c.c_void_p), ("pos", c.c_void_p),
                ("n_seq_id", c.c_void_p), ("seq_id", c.c_void_p), ("logits", c.POINTER(c.c_int8))]


def load_library():
    lib = c.CDLL(str(next(pathlib.Path(xllamacpp.__file__).parent.glob("xllamacpp*.so"))))
    for name, result, arguments in [
        ("llama_model_default_params", ModelParams, []),
        ("llama_context_default_params", ContextParams, []),
        ("llama_model_load_from_file", c.c_void_p, [c.c_char_p, ModelParams]),
        ("llama_init_from_model", c.c_void_p, [c.c_void_p, ContextParams]),
        ("llama_adapter_lora_init", c.c_void_p, [c.c_void_p, c.c_char_p]),
        ("llama_set_adapters_lora", c.c_int32, [c.c_void_p, c.c_void_p, c.c_size_t, c.c_void_p]),
        ("llama_model_get_vocab", c.c_void_p, [c.c_void_p]),
        ("llama_vocab_n_tokens", c.c_int32, [c.c_void_p]),
        ("llama_decode", c.c_int32, [c.c_void_p, Batch]),
        ("llama_get_logits", c.POINTER(c.c_float), [c.c_void_p]),
        ("llama_free", None, [c.c_void_p]),
        ("llama_model_free", None, [c.c_void_p]),
        ("llama_log_set", None, [c.c_void_p, c.c_void_p]),
    ]:
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    d = lib.llama_context_default_params()
    if (d.type_k, d.type_v, d.flash_attn, d.n_batch) != (F16, F16, AUTO, 2048):
        raise SystemExit("llama_cpp.py: this xllamacpp has other context parameters than expected; adapt ContextParams")
    return lib


LIB = load_library()
QUIET = c.CFUNCTYPE(None, c.c_int, c.c_char_p, c.c_void_p)(lambda level, text, data: None)
LIB.llama_log_set(c.cast(QUIET, c.c_void_p), None)


def need(pointer, what):
    if not pointer:
        raise SystemExit(f"llama.cpp: {what} failed")
    return pointer


def make_context(model, n):
    p = LIB.llama_context_default_params()
    p.n_ctx = p.n_batch = p.n_ubatch = max(n, 256)
    p.n_threads = p.n_threads_batch = 1
    p.flash_attn, p.type_k, p.type_v = OFF, F32, F32
    return need(LIB.llama_init_from_model(model, p), "llama_init_from_model")


def use_adapter(model, context, adapter, scale):
    lora = need(LIB.llama_adapter_lora_init(model, str(adapter).encode()), f"llama_adapter_lora_init({adapter})")
    if LIB.llama_set_adapters_lora(context, (c.c_void_p * 1)(lora), 1, (c.c_float * 1)(scale)):
        raise SystemExit("llama.cpp: llama_set_adapters_lora failed")


def logits(path, ids, adapter=None, scale=1.0):
    """(len(ids), vocabulary) float32; the file is loaded anew each time."""
    p = LIB.llama_model_default_params()
    p.n_gpu_layers, p.use_extra_bufts = 0, False
    model = need(LIB.llama_model_load_from_file(str(path).encode(), p), f"loading {path}")
    context = make_context(model, len(ids))
    if adapter:
        use_adapter(model, context, adapter, scale)
    n, vocabulary = len(ids), LIB.llama_vocab_n_tokens(LIB.llama_model_get_vocab(model))
    batch = Batch(n, (c.c_int32 * n)(*ids), None, None, None, None, (c.c_int8 * n)(*[1] * n))
    if LIB.llama_decode(context, batch):
        raise SystemExit(f"llama.cpp: llama_decode failed on {path}")
    out = np.ctypeslib.as_array(LIB.llama_get_logits(context), (n, vocabulary)).copy()
    LIB.llama_free(context)
    LIB.llama_model_free(model)
    return out
