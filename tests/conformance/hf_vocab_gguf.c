/* DIR OUT.gguf: the tokenizer of a Hugging Face directory as a GGUF without tensors, for
 * check_hf_tokenizer.py. */
#include "hf_tokenizer.h"

#include <stdio.h>

static void print_line(void *ctx, lq_log_level level, const char *line) {
    (void)ctx;
    if (level == LQ_LOG_WARN) fprintf(stderr, "%s\n", line);
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    lq_gguf_writer *w = NULL;
    lq_set_log(print_line, NULL);
    lq_status status = lq_gguf_writer_new(&w);
    if (status == LQ_OK)
        status = lq_gguf_writer_set_string(w, "general.architecture", "llama");
    if (status == LQ_OK) status = lq_hf_tokenizer_metadata(w, argv[1]);
    if (status == LQ_OK) status = lq_gguf_writer_write(w, argv[2]);
    if (status != LQ_OK) fprintf(stderr, "%s\n", lq_error());
    lq_gguf_writer_free(w);
    return status != LQ_OK;
}
