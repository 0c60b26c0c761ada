"""Loquat against live PEFT and transformers on the experts of mixtures: adapters in both of PEFT's forms (a parameter of all
experts together; one module per expert, as before transformers 5), read; and what Loquat trains, written for PEFT and for
llama.cpp's --lora. All by logits.

  hf_experts.py LOQUAT"""
import argparse
import json
import pathlib
import sys
import tempfile

import numpy as np
import peft
import safetensors.torch
import torch

import hf_models
import hf_peft
import llama_cpp

NAMES = ("mixtral", "qwen2moe", "qwen3moe")
GATE_UP, DOWN = "mlp.experts.gate_up_proj", "mlp.experts.down_proj"
FUSED = {
    "both": dict(target_modules=["q_proj"], target_parameters=[DOWN, GATE_UP]),
    "all-linear": dict(target_modules="all-linear"),   # with the routers
    "router": dict(target_modules=[], target_parameters=["mlp.gate.weight"], alpha_pattern={"gate.weight": 5, "gate": 9}),
    "rslora": dict(target_modules=[], target_parameters=[GATE_UP, DOWN], use_rslora=True),
    "gate and up": dict(target_modules=[], target_parameters=["gate_up_proj"], alpha_pattern={"experts.gate_up_proj": 5}),
    "down": dict(target_modules=["v_proj"], target_parameters=[DOWN], rank_pattern={"down_proj": 2}),
    "one layer each": dict(target_modules=[], target_parameters=["model.layers.1." + GATE_UP, "layers.2." + DOWN],
                           rank_pattern={r".*\.1\.mlp\.experts\.gate_up_proj": 3}),
}


def loquat_logits(loquat, model, adapter, ids, work):
    hf_models.run(loquat, "logits", model, "--lora", adapter, "--ids", " ".join(map(str, ids)), "--output", work / "l.npy")
    return np.load(work / "l.npy")


def read_fused(loquat, name, base, work, ids, bad):
    for kind, options in FUSED.items():
        model = hf_peft.adapt(hf_peft.fresh(base), dict(r=4, lora_alpha=8) | options)
        adapter = work / f"{name}-{kind}"
        model.save_pretrained(adapter)
        want = hf_peft.reference(model, ids)
        for path in (base, work / f"{name}.gguf"):
            hf_peft.expect(bad, f"{name} + PEFT's fused {kind} on {path.name}", loquat_logits(loquat, path, adapter, ids, work),
                           want)
        hf_models.run(loquat, "merge", base, "--lora", adapter, "--output", work / "merged.gguf", "--type", "F32")
        hf_peft.expect(bad, f"{name} + PEFT's fused {kind}, merged",
                       hf_models.logits(loquat, work / "merged.gguf", ids, work), want)


def read_single(loquat, name, base, work, ids, bad):
    """An adapter per expert, its products added to the model's weights here."""
    model, rank, alpha = hf_peft.fresh(base), 3, 5.0
    mixtral = name == "mixtral"
    names = ("w1", "w3", "w2") if mixtral else ("gate_proj", "up_proj", "down_proj")
    tensors, generator = {}, torch.Generator().manual_seed(9)
    for layer, block in enumerate(model.model.layers):
        experts = block.mlp.experts
        half = experts.gate_up_proj.shape[1] // 2
        for e in range(experts.gate_up_proj.shape[0]):
            for leaf, w in zip(names, (experts.gate_up_proj.data[e, :half], experts.gate_up_proj.data[e, half:],
                                       experts.down_proj.data[e])):
                a = 0.2 * torch.randn(rank, w.shape[1], generator=generator)
                b = 0.2 * torch.randn(w.shape[0], rank, generator=generator)
                w += alpha / rank * b @ a
                path = f"base_model.model.model.layers.{layer}.{'block_sparse_moe' if mixtral else 'mlp'}.experts.{e}.{leaf}"
                tensors |= {path + ".lora_A.weight": a, path + ".lora_B.weight": b}
    adapter = work / f"{name}-single"
    adapter.mkdir()
    safetensors.torch.save_file(tensors, adapter / "adapter_model.safetensors")
    (adapter / "adapter_config.json").write_text(json.dumps(dict(
        peft_type="LORA", task_type="CAUSAL_LM", r=rank, lora_alpha=alpha, target_modules=list(names), bias="none",
        base_model_name_or_path=str(base))))
    want = hf_peft.reference(model, ids)
    hf_peft.expect(bad, f"{name} + an adapter per expert", loquat_logits(loquat, base, adapter, ids, work), want)
    if name != "qwen2moe":   # which PEFT does not convert
        converted = peft.PeftModel.from_pretrained(hf_peft.fresh(base), adapter).eval()
        hf_peft.expect(bad, f"{name} + an adapter per expert, PEFT's own reading", hf_peft.reference(converted, ids), want)


