/* lq_model_open on damaged models: an error with a message, or a model that runs. */
#define _GNU_SOURCE   /* memfd_create */
#include "fuzz.h"

#include "atomic_file.h"
#include "model.h"
#include "tiny_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ROWS = 3 };

/* A file that lives in memory; its name is in `path`. */
static int memory_file(char path[64]) {
    const int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0) abort();
    snprintf(path, 64, "/proc/self/fd/%d", fd);
    return fd;
}

static char *make_seed(size_t *size, const tiny_model *o) {
    char name[] = "/tmp/loquat-fuzz-XXXXXX", *bytes = NULL;
    const int fd = mkstemp(name);
    if (fd < 0 || tiny_model_write(name, o) != LQ_OK || lq_read_file(&bytes, size, name) != LQ_OK)
        abort();
    close(fd);
    unlink(name);
    return bytes;
}

const uint8_t *fuzz_seed(int i, size_t *size) {
    static const tiny_model options[] = {
        {.n_embd = 8, .n_layer = 1, .n_head = 2, .n_ff = 8, .biases = true, .rope_freqs = true},
        {.n_embd = 8, .n_layer = 1, .n_head = 2, .n_ff = 8, .n_vocab = 8, .no_tokenizer = true},
    };
    static char *seed[LQ_ARRAY_LEN(options)];
    static size_t sizes[LQ_ARRAY_LEN(options)];
    if (i >= LQ_ARRAY_LEN(options)) return NULL;
    if (!seed[i]) seed[i] = make_seed(&sizes[i], &options[i]);
    *size = sizes[i];
    return (const uint8_t *)seed[i];
}

static void run(const lq_model *m) {
    lq_tape *tape = NULL;
    lq_model_io io;
    if (lq_tape_new(&tape, ROWS) != LQ_OK) abort();
    if (lq_model_build(m, &(lq_build_options){0}, tape, &io) == LQ_OK &&
        lq_tape_compile(tape, &(lq_tape_options){0}) == LQ_OK && lq_tape_alloc(tape) == LQ_OK) {
        for (int32_t i = 0; i < ROWS; i++) {
            ((int32_t *)io.ids->data)[i] = i % (int32_t)m->hp.n_vocab;
            ((int32_t *)io.pos->data)[i] = i;
        }
        lq_tape_forward(tape, 1, 0);
    }
    lq_tape_free(tape);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char path[64];
    lq_model *m = NULL;
    const int fd = memory_file(path);
    if (write(fd, data, size) != (ssize_t)size) abort();
    lq_error_clear();
    if (lq_model_open(&m, path, true) == LQ_OK)
        run(m);
    else if (m || !*lq_error())
        abort();
    lq_model_close(m);
    close(fd);
    return 0;
}
