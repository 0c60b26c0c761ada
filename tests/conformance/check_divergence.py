#!/usr/bin/env python3
"""KL divergence against llama-perplexity: the same logits files, read and written by both programs.

    python3 tests/conformance/check_divergence.py LOQUAT LLAMA_BIN DATA

DATA holds models/stories260K/stories260K.gguf and text/tinyshakespeare.txt. The base is the model as it is; compared are
Q8_0 and Q4_0 made by llama-quantize. llama-perplexity gets them dequantized to F32: it rounds activations to 8 bits for
quantized weights, Loquat does not. Every statistic agrees within 1 %, or one unit of the last digit printed.
"""
import json
import pathlib
import re
import subprocess
import sys
import tempfile

from perplexity import EXACT, llama_perplexity

CONTEXT, CHUNKS = 256, 24
# key of `loquat evaluate --json`: pattern of llama-perplexity's line, scale, unit of the last printed digit
NUMBER = r"\s*:\s*(-?[\d.]+)"
ERROR = r"\s*:\s*-?[\d.]+ ±\s*(-?[\d.]+)"
KEYS = {
    "perplexity": (r"Mean PPL\(Q\)" + NUMBER, 1, 1e-6),
    "perplexity_error": (r"Mean PPL\(Q\)" + ERROR, 1, 1e-6),
    "kl_divergence": ("Mean    KLD" + NUMBER, 1, 1e-6),
    "kl_divergence_error": ("Mean    KLD" + ERROR, 1, 1e-6),
    "kl_divergence_median": ("Median  KLD" + NUMBER, 1, 1e-6),
    "kl_divergence_90": (r"90\.0%   KLD" + NUMBER, 1, 1e-6),
    "kl_divergence_99": (r"99\.0%   KLD" + NUMBER, 1, 1e-6),
    "kl_divergence_99_9": (r"99\.9%   KLD" + NUMBER, 1, 1e-6),
    "kl_divergence_max": ("Maximum KLD" + NUMBER, 1, 1e-6),
    "same_top": ("Same top p" + NUMBER, 0.01, 1e-5),
    "mean_delta_p": ("Mean    Δp" + NUMBER, 0.01, 1e-5),
    "rms_delta_p": ("RMS Δp    " + NUMBER, 0.01, 1e-5),
    "ln_ppl_ratio": (r"Mean ln\(PPL\(Q\)/PPL\(base\)\)" + NUMBER, 1, 1e-6),
    "ln_ppl_ratio_error": (r"Mean ln\(PPL\(Q\)/PPL\(base\)\)" + ERROR, 1, 1e-6),
}


def run(*command):
    done = subprocess.run([str(x) for x in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def llama(binaries, model, last, *arguments):
    return llama_perplexity(binaries, last, "-m", model, "-c", CONTEXT, "--chunks", CHUNKS, *EXACT, *arguments).string


def loquat_statistics(loquat, model, logits):
    return json.loads(run(loquat, "evaluate", model, "--kl-divergence-base", logits, "--json").splitlines()[-1])


def compare(name, ours, text):
    good = True
    for key, (pattern, scale, digit) in KEYS.items():
        found = re.search(pattern, text)
        if not found:
            sys.exit(f"llama-perplexity printed nothing like {pattern}:\n{text}")
        theirs = float(found.group(1)) * scale
        near = abs(ours[key] - theirs) <= max(0.01 * abs(theirs), digit)
        good = good and near
        print(f"{'ok  ' if near else 'FAIL'} {name:24} {key:22} loquat {ours[key]:.6f}  llama-perplexity {theirs:.6f}")
    return good


def main():
    loquat, binaries, data = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    base = data / "models/stories260K/stories260K.gguf"
    text = data / "text/tinyshakespeare.txt"
    good = True
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        theirs, ours = work / "llama.kld", work / "loquat.kld"
        llama(binaries, base, "Final estimate", "-f", text, "--kl-divergence-base", theirs)
        run(loquat, "evaluate", base, "--perplexity", text, "--ctx-size", CONTEXT, "--chunks", CHUNKS, "--save-all-logits",
            ours)
        for kind in ("Q8_0", "Q4_0"):
            packed, model = work / f"{kind}.gguf", work / f"{kind}-F32.gguf"
            run(binaries / "llama-quantize", "--pure", base, packed, kind)
            # back to F32, so that llama.cpp's rounding of activations plays no part
            run(binaries / "llama-quantize", "--allow-requantize", packed, model, "F32")
            for name, logits in (("its file", theirs), ("our file", ours)):
                out = llama(binaries, model, "Same top p:", "--kl-divergence-base", logits, "--kl-divergence")
                good &= compare(f"{kind}, {name}", loquat_statistics(loquat, packed, logits), out)
    sys.exit(0 if good else 1)


main()
