"""llama-perplexity, for the other scripts.

It exits without waiting for the thread that writes its log, which then ends early: on a busy machine in every other run."""
import re
import subprocess

NUMBER = r"[^0-9\-]*(-?[0-9.]+)"
ESTIMATE = r"Final estimate: PPL =" + NUMBER
EXACT = ("-t", 1, "-fa", "off", "-ctk", "f32", "-ctv", "f32")
TRIES = 40


def llama_perplexity(binaries, wanted, *options):
    """The match of the pattern `wanted` in what it prints; `.string` is all of that."""
    command = [f"{binaries}/llama-perplexity", *map(str, options)]
    for _ in range(TRIES):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        found = re.search(wanted, done.stdout)
        if found or done.returncode:
            break
    if not found or done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {wanted!r} is not in\n{done.stdout[-3000:]}")
    return found
