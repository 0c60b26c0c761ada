#!/usr/bin/env python3
"""A real small model: stories260K's loss on its own stories, and a LoRA run on another author.

    python3 tests/conformance/stories.py LOQUAT DATA

DATA holds models/stories260K/stories260K.gguf and text/{tinystories_sample_2M,tinyshakespeare}.txt. Needs numpy.
  * The mean NLL per token over the first 100 stories, each with BOS and a leading space, one newline taken off either
    end, cut at 512 tokens, without EOS, is 1.4263 over 37,217 tokens.
  * Training an adapter on Shakespeare's lines lowers the loss on held-out ones.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

STORIES, CONTEXT, NLL, TOKENS = 100, 512, 1.4263, 37217


def run(*command):
    done = subprocess.run([str(x) for x in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def read_stories(data):
    text = next((data / "text").glob("tinystories*.txt")).read_text()
    return [s.removeprefix("\n").removesuffix("\n") for s in text.split("<|endoftext|>")[:STORIES]]


def story_nll(loquat, model, story, work):
    (work / "story.txt").write_text(story)
    ids = run(loquat, "tokenize", model, "--file", work / "story.txt", "--ids").split()[:CONTEXT]
    run(loquat, "logits", model, "--ids", " ".join(ids), "--output", work / "logits.npy")
    x = np.load(work / "logits.npy")[:-1].astype(np.float64)
    targets = np.array(ids[1:], dtype=int)
    x -= x.max(axis=1, keepdims=True)
    log_p = x[np.arange(len(targets)), targets] - np.log(np.exp(x).sum(axis=1))
    return -log_p.sum(), len(targets)


def check_stories(loquat, model, data, work):
    parts = [story_nll(loquat, model, s, work) for s in read_stories(data)]
    nll, tokens = (sum(p) for p in zip(*parts))
    good = tokens == TOKENS and abs(nll / tokens - NLL) < 1e-4
    print(f"{'ok  ' if good else 'FAIL'} stories260K: mean NLL {nll / tokens:.5f} over {tokens} tokens "
          f"(wanted {NLL} over {TOKENS})")
    return good


def check_shakespeare(loquat, model, data, work):
    text = next((data / "text").glob("*shakespeare*.txt")).read_text()
    speeches = [s for s in text.split("\n\n") if 80 < len(s) < 600][:400]
    (work / "data.jsonl").write_text("".join(json.dumps({"text": s}) + "\n" for s in speeches))
    out = work / "run"
    run(loquat, "train", "--base-model", model, "--data", work / "data.jsonl", "--val-set-size", "0.2", "--output-dir", out,
        "--max-steps", "60", "--learning-rate", "3e-3", "--micro-batch-size", "8", "--sequence-len", "512",
        "--gradient-accumulation-steps", "1")
    losses = [m["eval_loss"] for m in map(json.loads, (out / "metrics.jsonl").read_text().splitlines()) if "eval_loss" in m]
    best = json.loads((out / "run.json").read_text())["best_eval_loss"]
    good = best < losses[0] - 0.2
    print(f"{'ok  ' if good else 'FAIL'} LoRA on Shakespeare: held-out loss {losses[0]:.4f} before, {best:.4f} after")
    return good


def main():
    loquat, data = sys.argv[1], pathlib.Path(sys.argv[2])
    model = data / "models/stories260K/stories260K.gguf"
    with tempfile.TemporaryDirectory() as d:
        work = pathlib.Path(d)
        results = [check_stories(loquat, model, data, work), check_shakespeare(loquat, model, data, work)]
    sys.exit(not all(results))


if __name__ == "__main__":
    main()
