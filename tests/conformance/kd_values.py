#!/usr/bin/env python3
"""Writes tests/reference/kd_values.h: losses and gradients of cross-entropy mixed with distillation,
by PyTorch in double precision, for check_kd_head. Needs torch.

  python3 tests/conformance/kd_values.py > tests/reference/kd_values.h
"""
import torch

N, D, DT, V = 3, 4, 3, 7
LABELS = [2, -1, 5]
VARIANTS = [  # alpha, temperature, reverse, top_k, softcap of the model, of the teacher
    (1.0, 1.0, False, 0, 0.0, 0.0),
    (0.5, 2.0, False, 0, 0.0, 0.0),
    (0.25, 1.5, True, 0, 0.0, 0.0),
    (0.5, 2.0, True, 0, 1.5, 2.5),
    (1.0, 1.0, False, 3, 0.0, 0.0),
    (0.5, 2.0, False, 3, 1.5, 0.0),
    (0.75, 0.5, True, 2, 0.0, 2.5),
]


def wave(rows, cols, start):
    """The numbers that check_kd_head makes too, rounded to single precision as there."""
    i = torch.arange(rows * cols, dtype=torch.float64)
    return (1.5 * torch.sin(0.7 * i + start)).float().double().reshape(rows, cols)


def capped(logits, cap):
    return cap * torch.tanh(logits / cap) if cap else logits


def buckets(share, ids):
    top = share.gather(1, ids)
    rest = torch.ones_like(share).scatter(1, ids, 0)
    return torch.cat([top, (share * rest).sum(1, keepdim=True)], 1)


def run(alpha, temperature, reverse, top_k, softcap, teacher_softcap):
    h = wave(N, D, 0.1).requires_grad_()
    w = wave(V, D, 0.2).requires_grad_()
    rows = torch.tensor([t for t in range(N) if LABELS[t] >= 0])
    labels = torch.tensor(LABELS)[rows]
    logits = capped(h @ w.T, softcap)[rows]
    teacher = capped(wave(N, DT, 0.3) @ wave(V, DT, 0.4).T, teacher_softcap)
    p = torch.softmax(teacher / temperature, 1)
    ids = p.topk(top_k, 1).indices if top_k else None
    q = torch.softmax(logits / temperature, 1)
    shares = buckets(p, ids) if top_k else p
    model = buckets(q, ids[rows]) if top_k else q
    given = shares[rows]
    a, b = (model, given) if reverse else (given, model)
    kl = (a * (a.log() - b.log())).sum(1)
    nll = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    loss = (1 - alpha) * nll + alpha * temperature**2 * kl
    loss.sum().backward()
    out = torch.zeros(N, 3, dtype=torch.float64)
    out[rows] = torch.stack([loss, nll, kl], 1).detach()
    return ids, shares.log(), out, h.grad, w.grad


def numbers(t):
    return "{" + ", ".join(f"{x:.9g}" for x in t.flatten().tolist()) + "}"


print("/* Written by conformance/kd_values.py from PyTorch; see there. */")
for variant in VARIANTS:
    alpha, temperature, reverse, top_k, softcap, teacher_softcap = variant
    ids, log_p, out, dh, dw = run(*variant)
    print(f"{{.attr = {{.softcap = {softcap}, .teacher_softcap = {teacher_softcap}, "
          f".alpha = {alpha}, .temperature = {temperature}, .reverse = {str(reverse).lower()}, "
          f".top_k = {top_k}}},")
    if top_k:
        print(f" .ids = {numbers(ids)},\n .log_p = {numbers(log_p)},")
    print(f" .loss = {numbers(out)},\n .dh = {numbers(dh)},\n .dw = {numbers(dw)}}},")
