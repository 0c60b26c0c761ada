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
    cuda    only when asked for: Llama-3.2-1B, 4 x 2,048, and Llama-3-8B, 2 x 4,096 tokens, both sides in BF16 on one
            GPU, the peer compiled; no such run has been made yet
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
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
PLAIN = []
ON_CPU = ["--device", "cpu"]
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


def run_peer(args, shape, batch, length, steps, more=()):
    command = [args.peer_python, HERE / "peft_lora.py", shape, batch, length, steps, "--threads", args.threads, *more]
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
        ours.append(run_loquat(args, model, batch, length, steps, 1, [*PLAIN, *ON_CPU]))
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
        plain.append(run_loquat(args, model, 1, 512, 3, 8, [*PLAIN, *ON_CPU]))
        qat.append(run_loquat(args, model, 1, 512, 3, 8, [*QAT, *ON_CPU]))
    print(f"smollm2-135m, 8 accumulated batches of 1 x 512 tokens, {args.threads} threads")
    a = show("plain LoRA", plain, 8 * 512)
    b = show("QAT merged", qat, 8 * 512)
    goal("step time, QAT q4_0 merged / plain", b["step"] / a["step"], 1.1, False)


class GpuMemory:
    """The most memory that the GPU had in use while a program ran, as the driver counts it, and its clocks."""

    def __enter__(self):
        self.before = self.ask("memory.used")
        self.most, self.running = self.before, True
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.running = False
        self.thread.join()

    def watch(self):
        while self.running:
            self.most = max(self.most, self.ask("memory.used"))
            time.sleep(0.05)

    @staticmethod
    def ask(what):
        command = ["nvidia-smi", "-i", "0", f"--query-gpu={what}", "--format=csv,noheader,nounits"]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    def bytes(self):
        return (self.most - self.before) << 20


def on_gpu(run, *arguments):
    with GpuMemory() as memory:
        result = run(*arguments)
    return dict(result, memory=memory.bytes())


def flops_per_token(shape, length):
    """4 N of a LoRA step plus 3.5 times the forward pass of causal attention."""
    vocabulary, width, layers, heads, kv_heads, ff = SHAPES[shape]
    body = layers * (2 * width * width + 2 * width * width * kv_heads // heads + 3 * width * ff)
    return 4 * (body + vocabulary * width) + 3.5 * 2 * length * width * layers


def case_cuda(args):
    """On a GPU, against the peer's best: BF16, scaled-dot-product attention, compiled, fused AdamW."""
    plain, qat_more = [[*options, "--device", "cuda"] for options in (PLAIN, QAT)]
    for shape, batch, length, faster, wanted in GPU_CASES:
        model = make_model(args, shape, "bf16")
        ours = [on_gpu(run_loquat, args, model, batch, length, 12, 1, plain) for _ in range(args.rounds)]
        qat = [on_gpu(run_loquat, args, model, batch, length, 12, 1, qat_more)
               for _ in range(args.rounds)]
        peers = [on_gpu(run_peer, args, shape, batch, length, 12, ["--cuda", "--compile"])
                 for _ in range(args.rounds)]
        print(f"{shape}, {batch} x {length} tokens, LoRA r 16 on all linears, BF16; SM clock now "
              f"{GpuMemory.ask('clocks.sm')} MHz")
        a, q, b = (show(name, runs, batch * length)
                   for name, runs in (("Loquat", ours), ("QAT merged", qat), ("PyTorch + PEFT", peers)))
        rate = batch * length / a["step"]
        print(f"  {rate * flops_per_token(shape, length) / 1e12:.0f} TFLOP/s (4 N + 3.5 attention)")
        goal("tokens/s", rate, wanted, True)
        goal("tokens/s, Loquat / PEFT", b["step"] / a["step"], faster, True)
        goal("GPU memory, Loquat / PEFT", a["memory"] / b["memory"], 1.0, False)
        goal("step time, QAT q4_0 merged / plain", q["step"] / a["step"], 1.05, False)


SHAPES = {  # vocabulary, width, layers, heads, key-value heads, feed-forward
    "llama-3.2-1b": (128256, 2048, 16, 32, 8, 8192),
    "llama-3-8b": (128256, 4096, 32, 32, 8, 14336),
}
GPU_CASES = [("llama-3.2-1b", 4, 2048, 1.3, 70000), ("llama-3-8b", 2, 4096, 1.0, 12500)]

CASES = {"cuda": case_cuda, "small": case_small, "tiny": case_tiny, "qat": case_qat}


def make_model(args, shape, kind="f32"):
    path = pathlib.Path(args.work, f"{shape}-{kind}.gguf")
    if not path.exists():
        subprocess.run([args.make_model, shape, path, kind], check=True)
    return path


def main():
    args = arguments()
    with tempfile.TemporaryDirectory() as work:
        args.work = args.work or work
        for name in args.only or [case for case in CASES if case != "cuda"]:
            CASES[name](args)


if __name__ == "__main__":
    main()
