#!/usr/bin/env python3
"""Writes tests/optim_reference.h: what torch.optim and Hugging Face's schedules do on a small example.

    python3 tests/conformance/optim_reference.py > tests/optim_reference.h
"""
import torch
from transformers import optimization as hf

N, STEPS = 7, 5


def gradient(step, i):  # the same formula as in check_optim.c; exact in float
    return ((3 * step + 5 * i) % 11 - 5) / 8


def run(make):
    p = torch.nn.Parameter(torch.tensor([(i - 3) / 4 for i in range(N)], dtype=torch.float32))
    optimizer = make([p])
    rows = []
    for step in range(STEPS):
        p.grad = torch.tensor([gradient(step, i) for i in range(N)], dtype=torch.float32)
        optimizer.step()
        rows.append(p.detach().clone().tolist())
    return rows


def schedule(make, steps):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    s = make(optimizer)
    out = []
    for _ in range(steps):
        out.append(s.get_last_lr()[0])
        optimizer.step()
        s.step()
    return out


def table(name, rows, kind="float"):
    print(f"static const {kind} {name}[{len(rows)}][{len(rows[0])}] = {{")
    for row in rows:
        print("    {" + ", ".join(f"{x:.9g}" for x in row) + "},")
    print("};")


print("/* Made by tests/conformance/optim_reference.py with PyTorch and transformers. Do not edit. */")
table("torch_adamw", run(lambda p: torch.optim.AdamW(p, lr=0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1)))
table("torch_adamw_betas", run(lambda p: torch.optim.AdamW(p, lr=0.05, betas=(0.8, 0.95), eps=1e-3, weight_decay=0)))
table("torch_sgd", run(lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01)))
print("\n/* Multipliers of 12 steps, 3 of them warm-up. */")
table("hf_schedules", [
    schedule(lambda o: hf.get_constant_schedule_with_warmup(o, 3), 12),
    schedule(lambda o: hf.get_linear_schedule_with_warmup(o, 3, 12), 12),
    schedule(lambda o: hf.get_cosine_schedule_with_warmup(o, 3, 12), 12),
    schedule(lambda o: hf.get_cosine_with_min_lr_schedule_with_warmup(o, 3, 12, min_lr_rate=0.1), 12),
], "double")
