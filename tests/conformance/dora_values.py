#!/usr/bin/env python3
"""Writes tests/reference/dora_values.h: the output and the gradients of one linear layer with a DoRA adapter, by PEFT in
double precision, for check_dora. Needs torch and peft.

  python3 tests/conformance/dora_values.py > tests/reference/dora_values.h
"""
import peft
import torch

N, D, O, R, ALPHA = 3, 8, 5, 2, 3


def wave(start, *shape):
    """The numbers that check_dora makes too, rounded to single precision as there."""
    i = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return (1.5 * torch.sin(0.7 * i + start)).float().double().reshape(shape)


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(D, O)

    def forward(self, x):
        return self.linear(x)


model = Model().double()
model.linear.weight.data = wave(0.2, O, D)
model.linear.bias.data = wave(0.3, O)
config = peft.LoraConfig(r=R, lora_alpha=ALPHA, target_modules=["linear"], use_dora=True)
layer = peft.get_peft_model(model, config).base_model.model.linear.double()
parts = {"a": layer.lora_A.default.weight, "b": layer.lora_B.default.weight,
         "m": layer.lora_magnitude_vector.default.weight}
parts["a"].data, parts["b"].data, parts["m"].data = wave(0.4, R, D), wave(0.5, O, R), wave(0.6, O)
x = wave(0.1, N, D).requires_grad_()
out = layer(x)
out.backward(wave(0.7, N, O))
print("/* Written by conformance/dora_values.py from PEFT; see there. */")
values = {"out": out, "dx": x.grad} | {"d" + part: parameter.grad for part, parameter in parts.items()}
for name, value in values.items():
    numbers = ", ".join(f"{v:.9g}" for v in value.flatten().tolist())
    print(f"static const float peft_{name}[] = {{{numbers}}};")
