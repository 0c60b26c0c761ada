#!/usr/bin/env python3
"""The peer of bench/run.py: LoRA with PyTorch and PEFT on random weights of a public shape, on the CPU in F32, or on a GPU.

    python3 bench/peft_lora.py SHAPE BATCH LENGTH STEPS [--threads N] [--compile] [--cuda]

Rank 16, all linear layers, no dropout, scaled-dot-product attention (causal, no mask), fused AdamW: what a person who
cares for speed would choose. Prints one JSON object: the seconds of each step, the seconds from the process's start
to the end of the first, the peak resident memory in bytes, the last gradient norm. Needs torch, transformers, peft."""
import argparse
import json
import os
import pathlib
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

SHAPES = {  # vocabulary, width, layers, heads, key-value heads, feed-forward
    "stories260k": (512, 64, 5, 8, 4, 172),
    "smollm2-135m": (49152, 576, 30, 9, 3, 1536),
    "llama-3.2-1b": (128256, 2048, 16, 32, 8, 8192),
    "llama-3-8b": (128256, 4096, 32, 32, 8, 14336),
}


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("shape", choices=SHAPES)
    p.add_argument("batch", type=int)
    p.add_argument("length", type=int)
    p.add_argument("steps", type=int)
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--compile", action="store_true", help="torch.compile the model")
    p.add_argument("--cuda", action="store_true", help="on the GPU, in BF16, with its memory as the peak")
    return p.parse_args()


def seconds_since_start():
    """Of this process, imports included: /proc says when it began in clock ticks after boot."""
    began = int(pathlib.Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - began / os.sysconf("SC_CLK_TCK")


def peak_memory(cuda):
    if cuda:
        return torch.cuda.max_memory_allocated()
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def make_model(shape, length, cuda):
    vocabulary, width, layers, heads, kv_heads, ff = SHAPES[shape]
    config = LlamaConfig(vocab_size=vocabulary, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
                         num_key_value_heads=kv_heads, intermediate_size=ff, max_position_embeddings=length,
                         tie_word_embeddings=shape != "llama-3-8b", use_cache=False, attn_implementation="sdpa")
    model = LlamaForCausalLM(config)
    if cuda:
        model = model.to(device="cuda", dtype=torch.bfloat16)
    lora = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(model, lora).train()
    for p in model.parameters():  # as ours: the base in BF16, what is trained in F32
        if p.requires_grad:
            p.data = p.data.float()
    return model


def main():
    args = arguments()
    torch.manual_seed(1)
    torch.set_num_threads(args.threads)
    device = "cuda" if args.cuda else "cpu"
    model = make_model(args.shape, args.length, args.cuda)
    if args.compile:
        model = torch.compile(model)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=2e-4, fused=True)
    seconds, first, norm = [], None, None
    for _ in range(args.steps):
        ids = torch.randint(SHAPES[args.shape][0], (args.batch, args.length), device=device)
        start = time.perf_counter()
        with torch.autocast(device, dtype=torch.bfloat16, enabled=args.cuda):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained, 1.0).item()
        optimizer.step()
        optimizer.zero_grad()
        if args.cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
        first = first or seconds_since_start()
    assert norm > 0, "nothing was trained"
    print(json.dumps({"step_seconds": seconds, "first_step_done": first, "peak_bytes": peak_memory(args.cuda),
                      "grad_norm": norm, "torch": torch.__version__}))


if __name__ == "__main__":
    main()
