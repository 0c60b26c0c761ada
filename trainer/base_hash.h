/* The SHA-256 of the base's files, made on a thread of its own while the run opens and trains: a
 * checkpoint is the first to need it, and a large file takes seconds. */
#ifndef LOQUAT_BASE_HASH_H
#define LOQUAT_BASE_HASH_H

#include "hash.h"
#include "model.h"

#include <pthread.h>

typedef struct lq_base_hash {
    const lq_bytes *region; /* the mappings, the model's; NULL: not started */
    int n;
    pthread_t thread;
    bool running;
    char hex[LQ_SHA256_HEX];
} lq_base_hash;

void lq_base_hash_start(lq_base_hash *h, const lq_model *m);
/* Waits if need be. Borrowed. */
const char *lq_base_hash_hex(lq_base_hash *h);
/* Before the model is closed; fine when never started. */
void lq_base_hash_stop(lq_base_hash *h);

#endif
