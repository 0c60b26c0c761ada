/* The SHA-256 of the base's files, made on a thread of its own while the run trains: a checkpoint
 * is the first to need it, and a large file takes seconds, which the first step should not wait
 * for. */
#ifndef LOQUAT_BASE_HASH_H
#define LOQUAT_BASE_HASH_H

#include "hash.h"
#include "model.h"

#include <pthread.h>

typedef struct lq_base_hash {
    const lq_bytes *region; /* the mappings, the model's; NULL: not open */
    int n;
    pthread_t thread;
    bool begun, running;
    char hex[LQ_SHA256_HEX];
} lq_base_hash;

void lq_base_hash_open(lq_base_hash *h, const lq_model *m);
void lq_base_hash_begin(lq_base_hash *h);   /* once; later calls do nothing */
/* Begins if need be, and waits. Borrowed. */
const char *lq_base_hash_hex(lq_base_hash *h);
/* Before the model is closed; fine when never begun. */
void lq_base_hash_stop(lq_base_hash *h);

#endif
