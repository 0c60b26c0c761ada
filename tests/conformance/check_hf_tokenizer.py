#!/usr/bin/env python3
"""Tokenizers of Hugging Face directories: the metadata that Loquat makes of them against llama.cpp's converter, and its ids
against llama.cpp's and those of the publisher's library, `tokenizers` or sentencepiece.

    check_hf_tokenizer.py BUILD_DIR SHARED_DATA [--llama-tokens PROGRAM] [--llama-source DIR] [--strings N] [--only FAMILY]

Every family's directory is written here, from the vocabularies at hand and the pre-tokenizer that the family publishes. Texts:
llama.cpp's vectors, WikiText, many languages, code, emoji, and N random Unicode strings. llama.cpp's ids must be equal without
exception. Exit status 1: something differs that is not one of the known differences, which are listed in docs/guide.md ("Where
the tokenizers of the world disagree").
"""
import argparse
import base64
import json
import os
import random
import re
import struct
import subprocess
import sys
import tempfile
import unicodedata

import check_tokenizer
import sentencepiece
from converter import convert
from gguf import GGUFReader
from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import Punctuation
from transformers.convert_slow_tokenizer import generate_merges

CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|" + TAIL
QWEN2 = CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|" + TAIL
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
FRONT = r"[^\r\n\p{L}\p{N}]?"
PATH_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEKKEN = f"{FRONT}{UPPER}*{LOWER}+|{FRONT}{UPPER}+{LOWER}*|" + r"\p{N}|" + PATH_TAIL
GPT4O = f"{FRONT}{UPPER}*{LOWER}+{CONTRACTION}?|{FRONT}{UPPER}+{LOWER}*{CONTRACTION}?|" + r"\p{N}{1,3}|" + PATH_TAIL
TEKKEN_SPECIAL = 20
PRE = "tokenizer.ggml.pre"
PUNCTUATION = Punctuation()
HERE = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(HERE, "..", "..", "data", "pretokenizer.c"), encoding="utf-8") as source:
    # a class of 900 characters, published with deepseek-llm
    CASED = "".join(re.findall(r'"([^"]+)"', re.search(r"#define CASED \\\n((?:.*\\\n)*.*\n)", source.read()).group(1)))


def split(regex, removed=False):
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Removed" if removed else "Isolated", "invert": removed}


def byte_level(use_regex):
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


