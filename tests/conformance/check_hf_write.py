#!/usr/bin/env python3
"""The tokenizer files that Loquat writes beside merged safetensors, loaded by transformers: the same ids as Loquat has from the
GGUF, and again after Loquat has read the files back.

    check_hf_write.py BUILD_DIR SHARED_DATA [--strings N] [--only PART]

Vocabularies: llama.cpp's, under each name of data/pretokenizer.c for one of them, and those that check_hf_tokenizer.py makes.
Exit status 1: ids differ for another reason than two libraries' versions of Unicode."""
import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import unicodedata

import check_hf_tokenizer
import check_tokenizer
import transformers

HERE = pathlib.Path(__file__).parent
MADE = ("llama-bpe", "qwen2", "gpt-4o", "tekken")
def new_in_unicode(c):
    return unicodedata.category(c) == "Cn" or c == "\u180e"


def reduced(name, text):
    """The text without what the two programs are known to read differently."""
    text = "".join(c for c in text if not new_in_unicode(c))
    # Phi-3's special tokens swallow the white space behind them: ASCII's in llama.cpp, and only where general.name says Phi-3
    return re.sub(r"[\s\x85]+", "", text) if "phi-3" in name else text


def ids_of(tokens, vocab, texts):
    return [[int(i) for i in ids.split()] for ids, _ in check_tokenizer.run(tokens, vocab, [t.encode() for t in texts], 3)]


def check(args, name, vocab, samples, work):
    folder, again = work / "hf", work / "again.gguf"
    for file in folder.glob("*") if folder.exists() else ():
        file.unlink()
    done = subprocess.run([args.build / "tests/gguf_vocab_hf", vocab, folder], capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{name}: not written: {done.stderr.strip()}")
        return 1
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}))
    subprocess.run([args.build / "tests/hf_vocab_gguf", folder, again], check=True, capture_output=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    want = ids_of(args.build / "tests/loquat_tokens", vocab, samples)
    back = ids_of(args.build / "tests/loquat_tokens", again, samples)
    differ = [t for t, ids, read in zip(samples, want, back) if tokenizer(t).input_ids != ids or read != ids]
    rest = [(t, reduced(name, t)) for t in differ if reduced(name, t) != t]
    ours, theirs = (ids_of(args.build / "tests/loquat_tokens", v, [r for _, r in rest]) for v in (vocab, again))
    explained = {t for (t, r), ids, read in zip(rest, ours, theirs) if tokenizer(r).input_ids == ids == read}
    wrong = [t for t in differ if t not in explained]
    print(f"{name}: {len(wrong)} of {len(samples)} differ, known differences: {len(explained)}")
    for text in wrong[:args.show]:
        print(f"    {text!r}\n      loquat       {ids_of(args.build / 'tests/loquat_tokens', vocab, [text])[0]}\n"
              f"      transformers {tokenizer(text).input_ids}")
    return len(wrong)


def names_of_pre():
    table = (HERE / "../../data/pretokenizer.c").read_text().split("static const lq_pre table[]")[1]
    return re.findall(r'^    \{"([^"]+)", \w+, ', table, re.M)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("build", type=lambda x: pathlib.Path(x).resolve())
    p.add_argument("shared")
    p.add_argument("--strings", type=int, default=2000)
    p.add_argument("--only", default="")
    p.add_argument("--show", type=int, default=3)
    args = p.parse_args()
    samples = [t for t in check_hf_tokenizer.texts(args.shared, args.strings) if t]
    bad = 0
    with tempfile.TemporaryDirectory() as tmp:
        work = pathlib.Path(tmp)
        vocabs = {v.stem: v for v in sorted(pathlib.Path(args.shared, "vocabs/llama.cpp").glob("*.gguf"))}
        vocabs["stories260K"] = pathlib.Path(args.shared, "models/stories260K/stories260K.gguf")
        gpt2 = vocabs["ggml-vocab-gpt-2"].read_bytes()
        for pre in names_of_pre():
            vocabs[f"pre-{pre}"] = work / f"pre-{pre}.gguf"
            if args.only in f"pre-{pre}":
                vocabs[f"pre-{pre}"].write_bytes(check_tokenizer.with_pre(gpt2, pre))
        made = {f: lambda d, f=f, s=s, a=a: check_hf_tokenizer.make_byte_level(d, args.shared, f, s, a)
                for f, s, a in check_hf_tokenizer.BYTE_LEVEL if f in MADE}
        made["gemma"] = lambda d: check_hf_tokenizer.make_gemma(d, args.shared)
        for family, make in made.items():
            if args.only not in family:
                continue
            source = work / family
            source.mkdir()
            make(source)
            vocabs[family] = work / f"{family}.gguf"
            subprocess.run([args.build / "tests/hf_vocab_gguf", source, vocabs[family]], check=True, capture_output=True)
        for name, vocab in vocabs.items():
            if args.only in name:
                bad += check(args, name, vocab, samples if not name.startswith("pre-") else samples[:600], work)
    print("the tokenizers agree" if not bad else f"{bad} differences")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
