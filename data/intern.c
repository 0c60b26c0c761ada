/* See intern.h. */
#include "intern.h"

#include "hash.h"

#include <string.h>

enum { FIRST_BITS = 8, MAX_BITS = 30 };

void lq_intern_clear(lq_intern *t) {
    lq_free(t->text);
    lq_free(t->start);
    lq_free(t->slot);
    *t = (lq_intern){0};
}

const char *lq_intern_text(const lq_intern *t, int32_t number, size_t *n) {
    const int64_t start = t->start[number];
    *n = (size_t)(t->start[number + 1] - start - 1);
    return t->text + start;
}

/* The slot that holds s, or the free one where it belongs. */
static int32_t *slot_of(const lq_intern *t, const char *s, size_t n) {
    const uint32_t mask = (UINT32_C(1) << t->bits) - 1;
    const uint64_t hash = lq_fnv1a(LQ_FNV_INIT, s, n);
    for (uint32_t i = (uint32_t)(hash ^ hash >> 32) & mask;; i = (i + 1) & mask) {
        int32_t *slot = t->slot + i;
        if (*slot < 0) return slot;
        size_t length;
        const char *text = lq_intern_text(t, *slot, &length);
        if (length == n && memcmp(text, s, n) == 0) return slot;
    }
}

int32_t lq_intern_find(const lq_intern *t, const char *s, size_t n) {
    return t->slot ? *slot_of(t, s, n) : -1;
}

/* Twice as many slots, so that at most half of them are taken. */
static lq_status grow(lq_intern *t) {
    const int bits = t->slot ? t->bits + 1 : FIRST_BITS;
    if (bits > MAX_BITS) return lq_fail(LQ_EVALUE, "%d strings: too many", t->n);
    int32_t *slot = lq_alloc_array(INT64_C(1) << bits, sizeof *slot);
    if (!slot) return LQ_EMEM;
    memset(slot, 0xFF, ((size_t)1 << bits) * sizeof *slot);
    lq_free(t->slot);
    t->slot = slot;
    t->bits = bits;
    for (int32_t i = 0; i < t->n; i++) {
        size_t n;
        const char *s = lq_intern_text(t, i, &n);
        *slot_of(t, s, n) = i;
    }
    return LQ_OK;
}

lq_status lq_intern_add(lq_intern *t, const char *s, size_t n, int32_t *number) {
    *number = lq_intern_find(t, s, n);
    if (*number >= 0) return LQ_OK;
    if (!t->slot || t->n >= 1 << (t->bits - 1)) LQ_TRY(grow(t));
    LQ_TRY(lq_reserve((void **)&t->start, &t->cap_start, t->n + 2, sizeof *t->start));
    const int64_t start = t->n ? t->start[t->n] : 0;
    LQ_TRY(lq_reserve((void **)&t->text, &t->cap_text, start + (int64_t)n + 1, 1));
    if (n) memcpy(t->text + start, s, n);
    t->text[start + (int64_t)n] = 0;
    t->start[t->n] = start;
    t->start[t->n + 1] = start + (int64_t)n + 1;
    *number = t->n;
    *slot_of(t, s, n) = t->n++;
    return LQ_OK;
}
