/* The keys quantize.imatrix.* of a file that was quantized with an importance matrix. */
#ifndef LOQUAT_IMATRIX_KEYS_H
#define LOQUAT_IMATRIX_KEYS_H

#include "imatrix.h"

enum { LQ_N_IMATRIX_KEYS = 4 };

typedef struct lq_imatrix_key {
    const char *key;
    bool is_text;            /* else a number */
    char text[128];          /* cut to what llama-quantize writes */
    uint32_t number;
} lq_imatrix_key;

/* As llama-quantize writes them; returns how many: those that are unknown are left out. im NULL:
 * none. */
int lq_imatrix_keys(lq_imatrix_key out[LQ_N_IMATRIX_KEYS], const lq_imatrix *im);

#endif
