"""llama.cpp's convert_hf_to_gguf.py, for the other scripts.

It knows byte-level tokenizers by a hash of the ids that they give one text. Those made for tests are mostly none that it
knows; `pre` is then the name it is told."""
import subprocess
import sys

TOLD = """import sys, runpy
source, pre = sys.argv.pop(1), sys.argv.pop(1)
sys.path[:0] = [source, source + "/gguf-py"]
from conversion import base
base.TextModel.get_vocab_base_pre = lambda self, tokenizer: pre
sys.argv[0] = source + "/convert_hf_to_gguf.py"
runpy.run_path(sys.argv[0], run_name="__main__")"""


def convert(source, pre, *args):
    """What the converter said, as subprocess.run gives it. Without `pre` it finds the name itself, or fails."""
    start = ["-c", TOLD, source, pre] if pre else [f"{source}/convert_hf_to_gguf.py"]
    return subprocess.run([sys.executable, *map(str, start), *map(str, args)], capture_output=True, text=True, check=False)
