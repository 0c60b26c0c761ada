/* lq_gguf_open_memory on anything: no crash, no read outside, no leak; what it accepts is all
 * readable. */
#include "fuzz.h"

#include "gguf.h"

#include <stdlib.h>
#include <string.h>

/* Two keys (one a list of strings) and three tensors, written out by hand. */
static const uint8_t seed_bytes[] =
    "GGUF" "\3\0\0\0" "\3\0\0\0\0\0\0\0" "\3\0\0\0\0\0\0\0"
    "\24\0\0\0\0\0\0\0" "general.architecture" "\10\0\0\0" "\5\0\0\0\0\0\0\0" "llama"
    "\1\0\0\0\0\0\0\0" "n" "\4\0\0\0" "\7\0\0\0"
    "\5\0\0\0\0\0\0\0" "words" "\11\0\0\0" "\10\0\0\0" "\2\0\0\0\0\0\0\0"
    "\1\0\0\0\0\0\0\0" "a" "\2\0\0\0\0\0\0\0" "bc"
    "\1\0\0\0\0\0\0\0" "t" "\2\0\0\0" "\10\0\0\0\0\0\0\0" "\2\0\0\0\0\0\0\0"
    "\0\0\0\0" "\0\0\0\0\0\0\0\0"
    "\1\0\0\0\0\0\0\0" "q" "\1\0\0\0" "\40\0\0\0\0\0\0\0" "\2\0\0\0" "\100\0\0\0\0\0\0\0"
    "\1\0\0\0\0\0\0\0" "s" "\0\0\0\0" "\0\0\0\0" "\140\0\0\0\0\0\0\0";

const uint8_t *fuzz_seed(int i, size_t *size) {
    static uint8_t file[sizeof seed_bytes + 160];
    memcpy(file, seed_bytes, sizeof seed_bytes - 1);
    *size = (sizeof seed_bytes - 1 + 31) / 32 * 32 + 100;
    return i == 0 ? file : NULL;
}

static unsigned sum(const void *data, uint64_t n) {
    const uint8_t *p = data;
    unsigned total = 0;
    for (uint64_t i = 0; i < n; i++) total += p[i];
    return total;
}

static unsigned read_kv(const lq_gguf *g, const lq_gguf_kv *kv) {
    unsigned total = (unsigned)strlen(kv->key);
    if (lq_gguf_find(g, kv->key) != kv) abort();
    if (kv->elem != LQ_GGUF_STRING) return total + sum(kv->data, kv->n); /* at least a byte each */
    const lq_gguf_str *s = kv->data;
    for (uint64_t i = 0; i < kv->n; i++) total += sum(s[i].s, s[i].n);
    return total;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static volatile unsigned sink;
    lq_gguf *g = NULL;
    if (lq_gguf_open_memory(&g, data, size, "fuzz") != LQ_OK) {
        if (g || !*lq_error()) abort();
        return 0;
    }
    for (int64_t i = 0; i < lq_gguf_n_kv(g); i++) sink += read_kv(g, lq_gguf_kv_at(g, i));
    for (int64_t i = 0; i < lq_gguf_n_tensors(g); i++) {
        const lq_gguf_tensor *t = lq_gguf_tensor_at(g, i);
        if (lq_gguf_find_tensor(g, t->name) != t) abort();
        sink += sum(t->data, t->bytes);
    }
    lq_gguf_close(g);
    return 0;
}
