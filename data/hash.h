/* Fingerprints: SHA-256 (nettle) of files and memory as hex; FNV-1a-64 of small keys. */
#ifndef LOQUAT_HASH_H
#define LOQUAT_HASH_H

#include "base.h"

enum { LQ_SHA256_HEX = 65 };

typedef struct lq_bytes { const void *p; size_t n; } lq_bytes;

void lq_sha256(char out[LQ_SHA256_HEX], const void *bytes, size_t n);
void lq_sha256_regions(char out[LQ_SHA256_HEX], const lq_bytes *region, int n);   /* end to end */
lq_status lq_sha256_file(char out[LQ_SHA256_HEX], const char *path, uint64_t *out_bytes);
#define LQ_FNV_INIT UINT64_C(0xcbf29ce484222325)
uint64_t lq_fnv1a(uint64_t h, const void *bytes, size_t n);

#endif
