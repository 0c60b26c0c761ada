/* The oracle side of check_tokenizer.py: llama.cpp's tokens and text. See token_lines.h. */
#include "token_lines.h"

#include <llama.h>

static void quiet(enum ggml_log_level level, const char *text, void *ctx) {
    (void)ctx;
    if (level == GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    llama_log_set(quiet, NULL);
    struct llama_model_params params = llama_model_default_params();
    params.vocab_only = true;
    struct llama_model *model = llama_model_load_from_file(argv[1], params);
    FILE *f = fopen(argv[2], "rb");
    const int flags = atoi(argv[3]);
    if (!model || !f) return 1;
    const struct llama_vocab *vocab = llama_model_get_vocab(model);
    uint32_t n;
    for (char *text; (text = next_record(f, &n)); free(text)) {
        const int32_t room = (int32_t)n * 4 + 16;
        int32_t *id = malloc((size_t)room * sizeof *id);
        if (!id) return 1;
        const int32_t count =
            llama_tokenize(vocab, text, (int32_t)n, id, room, flags & 1, (flags & 2) != 0);
        const int32_t bytes = -llama_detokenize(vocab, id, count, NULL, 0, false, true);
        char *back = malloc((size_t)(bytes > 0 ? bytes : 0) + 64);
        if (count < 0 || !back) return 1;
        const int32_t n_back =
            llama_detokenize(vocab, id, count, back, bytes > 0 ? bytes + 64 : 64, false, true);
        print_record(id, count, back, n_back > 0 ? (size_t)n_back : 0);
        free(back);
        free(id);
    }
    fclose(f);
    llama_model_free(model);
    return 0;
}
