/* VOCAB.gguf DIR: the tokenizer of a GGUF as files for transformers, for check_hf_write.py. */
#include "atomic_file.h"
#include "hf_tokenizer_write.h"

#include <stdio.h>

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    lq_gguf *g = NULL;
    lq_tokenizer *t = NULL;
    lq_status status = lq_gguf_open(&g, argv[1]);
    if (status == LQ_OK) status = lq_tokenizer_from_gguf(&t, g);
    if (status == LQ_OK) status = lq_make_dirs(argv[2]);
    if (status == LQ_OK) status = lq_hf_tokenizer_write(t, g, argv[2]);
    if (status != LQ_OK) fprintf(stderr, "%s\n", lq_error());
    lq_tokenizer_close(t);
    lq_gguf_close(g);
    return status != LQ_OK;
}
