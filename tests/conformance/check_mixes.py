#!/usr/bin/env python3
"""Every file mix: trained two steps, exported, loaded by llama.cpp, and its perplexity compared.

    check_mixes.py LOQUAT LLAMA_BIN REPOSITORY [MIX...]

`qat.mode: merged` on the base that ships; the exported file goes through llama-perplexity as it is (its default cache of F16, its
activations in 8 bits) and through `loquat evaluate --activation-dtype runtime --cache-type-k f16 --cache-type-v f16`.
They agree within 0.2 %. What is left are the last bits of sums, and the codes that one of them turns over; not so for
Q4_1 and Q5_1, whose products take a block's sum of activations in F16, and those of the mixes they occur in.
The loss that the run recorded is the exported file's, to the last digit printed.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

from perplexity import ESTIMATE, llama_perplexity

MIXES = ("F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q2_K Q2_K_S Q3_K_S Q3_K_M Q3_K_L Q4_K_S Q4_K_M Q5_K_S Q5_K_M Q6_K "
         "IQ4_NL IQ4_XS TQ1_0 TQ2_0 MXFP4_MOE NVFP4 Q1_0 Q2_0").split()
CHUNKS = 4
PROTOCOL = ["--ctx-size", "256", "--chunks"]
RUNTIME = ["--activation-dtype", "runtime", "--cache-type-k", "f16", "--cache-type-v", "f16"]
BOUND = 0.2  # percent


def run(*command):
    done = subprocess.run([str(x) for x in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stdout[-500:]}{done.stderr[-1500:]}")
    return done


def write_text(repository, work):
    """Text of the kind that the base knows, of which it saw none."""
    run(sys.executable, repository / "scripts/make_text.py", work / "text.jsonl", work / "chat.jsonl", "--megabytes", "0.05",
        "--seed", 9)
    lines = (work / "text.jsonl").read_text().splitlines()
    (work / "text.txt").write_text("\n".join(json.loads(line)["text"] for line in lines))
    return work / "text.txt"


def check(loquat, llama, repository, text, work, mix):
    valid, out, examples = work / "valid.jsonl", work / mix, repository / "examples"
    run(loquat, "train", "--base-model", examples / "pip-F16.gguf", "--data", examples / "car/train.jsonl", "--test-datasets",
        f"[{{path: {valid}}}]", "--output-dir", out, "--max-steps", 2, "--learning-rate", "4e-3", "--sequence-len", 256,
        "--micro-batch-size", 8, "--threads", 1, "--gradient-accumulation-steps", 1, "--dataset-prepared-path", work / "cache",
        "--eval-steps", 2, *(["--qat.imatrix", "auto"] if mix == "Q2_K_S" else []), "--qat.weight_dtype", mix, "--qat.mode", "merged")
    record = json.loads((out / "run.json").read_text())
    (file,) = [a["path"] for a in record["artifacts"] if a["kind"] == "merged"]
    loss = json.loads(run(loquat, "evaluate", file, "--data", valid, "--json").stdout)["loss"]
    ours = json.loads(run(loquat, "evaluate", file, "--perplexity", text, "--json", *PROTOCOL, CHUNKS,
                          *RUNTIME).stdout)["perplexity"]
    theirs = float(llama_perplexity(llama, ESTIMATE, "-m", file, "-f", text, "-t", 1, "-b", 256, *PROTOCOL, CHUNKS).group(1))
    off, kept = 100 * (ours / theirs - 1), abs(loss / record["final_eval_loss"] - 1)
    good = abs(off) <= BOUND and kept < 1e-6
    print(f"{'ok  ' if good else 'FAIL'} {mix:9}: perplexity {ours:.4f}, llama.cpp {theirs:.4f} ({off:+.4f} %); loss of the file "
          f"against the run's {kept:.0e}", flush=True)
    return good


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    loquat, llama, repository = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    bad = []
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        text = write_text(repository, work)
        lines = (repository / "examples/car/test.jsonl").read_text().splitlines(keepends=True)
        (work / "valid.jsonl").write_text("".join(lines[:16]))
        for mix in sys.argv[4:] or MIXES:
            try:
                good = check(loquat, llama, repository, text, work, mix)
            except RuntimeError as e:
                good = print(f"FAIL {mix}: {e}", flush=True)
            bad += [] if good else [mix]
    sys.exit(f"differ: {' '.join(bad)}" if bad else 0)


if __name__ == "__main__":
    main()
