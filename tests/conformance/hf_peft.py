"""Loquat against live PEFT and transformers: adapters that PEFT wrote, used by Loquat; adapters and merged models that
Loquat wrote, loaded by PEFT and transformers; all by logits.

  hf_peft.py LOQUAT"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import peft
import safetensors
import safetensors.torch
import torch
import transformers as hf

import hf_models

TOLERANCE = 1e-4
ATTENTION = ["q_proj", "v_proj"]
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ADAPTERS = {
    "plain": dict(r=4, lora_alpha=8, target_modules=ATTENTION),
    "rslora": dict(r=4, lora_alpha=6, target_modules=ALL, use_rslora=True),
    "patterns": dict(r=4, lora_alpha=8, target_modules=ALL, rank_pattern={"k_proj": 2, r"layers.1.mlp.up_proj": 3},
                     alpha_pattern={"q_proj": 5}),
    "layers": dict(r=3, lora_alpha=3, target_modules=["q_proj", "down_proj"], layers_to_transform=[0, 2],
                   layers_pattern="layers"),
    "regex": dict(r=2, lora_alpha=4, target_modules=r".*\.(0|1)\.self_attn\.[kq]_proj"),
    "dora": dict(r=4, lora_alpha=6, target_modules=ALL, use_dora=True, use_rslora=True),
}


def adapt(model, options):
    torch.manual_seed(3)
    model = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **options))
    with torch.no_grad():
        for name, x in model.named_parameters():
            if "lora_" in name:
                x.normal_(0.0, 0.2)
    return model.eval()


def reference(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].numpy()


def fresh(directory):
    return hf.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()


def expect(bad, what, got, want):
    off = np.abs(got - want).max()
    print(f"{what}: off by {off:.1e}")
    if not off <= TOLERANCE:
        bad.append(f"{what}: off by {off:.2e}")


def into_loquat(loquat, name, work, ids, bad):
    """What PEFT saved, read by Loquat on the directory and on the GGUF."""
    base = work / name
    hf_models.make(name, base)
    hf_models.run(loquat, "merge", base, "--output", work / "base.gguf", "--type", "F32")
    for kind, options in ADAPTERS.items():
        model = adapt(fresh(base), options)
        want = reference(model, ids)
        adapter = work / f"{name}-{kind}"
        model.save_pretrained(adapter)
        for model_path in (base, work / "base.gguf"):
            hf_models.run(loquat, "logits", model_path, "--lora", adapter, "--ids", " ".join(map(str, ids)), "--output",
                          work / "l.npy")
            expect(bad, f"{name} + PEFT {kind} on {model_path.name}", np.load(work / "l.npy"), want)
        hf_models.run(loquat, "merge", base, "--lora", adapter, "--output", work / "merged.gguf", "--type", "F32")
        expect(bad, f"{name} + PEFT {kind}, merged", hf_models.logits(loquat, work / "merged.gguf", ids, work), want)


TRAINED = {
    "plain": "lora_r: 4\nlora_alpha: 8\nlora_target_modules: [q_proj, v_proj]\n",
    "all": "lora_r: 4\nlora_alpha: 6\nuse_rslora: true\nlora_rank_pattern: {k_proj: 2}\nlora_alpha_pattern: {up_proj: 3}\n",
    "layers": "lora_r: 2\nlora_alpha: 4\nlora_target_modules: [q_proj, down_proj]\nlora_layers_to_transform: [0, 2]\n",
    "pissa": "lora_r: 2\nlora_alpha: 3\nuse_rslora: true\ninit_lora_weights: pissa\nlora_dropout: 0.1\n",
    "dora": "lora_r: 2\nlora_alpha: 4\nuse_dora: true\n",
}


def saved_by_peft(base, adapter, work):
    """Keys, dtypes and shapes that PEFT itself saves for the same configuration."""
    config = peft.LoraConfig.from_pretrained(adapter)
    config.inference_mode = False
    peft.get_peft_model(fresh(base), config).save_pretrained(work / "own")
    return shapes(work / "own")


def shapes(directory):
    tensors = safetensors.torch.load_file(directory / "adapter_model.safetensors")
    return {k: (v.dtype, tuple(v.shape)) for k, v in tensors.items()}


def out_of_loquat(loquat, name, work, ids, bad):
    """What Loquat trained and wrote, read by PEFT and transformers."""
    base = work / name
    (hf_models.bpe_tokenizer if "qwen" in name else hf_models.spm_tokenizer)(base)
    data = work / "train.jsonl"
    data.write_text("".join(json.dumps({"text": f"the cat sat on the mat {i}"}) + "\n" for i in range(8)))
    for kind, options in TRAINED.items():
        out = work / f"run-{name}-{kind}"
        (work / "run.yaml").write_text(
            f"base_model: {base}\ndata: {data}\noutput_dir: {out}\n{options}max_steps: 4\nmicro_batch_size: 2\n"
            "learning_rate: 0.05\nsequence_len: 64\nval_set_size: 0.25\nlr_scheduler: constant\n"
            "export: {quantize: [F32], peft: true, merged_safetensors: true}\n")
        hf_models.run(loquat, "train", work / "run.yaml")
        artifacts = artifacts_of(out)
        hf_models.run(loquat, "logits", out, "--ids", " ".join(map(str, ids)), "--output", work / "l.npy")
        ours = np.load(work / "l.npy")
        if shapes(artifacts["peft"]) != saved_by_peft(base, artifacts["peft"], work):
            bad.append(f"{name} {kind}: other keys, dtypes or shapes than PEFT's own")
        expect(bad, f"{name} trained {kind}, in PEFT",
               reference(peft.PeftModel.from_pretrained(fresh(base), artifacts["peft"]).eval(), ids), ours)
        plain = reference(fresh(base), ids)
        if np.abs(plain - ours).max() < 100 * TOLERANCE:
            bad.append(f"{name} {kind}: training changed nothing")
        merged = fresh(artifacts["safetensors"])
        rounded = hf_models.MODELS[name][2] != torch.float32
        if not rounded:
            expect(bad, f"{name} trained {kind}, merged safetensors", reference(merged, ids), ours)
        expect(bad, f"{name} trained {kind}, merged safetensors in Loquat",
               hf_models.logits(loquat, artifacts["safetensors"], ids, work), reference(merged, ids))


def artifacts_of(run):
    return {a["kind"]: pathlib.Path(a["path"]) for a in json.loads((run / "run.json").read_text())["artifacts"]}


# A GGUF that no config.json can be made of, which Loquat has to say before it trains.
REFUSED = {"qwen2-yarn": "no config.json can be made of it"}


def refuses(loquat, name, config, out, bad):
    done = subprocess.run([loquat, "train", config], capture_output=True, text=True)
    if not done.returncode or REFUSED[name] not in done.stderr or out.exists():
        bad.append(f"{name} from a GGUF: not refused at once, but {done.returncode}: {done.stderr}")


def merged(loquat, name, work, ids, bad):
    """Every family as merged safetensors: from its directory, and from a GGUF, where config.json is made from keys."""
    directory, base = work / name, work / f"{name}.gguf"
    hf_models.make(name, directory)
    (hf_models.bpe_tokenizer if name.startswith(hf_models.BYTE_LEVEL) else hf_models.spm_tokenizer)(directory)
    hf_models.run(loquat, "merge", directory, "--output", base, "--type", "F32")
    (work / "train.jsonl").write_text("".join(json.dumps({"text": f"the cat sat on the mat {i}"}) + "\n" for i in range(8)))
    for what, model in (("a directory", directory), ("a GGUF", base)):
        out = work / f"merged-{name}-{model.suffix[1:]}"
        (work / "run.yaml").write_text(
            f"base_model: {model}\ndata: {work / 'train.jsonl'}\noutput_dir: {out}\nlora_r: 2\nmax_steps: 2\n"
            "micro_batch_size: 2\nlearning_rate: 0.05\nval_set_size: 0.25\nsequence_len: 64\n"
            "qat: {weight_dtype: q8_0, mode: merged}\nexport: {merged_safetensors: true}\n")
        if model == base and name in REFUSED:
            refuses(loquat, name, work / "run.yaml", out, bad)
            continue
        hf_models.run(loquat, "train", work / "run.yaml")
        made = artifacts_of(out)["safetensors"]
        report = []
        expect(report, f"{name} from {what}, trained as Q8_0, merged safetensors", reference(fresh(made), ids),
               hf_models.logits(loquat, out, ids, work))
        bad += report
        if model == base:
            tokens(loquat, name, base, made, bad)
        for file in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json"):
            if model == directory and (directory / file).exists() and \
                    (directory / file).read_bytes() != (made / file).read_bytes():
                bad.append(f"{name}: {file} is not the base's")


def tokens(loquat, name, base, made, bad):
    """transformers' ids from the files that were made of a GGUF's tokenizer; none are for SentencePiece without bytes."""
    if not (made / "tokenizer.json").exists():
        if name.startswith(hf_models.BYTE_LEVEL):
            bad.append(f"{name}: no tokenizer.json")
        return
    tokenizer = hf.AutoTokenizer.from_pretrained(made)
    template = (made / "chat_template.jinja").read_text()
    if tokenizer.chat_template != template:
        bad.append(f"{name}: the chat template is not the base's")
    for text in ("the cat sat on the mat", " the  dog\n\nran away", "the mat and the cat"):
        want = json.loads(hf_models.run(loquat, "tokenize", base, text, "--json"))["ids"]
        got = tokenizer(text).input_ids
        if got != want:
            bad.append(f"{name}: {text!r} is {got} in transformers, {want} here")


def gradients(loquat, name, work, bad):
    """One step of gradient descent from the same DoRA adapter: what changed is the gradient."""
    base, start, out, rate = work / name, work / "dora-start", work / f"run-{name}-gradient", 0.5
    options = dict(r=4, lora_alpha=6, target_modules=ALL, use_dora=True)
    model = adapt(fresh(base), options)
    model.save_pretrained(start)
    data = work / "one.jsonl"
    data.write_text(json.dumps({"text": "the cat sat on the mat"}) + "\n")
    (work / "run.yaml").write_text(
        f"base_model: {base}\ndata: {data}\noutput_dir: {out}\nlora_model_dir: {start}\nlora_r: 4\nlora_alpha: 6\n"
        f"use_dora: true\nmax_steps: 1\nmicro_batch_size: 1\nlearning_rate: {rate}\noptimizer: sgd\nadam_beta1: 0\n"
        "weight_decay: 0\nmax_grad_norm: 0\nwarmup_ratio: 0\nlr_scheduler: constant\nval_set_size: 0\n"
        "export: {quantize: [F32], peft: true}\n")
    hf_models.run(loquat, "train", work / "run.yaml")
    artifacts = {a["kind"]: pathlib.Path(a["path"]) for a in json.loads((out / "run.json").read_text())["artifacts"]}
    ids = json.loads(hf_models.run(loquat, "tokenize", base, "--messages", data, "--json"))["ids"]
    model.requires_grad_(False)
    for key, x in model.named_parameters():
        x.requires_grad_("lora_" in key)
    model(torch.tensor([ids]), labels=torch.tensor([ids])).loss.backward()
    stepped = safetensors.torch.load_file(artifacts["peft"] / "adapter_model.safetensors")
    before = safetensors.torch.load_file(start / "adapter_model.safetensors")
    for part in ("lora_A", "lora_B", "lora_magnitude_vector"):
        got = torch.cat([((before[k] - stepped[k]) / rate).flatten() for k in sorted(stepped) if part in k])
        wanted = {k.replace(".default", "").replace("_vector.weight", "_vector"): x.grad
                  for k, x in model.named_parameters() if x.grad is not None}
        want = torch.cat([wanted[k].flatten() for k in sorted(stepped) if part in k])
        off = ((got - want).norm() / want.norm()).item()
        print(f"{name} DoRA's gradient of {part}: off by {off:.1e} of its length")
        if not off <= TOLERANCE:
            bad.append(f"{name} DoRA's gradient of {part}: off by {off:.2e}")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("loquat", type=lambda x: pathlib.Path(x).resolve())
    p.add_argument("--only", default="", help="only merged models, of those whose name contains this")
    args = p.parse_args()
    bad = []
    ids = torch.randint(0, 96, (24,), generator=torch.Generator().manual_seed(1)).tolist()
    with tempfile.TemporaryDirectory() as tmp:
        work = pathlib.Path(tmp)
        (work / "merged").mkdir()
        for name in () if args.only else ("llama-tied", "qwen3"):
            into_loquat(args.loquat, name, work, ids, bad)
            out_of_loquat(args.loquat, name, work, ids, bad)
            gradients(args.loquat, name, work, bad)
        for name in hf_models.MODELS:
            if args.only in name:
                merged(args.loquat, name, work / "merged", ids, bad)
    print("\n".join(bad) if bad else "adapters and merged models agree both ways")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
