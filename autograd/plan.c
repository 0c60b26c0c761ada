/* See plan.h. Largest first; each item into the lowest gap between those alive at the same time. */
#include "plan.h"

#include "redzone.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64 };

static int larger_first(const void *pa, const void *pb) {
    const lq_plan_item *const a = *(lq_plan_item *const *)pa, *const b = *(lq_plan_item *const *)pb;
    if (a->bytes != b->bytes) return a->bytes < b->bytes ? 1 : -1;
    return a < b ? -1 : a > b; /* the order of the list, whatever qsort does */
}

static bool overlap_in_time(const lq_plan_item *a, const lq_plan_item *b) {
    return a->first <= b->last && b->first <= a->last;
}

/* Bytes that an item takes: its own, the red zone, and the padding to the next offset. */
static size_t room(const lq_plan_item *item) {
    return (item->bytes + lq_redzone_bytes() + ALIGN - 1) / ALIGN * ALIGN;
}

/* `placed` is sorted by offset, so the first gap found is the lowest. */
static size_t lowest_gap(lq_plan_item *const *placed, int64_t n, const lq_plan_item *item) {
    size_t at = 0;
    for (int64_t i = 0; i < n; i++) {
        const lq_plan_item *const other = placed[i];
        if (!overlap_in_time(other, item)) continue;
        if (other->offset >= at && other->offset - at >= room(item)) break;
        if (other->offset + room(other) > at) at = other->offset + room(other);
    }
    return at;
}

static void insert_by_offset(lq_plan_item **placed, int64_t n, lq_plan_item *item) {
    int64_t at = n;
    while (at > 0 && placed[at - 1]->offset > item->offset) at--;
    memmove(placed + at + 1, placed + at, (size_t)(n - at) * sizeof *placed);
    placed[at] = item;
}

/* No sum of offsets can overflow once all items fit behind each other. */
static lq_status check_sum(const lq_plan_item *items, int64_t n) {
    size_t sum = 0;
    for (int64_t i = 0; i < n; i++) {
        if (items[i].bytes > SIZE_MAX / 2 || room(&items[i]) > SIZE_MAX / 2 - sum)
            return lq_fail(LQ_EMEM, "plan: item %lld of %zu bytes: the sum overflows", (long long)i,
                           items[i].bytes);
        sum += room(&items[i]);
    }
    return LQ_OK;
}

lq_status lq_plan(size_t *out_total, lq_plan_item *items, int64_t n) {
    *out_total = 0;
    LQ_TRY(check_sum(items, n));
    lq_plan_item **const by_size = lq_alloc_array(n, sizeof *by_size);
    lq_plan_item **const placed = by_size ? lq_alloc_array(n, sizeof *placed) : NULL;
    const lq_status status = placed ? LQ_OK : LQ_EMEM;
    if (status != LQ_OK) goto done;
    for (int64_t i = 0; i < n; i++) by_size[i] = &items[i];
    qsort(by_size, (size_t)n, sizeof *by_size, larger_first);
    for (int64_t i = 0; i < n; i++) {
        lq_plan_item *const item = by_size[i];
        item->offset = lowest_gap(placed, i, item);
        insert_by_offset(placed, i, item);
        if (item->offset + room(item) > *out_total) *out_total = item->offset + room(item);
    }
done:
    lq_free(by_size);
    lq_free(placed);
    return status;
}
