#!/usr/bin/env python3
"""Compares Loquat with PyTorch + PEFT, and QAT with plain LoRA, in one run on one machine; prints ratios.

    python3 bench/run.py LOQUAT BENCH_MAKE_MODEL [--peer-python PYTHON] [--rounds N] [--threads N] [--only CASE]...

LOQUAT and BENCH_MAKE_MODEL are programs of the build (cmake -DLOQUAT_BENCH=ON). The peer is bench/peft_lora.py, run by
PYTHON (default: this one). Both sides take turns, --rounds times; the least step time counts, since other processes
only ever add. Both train LoRA of rank 16 on all linear layers in F32 on random tokens, the same number a step, and the
memory of both is the peak resident set, mapped files included. Cases and goals:

    small   SmolLM2-135M shape, 1 x 512 tokens: >= 1.5 x PEFT's tokens/s, <= 0.5 x its memory, first step within 1 s
    tiny    stories260K shape, 8 x 256 tokens: >= 3 x PEFT's tokens/s
    qat     SmolLM2-135M shape, 8 accumulated batches: q4_0 merged <= 1.1 x the step time of plain LoRA
"""
import argparse
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
PLAIN = []
QAT = ["--qat.weight_dtype", "q4_0", "--qat.mode", "merged"]


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("loquat")
    p.add_argument("make_model")
    p.add_argument("--peer-python", default=sys.executable)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--only", action="append", choices=CASES)
    p.add_argument("--work", help="a directory to keep models and logs in; default: a temporary one")
    return p.parse_args()


def write_data(path, records, length):
    """Records of exactly `length` tokens: BOS, a space, digits (one token each), EOS."""
    rng = random.Random(1)
    with open(path, "w") as f:
        for _ in range(records):
            f.write(json.dumps({"text": "".join(rng.choices("0123456789", k=length - 3))}) + "\n")


def wait_for_line(path, process):
    """The time when `path` has its first whole line; None if the process ended before."""
    while process.poll() is None:
        if path.exists() and b"\n" in path.read_bytes():
            return time.perf_counter()
        time.sleep(0.002)
    return None


def step_seconds(metrics, tokens):
    """From the running totals in metrics.jsonl; the first step's includes what precedes it in the run."""
    ends = [0.0]
    for line in metrics.read_text().splitlines():
        m = json.loads(line)
        if m["tokens"] != m["step"] * tokens:
            sys.exit(f"step {m['step']}: {m['tokens']} tokens so far, wanted {m['step'] * tokens}")
        if not m["grad_norm"] > 0:
            sys.exit(f"step {m['step']}: nothing was trained")
        ends.append(m["tokens"] / m["tokens_per_second"])
    return [b - a for a, b in zip(ends, ends[1:])]


def run_loquat(args, model, batch, length, steps, accumulate, more):
    with tempfile.TemporaryDirectory(dir=args.work) as work:
        data, out = pathlib.Path(work, "data.jsonl"), pathlib.Path(work, "out")
        write_data(data, batch * steps * accumulate, length)
        command = [args.loquat, "train", HERE / "lora.yaml", "--base-model", model, "--data", data,
                   "--output-dir", out, "--dataset-prepared-path", f"{work}/cache", "--threads", args.threads,
                   "--sequence-len", length, "--micro-batch-size", batch, "--max-steps", steps,
                   "--gradient-accumulation-steps", accumulate, *more]
        with open(pathlib.Path(work, "log"), "w+") as log:
            start = time.perf_counter()
            process = subprocess.Popen([str(x) for x in command], stdout=log, stderr=log)
            first = wait_for_line(out / "metrics.jsonl", process)
            _, status, usage = os.wait4(process.pid, 0) if process.returncode is None else (0, 1, None)
            process.returncode = os.waitstatus_to_exitcode(status)
            if status or first is None:
                log.seek(0)
                sys.exit(f"{' '.join(map(str, command))}\n{log.read()}")
        seconds = step_seconds(out / "metrics.jsonl", batch * length * accumulate)
        return {"step": min(seconds), "start": first - start - min(seconds), "memory": 1024 * usage.ru_maxrss,
                "steps": seconds}


def run_peer(args, shape, batch, length, steps):
    command = [args.peer_python, HERE / "peft_lora.py", shape, batch, length, steps, "--threads", args.threads]
    done = subprocess.run([str(x) for x in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    r = json.loads(done.stdout)
    least = min(r["step_seconds"])
    return {"step": least, "start": r["first_step_done"] - least, "memory": r["peak_bytes"],
            "steps": r["step_seconds"]}


def least(runs):
    return {key: min(r[key] for r in runs) for key in ("step", "start", "memory")}


def spread(runs):
    steps = [x for r in runs for x in r["steps"]]
    return f"{min(steps):.4f} .. {max(steps):.4f}, median {statistics.median(steps):.4f}"


def show(name, runs, tokens):
    r = least(runs)
    print(f"  {name:13s} {tokens / r['step']:9.0f} tokens/s  {r['memory'] / 1e6:7.0f} MB  "
          f"{r['start']:6.2f} s to the first step   (step seconds: {spread(runs)})")
    return r


def goal(what, found, bound, at_least):
    met = found >= bound if at_least else found <= bound
    print(f"  {what:42s} {found:6.2f}   goal {'>=' if at_least else '<='} {bound}: {'met' if met else 'NOT met'}")


def against_peer(args, shape, batch, length, steps):
    model = make_model(args, shape)
    ours, peers = [], []
    for _ in range(args.rounds):
        ours.append(run_loquat(args, model, batch, length, steps, 1, PLAIN))
        peers.append(run_peer(args, shape, batch, length, steps))
    print(f"{shape}, {batch} x {length} tokens, LoRA r 16 on all linears, F32, {args.threads} threads")
    a = show("Loquat", ours, batch * length)
    b = show("PyTorch + PEFT", peers, batch * length)
    return a, b


def case_small(args):
    a, b = against_peer(args, "smollm2-135m", 1, 512, 8)
    goal("tokens/s, Loquat / PEFT", b["step"] / a["step"], 1.5, True)
    goal("peak memory, Loquat / PEFT", a["memory"] / b["memory"], 0.5, False)
    goal("seconds from start to first step", a["start"], 1.0, False)


def case_tiny(args):
    a, b = against_peer(args, "stories260k", 8, 256, 20)
    goal("tokens/s, Loquat / PEFT", b["step"] / a["step"], 3.0, True)


def case_qat(args):
    model = make_model(args, "smollm2-135m")
    plain, qat = [], []
    for _ in range(args.rounds):
        plain.append(run_loquat(args, model, 1, 512, 3, 8, PLAIN))
        qat.append(run_loquat(args, model, 1, 512, 3, 8, QAT))
    print(f"smollm2-135m, 8 accumulated batches of 1 x 512 tokens, {args.threads} threads")
    a = show("plain LoRA", plain, 8 * 512)
    b = show("QAT merged", qat, 8 * 512)
    goal("step time, QAT q4_0 merged / plain", b["step"] / a["step"], 1.1, False)


CASES = {"small": case_small, "tiny": case_tiny, "qat": case_qat}


def make_model(args, shape):
    path = pathlib.Path(args.work, f"{shape}.gguf")
    if not path.exists():
        subprocess.run([args.make_model, shape, path], check=True)
    return path


def main():
    args = arguments()
    with tempfile.TemporaryDirectory() as work:
        args.work = args.work or work
        for name in args.only or CASES:
            CASES[name](args)


if __name__ == "__main__":
    main()