DIGIT = {"type": "Digits", "individual_digits": True}
GPT2 = byte_level(True)
PRES = {
    "gpt-2": GPT2,
    "mpt": GPT2,
    "starcoder": sequence(DIGIT, GPT2),
    "refact": sequence(DIGIT, GPT2),
    "llama-bpe": sequence(split(LLAMA3), byte_level(False)),
    "dbrx": sequence(split(LLAMA3, True), byte_level(False)),
    "qwen2": sequence(split(QWEN2), byte_level(False)),
    "tekken": sequence(split(TEKKEN), byte_level(False)),
    "gpt-4o": sequence(split(GPT4O), byte_level(False)),
    "falcon": sequence({"type": "Punctuation", "behavior": "Contiguous"}, GPT2, {"type": "Digits", "individual_digits": False},
                       split("[0-9][0-9][0-9]")),
    "deepseek-llm": sequence(split("[\r\n]"), split(f"\\s?[{CASED}]+"), split(r"\s?[!-/:-~！-／：-～‘-‟　-。]+"), split(r"\s+$"),
                             split("[一-龥ࠀ-一가-퟿]+"), DIGIT, byte_level(False)),
    "deepseek-coder": sequence(split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split("[一-龥ࠀ-一가-퟿]+"), DIGIT,
                               byte_level(False)),
}
# family: where its vocabulary is, the architecture in config.json, whether the ids are held against the converter's name
BYTE_LEVEL = [
    ("gpt-2", "gguf", "GPT2LMHeadModel"), ("mpt", "gguf", "MPTForCausalLM"), ("starcoder", "gguf", "GPTBigCodeForCausalLM"),
    ("refact", "gguf", "GPTRefactForCausalLM"), ("falcon", "gguf", "FalconForCausalLM"),
    ("deepseek-llm", "gguf", "LlamaForCausalLM"), ("deepseek-coder", "gguf", "LlamaForCausalLM"),
    ("llama-bpe", "tiktoken", "LlamaForCausalLM"), ("dbrx", "tiktoken", "LlamaForCausalLM"),
    ("gpt-4o", "tiktoken", "LlamaForCausalLM"), ("tekken", "tiktoken", "MistralForCausalLM"), ("qwen2", "qwen", "Qwen2ForCausalLM"),
]
LANGUAGES = ["Привет, как дела?", "今日はいい天気ですね。", "안녕하세요, 반갑습니다.", "مرحبا بالعالم", "שלום עולם", "नमस्ते दुनिया", "สวัสดีชาวโลก", "Γειά σου Κόσμε",
             "Xin chào thế giới", "Türkçe İıĞğ", "Łódź, Čeština, Ørsted", "ქართული ენა", "አማርኛ", "தமிழ் மொழி", "বাংলা ভাষা", "ភាសាខ្មែរ", "မြန်မာ",
             "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "ﷺ", "ǅ ǈ ǋ", "e\u0301 vs é", "½ ⅓ Ⅷ ²³", "１２３４", "0123456789 3.14159 1,000,000"]
EMOJI = ["👍🏽👍🏿", "👨‍👩‍👧‍👦 family", "🏳️‍🌈🏴‍☠️", "🇩🇪🇫🇷", "1️⃣2️⃣", "🧑🏻‍🚀", "☺️☹︎", "🫠🫶🏾", "a🚀b 🚀  🚀", "❤️‍🔥"]


def template(bos, bos_id):
    first = [{"SpecialToken": {"id": bos, "type_id": 0}}]
    return {"type": "TemplateProcessing", "single": first + [{"Sequence": {"id": "A", "type_id": 0}}],
            "pair": first + [{"Sequence": {"id": "A", "type_id": 0}}] + first + [{"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {bos: {"id": bos, "ids": [bos_id], "tokens": [bos]}}}


def json_model(family, vocab, merges, added, ignore_merges=False, normalizer=None, bos=None):
    return {"version": "1.0", "truncation": None, "padding": None, "normalizer": normalizer,
            "post_processor": {"type": "Sequence", "processors": [byte_level(True), template(bos, vocab[bos])]} if bos else None,
            "added_tokens": [{"id": i, "content": s, "single_word": False, "lstrip": False, "rstrip": False, "normalized": not special,
                              "special": special} for i, s, special in added],
            "pre_tokenizer": PRES[family], "decoder": byte_level(True),
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": ignore_merges,
                      "vocab": vocab, "merges": merges}}


def byte_chars():
    keep = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    rest = [b for b in range(256) if b not in keep]
    return {**{b: chr(b) for b in keep}, **{b: chr(256 + i) for i, b in enumerate(rest)}}


CHARS = byte_chars()


def shown(raw):
    return "".join(CHARS[b] for b in raw)


def read_gguf_vocab(path):
    fields = GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    vocab = {t: i for i, t in enumerate(tokens) if types[i] == 1}
    added = [(i, t, types[i] == 3) for i, t in enumerate(tokens) if types[i] in (3, 4)]
    return vocab, fields["tokenizer.ggml.merges"].contents(), added


def read_tiktoken(path):
    with open(path, encoding="ascii") as f:
        raw = [base64.b64decode(line.split()[0]) for line in f if line.strip()]
    rank = {t: i for i, t in enumerate(raw)}
    merges = []
    for t in raw[256:]:
        cuts = [(t[:i], t[i:]) for i in range(1, len(t)) if t[:i] in rank and t[i:] in rank]
        merges += [f"{shown(a)} {shown(b)}" for a, b in sorted(cuts, key=lambda c: (rank[c[0]], rank[c[1]]))]
    return raw, {shown(t): i for i, t in enumerate(raw)}, merges


def write(folder, name, data):
    with open(os.path.join(folder, name), "wb") as f:
        f.write(data if isinstance(data, bytes) else json.dumps(data, ensure_ascii=False).encode())


def write_config(folder, arch, n_vocab, **more):
    """What the converter asks for before it looks at the tokenizer."""
    sizes = {"num_hidden_layers": 1, "n_layer": 1, "n_layers": 1, "hidden_size": 64, "n_embd": 64, "d_model": 64, "n_heads": 4,
             "num_attention_heads": 4, "n_head": 4, "num_key_value_heads": 4, "intermediate_size": 96, "n_inner": 96, "head_dim": 16,
             "max_position_embeddings": 128, "n_ctx": 128, "max_seq_len": 128, "rms_norm_eps": 1e-6, "layer_norm_epsilon": 1e-6,
             "n_positions": 128, "original_max_position_embeddings": 128, "rope_theta": 10000.0, "sliding_window": 64,
             "attn_config": {"kv_n_heads": 4, "clip_qkv": None, "alibi": True, "alibi_bias_max": 8},
             "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "model_type": {"LlamaForCausalLM": "llama", "Qwen2ForCausalLM": "qwen2"}.get(arch)}
    write(folder, "config.json", {"architectures": [arch], "vocab_size": n_vocab, **sizes, **more})


def token_text(special):
    return next((s for _, s, is_special in special if is_special), None)


def make_byte_level(folder, shared, family, source, arch):
    normalizer = None
    if source == "gguf":
        vocab, merges, added = read_gguf_vocab(f"{shared}/vocabs/llama.cpp/ggml-vocab-{family}.gguf")
    elif source == "tiktoken":
        _, vocab, merges = read_tiktoken(f"{shared}/vocabs/llama3/tokenizer.model")
        added = [(len(vocab) + i, s, True) for i, s in enumerate(["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"])]
    else:
        with open(f"{shared}/vocabs/qwen2.5/vocab.json", encoding="utf-8") as f:
            vocab = json.load(f)
        with open(f"{shared}/vocabs/qwen2.5/merges.txt", encoding="utf-8") as f:
            merges = [line.rstrip("\n") for line in f if not line.startswith("#version") and line.strip()]
        with open(f"{shared}/vocabs/qwen2.5/tokenizer_config.json", encoding="utf-8") as f:
            added = [(int(i), t["content"], t["special"]) for i, t in json.load(f)["added_tokens_decoder"].items()]
        normalizer = {"type": "NFC"}
    vocab.update({text: i for i, text, _ in added})
    n_vocab = max(vocab.values()) + 1
    bos = token_text(added) if family in ("llama-bpe", "tekken", "deepseek-llm", "deepseek-coder") else None
    write(folder, "tokenizer.json", json_model(family, vocab, merges, added, family in ("llama-bpe", "tekken"), normalizer, bos))
    write(folder, "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": token_text(added),
                                            "clean_up_tokenization_spaces": False, **({"bos_token": bos} if bos else {})})
    write_config(folder, arch, n_vocab + 5)


def make_spm(folder, shared, kind):
    """Llama 2's: as tokenizer.model, or as the tokenizer.json that a conversion of it has."""
    with open(f"{shared}/vocabs/llama2/tokenizer.model", "rb") as f:
        model = f.read()
    config = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
              "add_bos_token": True, "add_eos_token": False}
    write_config(folder, "LlamaForCausalLM", 32000, bos_token_id=1, eos_token_id=2)
    if kind == "spm-model":
        write(folder, "tokenizer.model", model)
        write(folder, "tokenizer_config.json", config)
        return
    sp = sentencepiece.SentencePieceProcessor()
    sp.LoadFromSerializedProto(model)
    pieces = [sp.IdToPiece(i) for i in range(sp.GetPieceSize())]
    scores = [sp.GetScore(i) for i in range(len(pieces))]
    make_spm_json(folder, pieces, scores, config, prefix=True)


def make_gemma(folder, shared):
    with open(f"{shared}/vocabs/gemma/gemma1_tokenizer.bin", "rb") as f:
        data = f.read()
    (count,), at, pieces, scores = struct.unpack_from("<I", data, 4), 8, [], []
    while at < len(data) and len(pieces) < count:
        score, n = struct.unpack_from("<fI", data, at)
        pieces.append(data[at + 8:at + 8 + n].decode().replace(" ", "▁"))
        scores.append(score)
        at += 8 + n
    names = {0: "<pad>", 1: "<eos>", 2: "<bos>", 3: "<unk>"}
    pieces = [names.get(i, p) for i, p in enumerate(pieces)]
    config = {"tokenizer_class": "GemmaTokenizer", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>",
              "add_bos_token": True, "add_eos_token": False}
    write_config(folder, "Gemma2ForCausalLM", 256000, bos_token_id=2, eos_token_id=1)
    user = [i for i, p in enumerate(pieces) if i > 3 and scores[i] == 0 and not (p.startswith("<0x") and len(p) == 6)]
    make_spm_json(folder, pieces, scores, config, prefix=False, user=user)


def make_spm_json(folder, pieces, scores, config, prefix, user=()):
    """With the merges that transformers makes of scores."""
    index = {}
    for i, p in enumerate(pieces):
        index.setdefault(p, i)
    merges = generate_merges(index, list(zip(pieces, scores)))
    specials = [config[k] for k in ("unk_token", "bos_token", "eos_token")]
    normalizers = [{"type": "Prepend", "prepend": "▁"}] * prefix + [{"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]
    write(folder, "tokenizer_config.json", config)
    write(folder, "tokenizer.json", {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "added_tokens": [{"id": index[s], "content": s, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
                          "special": True} for s in specials] +
                        [{"id": i, "content": pieces[i], "single_word": False, "lstrip": False, "rstrip": False,
                          "normalized": False, "special": False} for i in user],
        "pre_tokenizer": None if prefix else {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious",
                                              "invert": False},
        "post_processor": template(config["bos_token"], index[config["bos_token"]]),
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {"type": "BPE", "dropout": None, "unk_token": config["unk_token"], "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
                  "vocab": index, "merges": merges}})


def make_tekken(folder, shared):
    """Llama 3's ranks in Mistral's container; beside it the same as a tokenizer.json, without the special tokens' offset."""
    raw, vocab, merges = read_tiktoken(f"{shared}/vocabs/llama3/tokenizer.model")
    write(folder, "tekken.json", {
        "config": {"pattern": TEKKEN, "num_vocab_tokens": len(raw), "default_vocab_size": len(raw) + TEKKEN_SPECIAL,
                   "default_num_special_tokens": TEKKEN_SPECIAL, "version": "v3"},
        "vocab": [{"rank": i, "token_bytes": base64.b64encode(t).decode(), "token_str": None} for i, t in enumerate(raw)]})
    write_config(folder, "MistralForCausalLM", len(raw) + TEKKEN_SPECIAL)
    write(os.path.dirname(folder), "tokenizer.json", json_model("tekken", vocab, merges, [], True))


def texts(shared, n):
    rng = random.Random(7)
    out = list(LANGUAGES) + list(EMOJI)
    path = f"{shared}/vocabs/llama.cpp/ggml-vocab-llama-spm.gguf.inp"
    with open(path, encoding="utf-8") as f:
        out += f.read().split("\n__ggml_vocab_test__\n")
    with open(f"{shared}/text/wiki.test.raw", encoding="utf-8") as f:
        wiki = f.read()
    out += [wiki[i:i + 2000] for i in range(0, 200000, 2000)]
    for name in ("check_tokenizer.py", "llama_tokens.c", "run.sh"):
        with open(os.path.join(HERE, name), encoding="utf-8") as f:
            code = f.read()
        out += [code[i:i + 1500] for i in range(0, len(code), 1500)]
    assigned = [c for c in range(0x20, 0x2FFFF) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
    for i in range(n):
        if i % 2:
            out.append("".join(chr(rng.choice(assigned)) for _ in range(rng.randint(1, 40))))
        else:
            out.append(check_tokenizer.random_text(rng, False).decode())
    return [t.replace("\0", "") for t in out]  # which neither llama.cpp's vocabularies nor `tokenizers` agree upon


def publisher(folder):
    """The ids that the library which the directory is made for gives a text, or None."""
    if os.path.exists(path := os.path.join(folder, "tokenizer.json")):
        tokenizer = Tokenizer.from_file(path)
        return lambda text: tokenizer.encode(text, add_special_tokens=False).ids
    if os.path.exists(os.path.join(folder, "tekken.json")):
        ranks = publisher(os.path.dirname(folder))
        return lambda text: [id + TEKKEN_SPECIAL for id in ranks(text)]
    if os.path.exists(path := os.path.join(folder, "tokenizer.model")):
        return sentencepiece.SentencePieceProcessor(model_file=path).EncodeAsIds
    return None


def without(unwanted):
    return lambda text: "".join(c for c in text if not unwanted(c))


def is_new_punctuation(c):
    return unicodedata.category(c).startswith("P") and len(PUNCTUATION.pre_tokenize_str("a" + c)) == 1


# What the converter is known to do otherwise: keys that differ, or a word of its reason to take no such directory.
# Its hash of gpt-4o's ids is smaug-bpe's: both are Llama 3's vocabulary here, and the text that it hashes has no word
# that their patterns split in different ways.
OTHER_KEYS = {"spm-json": ["tokenizer.ggml.scores"], "gpt-4o": [PRE]}
NOT_TAKEN = {"gemma-json": "tokenizer.model", "tekken.json": "mistral-common"}
# Why llama.cpp and tokenizers are known to disagree (the guide has the reasons): families, and the text without the cause.
# A difference counts as known only where the rest, without it, has the same ids on both sides.
CAUSES = {
    "NFC": (("qwen2",), lambda text: unicodedata.normalize("NFC", text)),
    "Unicode versions": (tuple(name for name, *_ in BYTE_LEVEL), without(lambda c: unicodedata.category(c) == "Cn" or c == "\u180e")),
    "bytes without a token": (("falcon",), without(lambda c: c < " " and c not in "\t\n\r")),
    "marks": (("gpt-4o", "tekken"), without(lambda c: unicodedata.category(c).startswith("M"))),
    "tokens that llama.cpp takes for endings": (("qwen2",), lambda text: text.replace("</s>", "")),
    "deepseek's white space": (("deepseek",), without(lambda c: c in "\n\u3000")),
    "punctuation that tokenizers does not know yet": (("falcon",), without(is_new_punctuation)),
    "a \u2581 in the text": (("gemma",), without(lambda c: c == "\u2581")),
    "control tokens": (("spm-model", "tekken.json"), lambda text: re.sub("<s>|</s>|<unk>", "", text)),
}


def reductions(family, text):
    """The text without each cause that it has, and without all of them: (names, text)."""
    found = [(name, take) for name, (families, take) in CAUSES.items() if family.startswith(families) and take(text) != text]
    out, rest = [(name, take(text)) for name, take in found], text
    for _, take in found:
        rest = take(rest)
    return out + ([(" and ".join(name for name, _ in found), rest)] if len(found) > 1 else [])


def explain(args, family, made, their_ids, texts):
    """How often each cause, alone or with others, is all there is to a difference; and the texts where none is."""
    tries = [(text, why, rest) for text in texts for why, rest in reductions(family, text)]
    ours = check_tokenizer.run(args.tokens, made, [rest.encode() for _, _, rest in tries], 2) if tries else []
    known = {}
    for (text, why, rest), (ids, _) in zip(tries, ours):
        if text not in known and their_ids(rest) == [int(i) for i in ids.split()]:
            known[text] = why
    counts = {why: list(known.values()).count(why) for why in sorted(set(known.values()))}
    return counts, [text for text in texts if text not in known]


def compare(args, family, folder, made, samples):
    """Loquat's ids against llama.cpp's and the publisher's; the number of unexplained differences."""
    bad = 0
    raw = [t.encode() for t in samples]
    ours = check_tokenizer.run(args.tokens, made, raw, 2)
    if args.llama_tokens:
        theirs = check_tokenizer.run(args.llama_tokens, made, raw, 2)
        wrong = [i for i in range(len(samples)) if ours[i] != theirs[i]]
        bad += len(wrong)
        print(f"  llama.cpp: {len(wrong)} of {len(samples)} differ")
        for i in wrong[:3]:
            print(f"    {samples[i]!r}\n      loquat {ours[i][0]}\n      llama  {theirs[i][0]}")
    their_ids = publisher(folder)
    if not their_ids:
        return bad
    ours = dict(zip(samples, ([int(i) for i in ids.split()] for ids, _ in ours)))
    differing = [text for text in samples if their_ids(text) != ours[text]]
    explained, wrong = explain(args, family, made, their_ids, differing)
    print(f"  published: {len(wrong)} of {len(samples)} differ; known differences: {explained or 'none'}")
    for text in wrong[:args.show]:
        print(f"    {text!r}\n      loquat    {ours[text]}\n      published {their_ids(text)}")
    return bad + len(wrong)


def keys_of(path):
    out = {}
    for name, field in GGUFReader(path).fields.items():
        if name.startswith("tokenizer."):
            out[name] = field.contents()
    return out


def compare_metadata(args, family, folder, made):
    """Every tokenizer key that the converter writes. Of byte-level vocabularies that no model has it is told the name."""
    other, ours = made + ".converter", keys_of(made)
    done, pre = convert(args.llama_source, None, folder, "--vocab-only", "--outfile", other), ""
    if "pre-tokenizer was not recognized" in done.stderr:
        done, pre = convert(args.llama_source, ours[PRE], folder, "--vocab-only", "--outfile", other), ", which was told the name"
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1]
        print("  converter: does not take it:", reason[:150])
        return NOT_TAKEN.get(family, "\n") not in reason
    theirs = keys_of(other)
    bad = 0
    for key in sorted(set(ours) | set(theirs)):
        if ours.get(key) != theirs.get(key):
            bad += key not in OTHER_KEYS.get(family, ())
            print(f"  {key}: loquat {str(ours.get(key))[:80]} converter {str(theirs.get(key))[:80]}")
    print(f"  converter: {bad} of {len(theirs)} keys differ unexpectedly{pre}")
    return bad


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("shared")
    parser.add_argument("--llama-tokens")
    parser.add_argument("--llama-source")
    parser.add_argument("--strings", type=int, default=10000)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--show", type=int, default=3)
    args = parser.parse_args()
    args.tokens = os.path.join(args.build, "tests", "loquat_tokens")
    samples = texts(args.shared, args.strings)
    makers = {f: lambda d, f=f, s=s, a=a: make_byte_level(d, args.shared, f, s, a) for f, s, a in BYTE_LEVEL}
    for kind in ("spm-model", "spm-json"):
        makers[kind] = lambda d, kind=kind: make_spm(d, args.shared, kind)
    makers["gemma-json"] = lambda d: make_gemma(d, args.shared)
    makers["tekken.json"] = lambda d: make_tekken(d, args.shared)
    bad = 0
    for family, make in makers.items():
        if args.only and family not in args.only:
            continue
        with tempfile.TemporaryDirectory() as work:
            folder, made = os.path.join(work, "hf"), os.path.join(work, "vocab.gguf")
            os.mkdir(folder)
            make(folder)
            print(family)
            subprocess.run([os.path.join(args.build, "tests", "hf_vocab_gguf"), folder, made], check=True)
            print("  pre:", keys_of(made)[PRE])
            bad += compare(args, family, folder, made, samples)
            if args.llama_source:
                bad += compare_metadata(args, family, folder, made)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
