#!/usr/bin/env python3
"""Compares Loquat's tokens with llama.cpp's on random texts, for every vocabulary and every pre-tokenizer name.

LLAMA_TOKENS is llama_tokens.c linked with libllama (run.sh builds it), LOQUAT_TOKENS is BUILD/tests/loquat_tokens:

    check_tokenizer.py LLAMA_TOKENS LOQUAT_TOKENS VOCAB.gguf... [--pre] [--strings N] [--seed S]
With --pre, each byte-level vocabulary is tried under every name of data/pretokenizer.c.
"""
import argparse
import os
import random
import re
import struct
import subprocess
import sys
import tempfile

WORDS = ["Hello", "world", "I'm", "we'LL", "it's", "don'T", "'s", "'RE", "'ve", "''", "ÜBER", "straße", "Ǆǅǆ", "naïve",
         "camelCaseWord", "HTTPServer", "http://a.b/c?d=e", "for(i=0;i<n;i++)", "x_1", "1", "22", "333", "4444",
         "1234567", "3.14", "²³", "٣٤٥", "१२३४", "Ⅷ", "你好世界", "こんにちは", "カタカナ", "안녕하세요", "ㄱㄴ", "ㄅㄆ", "สวัสดี",
         "ກຂ", "Привет", "Ελλάδα", "שלום", "مرحبا،", "हिन्दी", "বাংলা", "e\u0301", "n\u0303o", "👍🏽", "👨‍👩‍👧", "→⇒", "½", "$€£", "+<=>^~|`",
         "...", "…", "。", "！", "—", "“q”", "(a|b)", "a.b,c", "[x]", "{y}", "\\n", "@#%&*", "<|im_start|>", "<|endoftext|>",
         "<s>", "</s>", "<unk>", "<|end|>", "<|user|>", "<fim_prefix>", "<0x0A>", "\u2581", "\u2581\u2581a", "<!--", "-->", "\0"]
SPACES = [" ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n", "\n ", " \t\r\n  ", "\u00a0", "\u3000", "\u2003", "\u0085", "\u180e",
          "\u200b", "\v", "\f", " " * 9, " " * 40, "", "", "", ""]
# Assigned in Unicode 15 or 15.1, and other unusual places.
RARE = [0x0CF3, 0x0ECE, 0x2FFC, 0x31EF, 0x10EFD, 0x11F02, 0x11F36, 0x11F45, 0x11F52, 0x1D2C5, 0x1E030, 0x1E4F3, 0x1F6DC,
        0x2EBF0, 0x31350, 0x2B739, 0x0378, 0xE000, 0xFFFF, 0x10FFFF, 0xFFFD]
BROKEN = [b"\xff", b"\x80", b"\xe4\xbd", b"\xc3", b"\xf0\x9f\x91", b"\xed\xa0\x80", b"\xc0\x80", b"\xe0\x80\xa0", b"\xf8\x88", b"\xe4 ", b"\xe4  a", b"\xf0 b c"]


def random_text(rng, broken):
    parts = []
    for _ in range(rng.randint(1, 12)):
        kind = rng.random()
        if kind < 0.5:
            parts.append(rng.choice(WORDS).encode())
        elif kind < 0.6:
            parts.append("".join(chr(rng.randint(32, 126)) for _ in range(rng.randint(1, 8))).encode())
        elif kind < 0.7:
            code = rng.choice([rng.randint(0x80, 0x2FFF), rng.randint(0x3000, 0xD7FF), rng.randint(0xE000, 0x1FFFF)])
            parts.append(chr(code).encode())
        elif kind < 0.8:
            parts.append(chr(rng.choice(RARE)).encode())
        elif broken and kind < 0.85:
            parts.append(rng.choice(BROKEN))
        parts.append(rng.choice(SPACES).encode())
    return b"".join(parts)


def run(program, model, texts, flags):
    """A list of (ids, text bytes), one per text."""
    with tempfile.NamedTemporaryFile() as f:
        f.write(b"".join(struct.pack("<I", len(t)) + t for t in texts))
        f.flush()
        done = subprocess.run([program, model, f.name, str(flags)], capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{program} {model}: {done.returncode} {done.stderr.decode(errors='replace')[-400:]}")
    lines = done.stdout.decode().split("\n")
    return [(lines[2 * i], lines[2 * i + 1]) for i in range(len(texts))]


def with_pre(data, pre):
    """The bytes of a GGUF without tensors, with another tokenizer.ggml.pre."""
    key = b"tokenizer.ggml.pre" + struct.pack("<I", 8)
    at = data.index(key) + len(key)
    (n,) = struct.unpack_from("<Q", data, at)
    return data[:at] + struct.pack("<Q", len(pre)) + pre.encode() + data[at + 8 + n:]


def compare(args, model, label, texts):
    bad = 0
    for flags in (0, 3):
        ours, theirs = run(args.loquat, model, texts, flags), run(args.llama, model, texts, flags)
        for text, a, b in zip(texts, ours, theirs):
            if a != b:
                bad += 1
                if bad <= args.show:
                    print(f"{label} flags {flags} {text!r}\n  loquat {a}\n  llama  {b}")
    print(f"{label}: {bad} of {2 * len(texts)} differ")
    return bad


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("llama")
    parser.add_argument("loquat")
    parser.add_argument("vocab", nargs="+")
    parser.add_argument("--pre", action="store_true")
    parser.add_argument("--strings", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=3)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    texts = [b"", b" ", b"\n"] + [random_text(rng, True) for _ in range(args.strings)]
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    with open(os.path.join(root, "data", "pretokenizer.c"), encoding="utf-8") as f:
        names = re.findall(r'^    \{"([^"]+)", \w+, ', f.read(), re.M)
    bad = 0
    for model in args.vocab:
        with open(model, "rb") as f:
            data = f.read()
        bad += compare(args, model, os.path.basename(model), texts)
        if not args.pre or b"tokenizer.ggml.pre" not in data:
            continue
        for pre in names:
            with tempfile.NamedTemporaryFile(suffix=".gguf") as f:
                f.write(with_pre(data, pre))
                f.flush()
                bad += compare(args, f.name, f"{os.path.basename(model)} as {pre}", texts)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
