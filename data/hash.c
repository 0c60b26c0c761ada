/* Fingerprints. See hash.h. */
#include "hash.h"

#include <errno.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <string.h>

static void finish(char out[LQ_SHA256_HEX], struct sha256_ctx *ctx) {
    uint8_t digest[SHA256_DIGEST_SIZE];
    sha256_digest(ctx, sizeof digest, digest);
    for (size_t i = 0; i < sizeof digest; i++) snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

void lq_sha256_regions(char out[LQ_SHA256_HEX], const lq_bytes *region, int n) {
    struct sha256_ctx ctx;
    sha256_init(&ctx);
    for (int i = 0; i < n; i++) sha256_update(&ctx, region[i].n, region[i].p);
    finish(out, &ctx);
}

void lq_sha256(char out[LQ_SHA256_HEX], const void *bytes, size_t n) {
    lq_sha256_regions(out, &(lq_bytes){bytes, n}, 1);
}

lq_status lq_sha256_file(char out[LQ_SHA256_HEX], const char *path, uint64_t *out_bytes) {
    uint8_t block[16384];
    struct sha256_ctx ctx;
    uint64_t bytes = 0;
    FILE *f = fopen(path, "rbe");
    if (!f) return lq_fail(LQ_EIO, "%s: %s", path, strerror(errno));
    sha256_init(&ctx);
    for (size_t n; (n = fread(block, 1, sizeof block, f)) > 0; bytes += n)
        sha256_update(&ctx, n, block);
    const lq_status status = ferror(f) ? lq_fail(LQ_EIO, "%s: %s", path, strerror(errno)) : LQ_OK;
    fclose(f);
    LQ_TRY(status);
    finish(out, &ctx);
    if (out_bytes) *out_bytes = bytes;
    return LQ_OK;
}

uint64_t lq_fnv1a(uint64_t h, const void *bytes, size_t n) {
    const uint8_t *p = bytes;
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * UINT64_C(0x100000001b3);
    return h;
}
