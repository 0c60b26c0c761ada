/* Writes a small random llama with a tokenizer, for tests that are scripts: make_tiny OUT.gguf */
#include "tiny_model.h"

#include <stdio.h>

int main(int argc, char **argv) {
    const tiny_model defaults = {0};
    if (argc != 2) return 2;
    if (tiny_model_write(argv[1], &defaults) == LQ_OK) return 0;
    fprintf(stderr, "make_tiny: %s\n", lq_error());
    return 1;
}
