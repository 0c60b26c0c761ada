/* See base_hash.h. The thread allocates nothing and touches nothing else. */
#include "base_hash.h"

static void *hash(void *arg) {
    lq_base_hash *h = arg;
    lq_sha256_regions(h->hex, h->region, h->n);
    return NULL;
}

void lq_base_hash_open(lq_base_hash *h, const lq_model *m) {
    *h = (lq_base_hash){.n = 0};
    h->region = lq_gguf_regions(m->file, &h->n);
}

void lq_base_hash_begin(lq_base_hash *h) {
    if (h->begun) return;
    h->begun = true;
    h->running = pthread_create(&h->thread, NULL, hash, h) == 0;
    if (!h->running) hash(h); /* no thread to be had: now, then */
}

const char *lq_base_hash_hex(lq_base_hash *h) {
    lq_base_hash_begin(h);
    lq_base_hash_stop(h);
    return h->hex;
}

void lq_base_hash_stop(lq_base_hash *h) {
    if (h->running) pthread_join(h->thread, NULL);
    h->running = false;
}
