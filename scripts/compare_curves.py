#!/usr/bin/env python3
"""Compares two runs' metrics.jsonl: every loss and every validation must agree within a relative tolerance.

    python3 scripts/compare_curves.py A/metrics.jsonl B/metrics.jsonl 1e-3"""
import json
import sys


def numbers(path):
    with open(path, encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    return [(r["step"], key, r[key]) for r in records for key in ("loss", "eval_loss") if r.get(key) is not None]


def main():
    first, second, tolerance = numbers(sys.argv[1]), numbers(sys.argv[2]), float(sys.argv[3])
    if not first or [n[:2] for n in first] != [n[:2] for n in second]:
        sys.exit(f"{sys.argv[1]} has {len(first)} numbers, {sys.argv[2]} {len(second)}, or of other steps")
    worst = max((abs(a[2] - b[2]) / max(1.0, abs(a[2])), a, b) for a, b in zip(first, second))
    print(f"{len(first)} numbers, the largest difference {worst[0]:.2e}: {worst[1]} and {worst[2]}")
    if worst[0] > tolerance:
        sys.exit(f"more than {tolerance:g}")


main()
