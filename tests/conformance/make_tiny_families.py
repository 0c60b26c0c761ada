#!/usr/bin/env python3
"""Makes a tiny random model of every family, and tests/reference/<case>.gguf, <case>.ref.gguf for check_build.c.

Each case is a model of Hugging Face transformers, evaluated in float64 on two examples of unequal length, each on its
own; the second may begin at a later position, past the original context where RoPE is scaled. <case>.gguf is the model
as llama.cpp stores it. <case>.ref.gguf holds the examples end to end (ids, labels, pos, starts), and in F32: logits;
loss (the sum over labels >= 0); d.<tensor>, the loss's gradient for every weight; an adapter <tensor>.a, <tensor>.b of
scale lora_scale on the linears of the blocks with lora_logits, lora_loss, d.<tensor>.a, d.<tensor>.b. Needs torch,
transformers, gguf (made with 2.15, 5.23, 0.19):

    python3 tests/conformance/make_tiny_families.py [--out DIRECTORY] [CASE ...]

hf/<case> is the model as transformers saves it (F32 safetensors and config.json), for check_hf_families.c.
"""
import argparse
import pathlib
import re
import zlib

import gguf
import torch
import transformers as hf

from families import FAMILIES

LENGTHS = (7, 5)
RANK, LORA_SCALE = 2, 1.5
LINEAR = re.compile(r"blk\.\d+\.(attn_(q|k|v|qkv|output)|ffn_(gate|up|down)(_shexp|_exps)?)\.weight")


def layer_of(key):
    found = re.search(r"\.(?:layers|h|blocks)\.(\d+)\.", key)
    return found.group(1) if found else ""


class Case:
    """`stored` holds the model's tensors as the GGUF does; what transformers needs is computed from them."""

    def __init__(self, name, family=None, deviation=None):
        """`family`: another than the name's. `deviation` of matrices, as a function of the row length."""
        self.family = family or FAMILIES[name]
        self.deviation = deviation or (lambda cols: 0.3)
        self.config = self.family.config(**self.family.options)
        torch.manual_seed(zlib.crc32(name.encode()))
        self.model = hf.AutoModelForCausalLM.from_config(self.config, attn_implementation="eager",
                                                             experts_implementation="eager").double().eval()
        self.stored, self.source = {}, {}
        for key, p in self.model.named_parameters():
            self.add(key, p)
        self.ids = [torch.randint(0, self.config.vocab_size, (n,)) for n in LENGTHS]
        self.labels = [torch.cat([ids[1:], torch.tensor([-1])]) for ids in self.ids]
        self.labels[0][2] = -1
        self.pos = [torch.arange(first, first + n) for n, first in zip(LENGTHS, self.family.first)]
        self.lora = {name: [self.random((*x.shape[:-2], *s), 0.3) for s in ((RANK, x.shape[-1]), (x.shape[-2], RANK))]
                     for name, x in self.stored.items() if LINEAR.fullmatch(name)}
        with torch.no_grad():
            for key, p in self.model.named_parameters():
                p.copy_(self.restored(key, self.stored))

    @staticmethod
    def random(shape, deviation, mean=0.0):
        return (mean + torch.randn(shape) * deviation).float().double().requires_grad_()

    def add(self, key, p):
        module, dot, kind = key.rpartition(".")
        if kind not in ("weight", "bias"):  # a parameter of the module's own
            module, kind = key, "weight"
        rule = next((r for r in self.family.rules if re.fullmatch(r.pattern, module)), None)
        assert rule, f"no rule for {key}"
        names = [f"{part.replace('#', layer_of(key))}.{kind}" for part in rule.stored.split()]
        for part, shape in zip(names, rule.shapes(self.config, tuple(p.shape))):
            norm = "norm" in part and kind == "weight"
            self.stored[part] = self.random(shape, 0.2 if len(shape) == 1 else self.deviation(shape[-1]),
                                            1.0 if norm else 0.0)
        self.source[key] = (rule, names)

    def restored(self, key, stored):
        rule, names = self.source[key]
        return rule.restore(self.config, *(stored[n] for n in names))

    def run(self, stored):
        params = {key: self.restored(key, stored) for key in self.source}
        if getattr(self.config, "tie_word_embeddings", False):
            params["lm_head.weight"] = self.restored(next(iter(self.source)), stored)
        call = torch.func.functional_call
        logits = torch.cat([call(self.model, params, (ids[None],), self.family.inputs(pos)).logits[0]
                            for ids, pos in zip(self.ids, self.pos)])
        loss = torch.nn.functional.cross_entropy(logits, torch.cat(self.labels), ignore_index=-1, reduction="sum")
        return logits, loss


def to_numpy(x):
    return x.detach().float().numpy()


def no_vocabulary(w):
    w.add_tokenizer_model("no_vocab")


def write_model(case, path, add_vocabulary=no_vocabulary):
    w = gguf.GGUFWriter(path, case.family.arch)
    w.add_vocab_size(case.config.vocab_size)
    add_vocabulary(w)
    case.family.keys(w, case.config)
    for name, values in case.family.tables(case):
        w.add_tensor(name, values)
    for name, x in case.stored.items():
        w.add_tensor(name, to_numpy(x))
    finish(w)


def write_gradients(w, loss, leaves):
    for (name, _), g in zip(leaves.items(), torch.autograd.grad(loss, list(leaves.values()))):
        w.add_tensor("d." + name, to_numpy(g))


def write_reference(case, path):
    w = gguf.GGUFWriter(path, "reference")
    w.add_float32("lora_scale", LORA_SCALE)
    w.add_uint32("n_ctx", int(max(pos[-1] for pos in case.pos)) + 1)
    join = lambda parts: torch.cat(list(parts)).int().numpy()
    w.add_tensor("ids", join(case.ids))
    w.add_tensor("labels", join(case.labels))
    w.add_tensor("pos", join(case.pos))
    w.add_tensor("starts", join(torch.full((n,), sum(LENGTHS[:i])) for i, n in enumerate(LENGTHS)))
    logits, loss = case.run(case.stored)
    w.add_tensor("logits", to_numpy(logits))
    w.add_tensor("loss", to_numpy(loss.reshape(1)))
    write_gradients(w, loss, case.stored)
    logits, loss = case.run(case.stored | {n: case.stored[n] + LORA_SCALE * b @ a for n, (a, b) in case.lora.items()})
    w.add_tensor("lora_logits", to_numpy(logits))
    w.add_tensor("lora_loss", to_numpy(loss.reshape(1)))
    leaves = {f"{n}.{suffix}": x for n, pair in case.lora.items() for suffix, x in zip("ab", pair)}
    for name, x in leaves.items():
        w.add_tensor(name, to_numpy(x))
    write_gradients(w, loss, leaves)
    finish(w)


def finish(w):
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent.parent / "reference")
    p.add_argument("case", nargs="*")
    args = p.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.case or FAMILIES:
        case = Case(name)
        write_model(case, args.out / f"{name}.gguf")
        write_reference(case, args.out / f"{name}.ref.gguf")
        case.model.float().save_pretrained(args.out / "hf" / name)
        (args.out / "hf" / name / "generation_config.json").unlink(missing_ok=True)
        print(name, flush=True)


if __name__ == "__main__":
    main()
