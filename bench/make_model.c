/* Writes a random GGUF in the shape of a public model, for bench/run.py:
 *   bench_make_model SHAPE OUT.gguf [TYPE]
 * The tokenizer is a character-level one, so the text of N digits is N + 2 tokens with the leading
 * BOS and space. */
#include "tiny_model.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    tiny_model options;
} shapes[] = {
    {"stories260k", {.n_vocab = 512, .n_embd = 64, .n_layer = 5, .n_head = 8, .n_head_kv = 4,
                     .n_ff = 172, .n_ctx = 512, .tied = true}},
    {"smollm2-135m", {.n_vocab = 49152, .n_embd = 576, .n_layer = 30, .n_head = 9, .n_head_kv = 3,
                      .n_ff = 1536, .n_ctx = 2048, .rope_base = 100000, .tied = true}},
    {"llama-3.2-1b", {.n_vocab = 128256, .n_embd = 2048, .n_layer = 16, .n_head = 32,
                      .n_head_kv = 8, .n_ff = 8192, .n_ctx = 8192, .rope_base = 500000,
                      .tied = true, .rope_freqs = true}},
    {"llama-3-8b", {.n_vocab = 128256, .n_embd = 4096, .n_layer = 32, .n_head = 32,
                    .n_head_kv = 8, .n_ff = 14336, .n_ctx = 8192, .rope_base = 500000}},
};

static const tiny_model *find_shape(const char *name) {
    for (int i = 0; i < LQ_ARRAY_LEN(shapes); i++)
        if (!strcmp(shapes[i].name, name)) return &shapes[i].options;
    return NULL;
}

static int usage(void) {
    fputs("usage: bench_make_model SHAPE OUT.gguf [TYPE]\nshapes:", stderr);
    for (int i = 0; i < LQ_ARRAY_LEN(shapes); i++) fprintf(stderr, " %s", shapes[i].name);
    fputs("\n", stderr);
    return 2;
}

int main(int argc, char **argv) {
    const tiny_model *const shape = argc > 2 ? find_shape(argv[1]) : NULL;
    const lq_format *const fmt = argc > 3 ? lq_format_by_name(argv[3]) : &lq_f32;
    if (!shape || !fmt || argc > 4) return usage();
    tiny_model options = *shape;
    options.fmt = fmt;
    if (tiny_model_write(argv[2], &options) == LQ_OK) return 0;
    fprintf(stderr, "bench_make_model: %s\n", lq_error());
    return 1;
}
