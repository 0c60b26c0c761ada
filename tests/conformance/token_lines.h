/* What llama_tokens.c and loquat_tokens.c share: MODEL TEXTS FLAGS on the command line. TEXTS is a
 * file of records: a little-endian u32 length, then that many bytes. FLAGS: 1 add special, 2 parse
 * special. For each record two lines go out: the ids, then the detokenized bytes as hex. */
#ifndef LOQUAT_TOKEN_LINES_H
#define LOQUAT_TOKEN_LINES_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* The next record (the caller frees it), or NULL at the end. */
static inline char *next_record(FILE *f, uint32_t *n) {
    if (fread(n, sizeof *n, 1, f) != 1) return NULL;
    char *text = malloc(*n + 1u);
    if (text && fread(text, 1, *n, f) == *n) return text;
    free(text);
    return NULL;
}

static inline void print_record(const int32_t *id, long n, const char *text, size_t n_text) {
    for (long i = 0; i < n; i++) printf("%d ", id[i]);
    putchar('\n');
    for (size_t i = 0; i < n_text; i++) printf("%02x", (unsigned)(unsigned char)text[i]);
    putchar('\n');
}

#endif