TRAINED = {
    "no experts": ("[all-linear]", ""),
    "all": ("[q_proj, experts.gate_proj, experts.up_proj, experts.down_proj]", ""),
    "ranks": ("[experts.gate_proj, experts.up_proj, experts.down_proj]",
              "use_rslora: true\nlora_rank_pattern: {up_proj: 3}\nlora_alpha_pattern: {gate_proj: 5}\n"),
    "up": ("[v_proj, experts.up_proj]", "lora_layers_to_transform: [0, 2]\n"),
    "down": ("[experts.down_proj]", ""),
    "router": ("[q_proj, mlp.gate]", "lora_alpha_pattern: {mlp.gate: 6}\nlora_dropout: 0.05\n"),
    "router and all": ("[mlp.gate, v_proj, 'experts.*']", ""),
}


def config(base, data, out, targets, more, export):
    return (f"base_model: {base}\ndata: {data}\noutput_dir: {out}\nlora_r: 2\nlora_alpha: 4\nlora_target_modules: {targets}\n"
            f"{more}max_steps: 4\nmicro_batch_size: 2\nlearning_rate: 0.05\nsequence_len: 64\nval_set_size: 0.25\n"
            f"lr_scheduler: constant\nexport: {export}\n")


def written(loquat, name, base, work, ids, bad):
    """What Loquat trained and wrote, in PEFT, in llama.cpp, and as the start of another run."""
    (hf_models.bpe_tokenizer if "qwen" in name else hf_models.spm_tokenizer)(base)
    data = work / "train.jsonl"
    data.write_text("".join(json.dumps({"text": f"the cat sat on the mat {i}"}) + "\n" for i in range(8)))
    hf_models.run(loquat, "merge", base, "--output", work / "spoken.gguf", "--type", "F32")   # with the tokenizer
    plain = hf_peft.reference(hf_peft.fresh(base), ids)
    for kind, (targets, more) in TRAINED.items():
        out = work / f"run-{name}-{kind}"
        (work / "run.yaml").write_text(config(base, data, out, targets, more, "{quantize: [F32], lora: true, peft: true}"))
        hf_models.run(loquat, "train", work / "run.yaml")
        artifacts = hf_peft.artifacts_of(out)
        hf_models.run(loquat, "logits", out, "--ids", " ".join(map(str, ids)), "--output", work / "l.npy")
        ours = np.load(work / "l.npy")
        if hf_peft.shapes(artifacts["peft"]) != hf_peft.saved_by_peft(base, artifacts["peft"], work):
            bad.append(f"{name} {kind}: other keys, dtypes or shapes than PEFT's own")
        hf_peft.expect(bad, f"{name} trained {kind}, in PEFT", hf_peft.reference(
            peft.PeftModel.from_pretrained(hf_peft.fresh(base), artifacts["peft"]).eval(), ids), ours)
        hf_peft.expect(bad, f"{name} trained {kind}, PEFT's form in Loquat",
                       loquat_logits(loquat, base, artifacts["peft"], ids, work), ours)
        hf_peft.expect(bad, f"{name} trained {kind}, base + adapter in llama.cpp",
                       llama_cpp.logits(work / "spoken.gguf", ids, artifacts["adapter"]), ours)
        if np.abs(plain - ours).max() < 100 * hf_peft.TOLERANCE:
            bad.append(f"{name} {kind}: training changed nothing")
        (work / "run.yaml").write_text(config(base, data, work / f"again-{name}-{kind}", targets, more +
                                              f"lora_model_dir: {artifacts['peft']}\n", "{peft: true}"))
        hf_models.run(loquat, "train", work / "run.yaml")


def continued(loquat, name, base, work, ids, bad):
    """PEFT's adapter as the start of a run that changes next to nothing."""
    start, out = work / f"{name}-both", work / f"run-{name}-continued"
    targets = "[q_proj, experts.gate_proj, experts.up_proj, experts.down_proj]"
    text = config(base, work / "train.jsonl", out, targets, f"lora_model_dir: {start}\n", "{quantize: [F32]}")
    for old, new in (("lora_r: 2", "lora_r: 4"), ("lora_alpha: 4", "lora_alpha: 3"), ("0.05", "1e-9"),
                     ("max_steps: 4", "max_steps: 1")):
        text = text.replace(old, new)
    (work / "run.yaml").write_text(text)
    hf_models.run(loquat, "train", work / "run.yaml")
    want = hf_peft.reference(peft.PeftModel.from_pretrained(hf_peft.fresh(base), start).eval(), ids)
    hf_models.run(loquat, "logits", out, "--ids", " ".join(map(str, ids)), "--output", work / "l.npy")
    hf_peft.expect(bad, f"{name} continued from PEFT's", np.load(work / "l.npy"), want)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("loquat", type=lambda x: pathlib.Path(x).resolve())
    args = p.parse_args()
    bad = []
    ids = torch.randint(0, 96, (24,), generator=torch.Generator().manual_seed(1)).tolist()
    with tempfile.TemporaryDirectory() as tmp:
        work = pathlib.Path(tmp)
        for name in NAMES:
            base = work / name
            hf_models.make(name, base)
            hf_models.run(args.loquat, "merge", base, "--output", work / f"{name}.gguf", "--type", "F32")
            read_fused(args.loquat, name, base, work, ids, bad)
            read_single(args.loquat, name, base, work, ids, bad)
            written(args.loquat, name, base, work, ids, bad)
            continued(args.loquat, name, base, work, ids, bad)
    print("\n".join(bad) if bad else "adapters on experts agree both ways")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
