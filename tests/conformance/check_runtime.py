"""Compares `evaluate --activation-dtype runtime` with llama.cpp: for every type, per token and as perplexity.

    check_runtime.py LOQUAT LLAMA_BIN MODEL.gguf

MODEL (the shipped base: F16, rows of whole blocks of 256) is quantized by llama-quantize with everything in one type but
embedding and head, which are Q8_0, and judged on the kind of text that it was trained on (scripts/make_text.py). Short
chunks: in most of them the two programs compute the same numbers but for F32's last bits, and the median KL divergence
shows it. Where such a last bit turns a code over, everything after it differs by as much as another rounding would make.
That is what remains in the perplexity of long chunks: of either sign, and without bias over the types.
"""
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

from perplexity import ESTIMATE, llama_perplexity

# Not Q4_1 and Q5_1: their products take the sums of a block's activations in F16, which no rounding of the
# activations themselves can express; there the two differ as much as with exact activations.
TYPES = ["Q4_0", "Q5_0", "Q8_0", "Q2_K", "Q3_K_S", "Q4_K_S", "Q5_K_S", "Q6_K", "IQ4_NL", "IQ4_XS",
         "TQ1_0", "TQ2_0", "Q1_0", "Q2_0"]
EXACT = ["-fa", "off", "--cache-type-k", "f32", "--cache-type-v", "f32"]
SHORT, LONG = ["--ctx-size", "16", "--chunks", "64"], ["--ctx-size", "512", "--chunks", "8"]
MAKE_TEXT = pathlib.Path(__file__).resolve().parents[2] / "scripts/make_text.py"
CLOSER = 3          # times, than with exact activations; a logits file's 16 bits per token alone make some 1e-7
PERPLEXITY = 0.2    # percent


def run(*command):
    done = subprocess.run([str(x) for x in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}")
    return done.stdout


def make_text(work):
    run(sys.executable, MAKE_TEXT, work / "text.jsonl", work / "chat.jsonl", "--megabytes", "0.1", "--seed", "2")
    lines = (work / "text.jsonl").read_text().splitlines()
    (work / "text.txt").write_text("\n".join(json.loads(line)["text"] for line in lines))
    return work / "text.txt"


def evaluate(loquat, model, text, *options):
    out = subprocess.run([loquat, "evaluate", model, "--perplexity", text, "--json", *options], check=True,
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return json.loads(out.stdout)


def final_estimate(llama, model, text, *options):
    return float(llama_perplexity(llama, ESTIMATE, "-m", model, "-f", text, *options).group(1))


def check(loquat, llama, model, text, work, kind):
    file, logits = work / f"{kind}.gguf", work / f"{kind}.kld"
    run(llama / "llama-quantize", "--pure", "--token-embedding-type", "q8_0", "--output-tensor-type", "q8_0", model, file,
        kind)
    final_estimate(llama, file, text, *SHORT, *EXACT, "--kl-divergence-base", logits)
    kl = {how: evaluate(loquat, file, text, *SHORT, "--activation-dtype", how, "--kl-divergence-base",
                        logits)["kl_divergence_median"] for how in ("off", "runtime")}
    ppl = final_estimate(llama, file, text, *LONG, *EXACT)
    ours = {how: evaluate(loquat, file, text, *LONG, "--activation-dtype", how)["perplexity"] for how in ("off", "runtime")}
    off = {how: 100 * (p / ppl - 1) for how, p in ours.items()}
    good = kl["runtime"] < kl["off"] / CLOSER and abs(off["runtime"]) < PERPLEXITY
    print(f"{'ok  ' if good else 'FAIL'} {kind:6}: median KL {kl['runtime']:.1e} (exact activations: {kl['off']:.1e}); "
          f"perplexity {off['runtime']:+.4f} % (exact: {off['off']:+.4f} %)", flush=True)
    return good, off["runtime"]


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    loquat, llama, model = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
    with tempfile.TemporaryDirectory() as directory:
        work = pathlib.Path(directory)
        text = make_text(work)
        good, off = zip(*(check(loquat, llama, model, text, work, kind) for kind in TYPES))
    mean, error = statistics.mean(off), statistics.stdev(off) / len(off)**0.5
    unbiased = abs(mean) < 3 * error
    print(f"what remains of the perplexity, over all types: {mean:+.4f} +- {error:.4f} %. Codes of activations that a last bit of "
          "F32 turned over, here up, there down" + ("" if unbiased else "  <- FAIL: they would not lean to one side"))
    sys.exit(0 if all(good) and unbiased else 1)


if __name__ == "__main__":
    main()
