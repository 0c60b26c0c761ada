"""Writes autograd/formats/iq_grids.h, the code books of the IQ formats, from what the gguf package knows.

    make_iq_grids.py > autograd/formats/iq_grids.h
"""
import numpy as np
from gguf import quants

GRIDS = ["IQ1_S", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"]  # IQ1_M has IQ1_S's


def entries(quant):
    """Per entry the indices of its numbers among grid_map, the first in the lowest bits."""
    quant.init_grid()
    index = np.searchsorted(np.array(quant.grid_map), quant.grid.reshape(quant.grid_shape))
    bits = 2 if len(quant.grid_map) <= 4 else 3
    return (index << bits * np.arange(quant.grid_shape[1])).sum(1)


def main():
    print("/* Made by tests/conformance/make_iq_grids.py: the code books of the IQ formats, see iq_parts.h.")
    print(" * Whoever includes it says by LQ_GRID what they are. */")
    for name in GRIDS:
        values = [f"0x{entry:04x}" for entry in entries(getattr(quants, name))]
        print(f"\nLQ_GRID uint16_t lq_{name.lower()}_grid[{len(values)}] = {{")
        for k in range(0, len(values), 12):
            print("    " + ", ".join(values[k:k + 12]) + ",")
        print("};")


if __name__ == "__main__":
    main()
