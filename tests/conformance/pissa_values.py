#!/usr/bin/env python3
"""Writes tests/reference/pissa_values.h: what PEFT's PiSSA takes from a weight, s B A, for check_pissa. Needs torch and peft.

  python3 tests/conformance/pissa_values.py > tests/reference/pissa_values.h
"""
import peft
import torch

ROWS, COLS, R, ALPHA = 13, 9, 3, 5

i = torch.arange(ROWS * COLS, dtype=torch.float64)
model = torch.nn.Sequential(torch.nn.Linear(COLS, ROWS, bias=False))
model[0].weight.data = torch.sin(0.37 * i * i + 0.2).float().reshape(ROWS, COLS)   # as check_pissa makes it
config = peft.LoraConfig(r=R, lora_alpha=ALPHA, target_modules=["0"], init_lora_weights="pissa")
layer = peft.get_peft_model(model, config).base_model.model[0]
product = layer.scaling["default"] * layer.lora_B.default.weight @ layer.lora_A.default.weight
print("/* Written by conformance/pissa_values.py from PEFT; see there. */")
print(f"static const float peft_taken[] = {{{', '.join(f'{v:.7g}' for v in product.flatten().tolist())}}};")
