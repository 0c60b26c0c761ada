"""Compares `evaluate --activation-dtype runtime` with llama.cpp: for every type, per token and as perplexity.

    check_runtime.py LOQUAT LLAMA_BIN MODEL.gguf TEXT

MODEL (F16 or F32, rows of whole blocks of 256) is quantized by llama-quantize with everything in one type but embedding
and head, which are Q8_0. Short chunks: in most of them the two programs compute the same numbers but for F32's last
bits, and the median KL divergence shows it (a logits file has 16 bits per token, which makes some 3e-6). Where such a last bit turns a code over, everything after it differs by as
much as another rounding would make; that, and nothing else, is what remains in the perplexity of long chunks.
"""
import json
import pathlib
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


def run(*command):
    done = subprocess.run([str(x) for x in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}")
    return done.stdout


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
    off = {how: 100 * (evaluate(loquat, file, text, *LONG, "--activation-dtype", how)["perplexity"] / ppl - 1)
           for how in ("off", "runtime")}
    good = kl["runtime"] < kl["off"] / 10
    print(f"{'ok  ' if good else 'FAIL'} {kind:6}: median KL {kl['runtime']:.1e} (off: {kl['off']:.1e}); "
          f"perplexity {off['runtime']:+.4f} % (off: {off['off']:+.4f} %)")
    return good


def main():
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    loquat, llama, model, text = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3], sys.argv[4]
    with tempfile.TemporaryDirectory() as work:
        good = [check(loquat, llama, model, text, pathlib.Path(work), kind) for kind in TYPES]
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
