/* The row of device 'cuda' in tests: memory that the host cannot touch between calls, filled with
 * poison, at an address range of its own. What is queued is done when the host waits. */
#include "cuda_formats.h"
#include "effective.h"
#include "emulate.h"
#include "span.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { POISON = 0xa5, ALIGN = 256, MAX_ALLOCATIONS = 1 << 16, MAX_PINNED = 64 };
static const size_t most_bytes = (size_t)1 << 34;   /* addresses; memory comes with the pages */

typedef struct allocation { size_t at, bytes; } allocation;   /* sorted by at */
typedef struct pinned { char *p; size_t bytes; } pinned;
typedef struct copying { void *to; const void *from; size_t bytes; } copying;
typedef struct filling { void *p; int byte; float value; size_t n; } filling;

static char *range;
static size_t range_bytes;             /* most_bytes, or what EMULATED_BYTES says */
static size_t top;                     /* pages below are accessible while open */
static allocation list[MAX_ALLOCATIONS];
static pinned pinned_list[MAX_PINNED];
static int n_list, n_open;

void __asan_poison_memory_region(void const volatile *p, size_t n) __attribute__((weak));
void __asan_unpoison_memory_region(void const volatile *p, size_t n) __attribute__((weak));

void lq_emulated_memory_open(void) {
    if (n_open++ == 0 && top && mprotect(range, top, PROT_READ | PROT_WRITE) != 0)
        lq_emulated_die("mprotect");
}

void lq_emulated_memory_close(void) {
    if (--n_open == 0 && top && mprotect(range, top, PROT_NONE) != 0) lq_emulated_die("mprotect");
}

bool lq_emulated_memory_holds(const void *p) {
    return range && (const char *)p >= range && (const char *)p < range + range_bytes;
}

static lq_status emulated_open(lq_dev *dev) {
    if (dev->index != 0)
        return lq_fail(LQ_EDEVICE, "device 'cuda:%d': 1 GPU found, the last is cuda:0", dev->index);
    if (range) return LQ_OK;
    const char *const wanted = getenv("EMULATED_BYTES");
    range_bytes = wanted ? strtoull(wanted, NULL, 10) : most_bytes;
    void *const p = mmap(NULL, range_bytes, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return lq_fail(LQ_EDEVICE, "no address range for an emulated device");
    range = p;
    return LQ_OK;
}

static void drain(void) { lq_emulated_reach(lq_emulated_queued()); }

static void emulated_close(lq_dev *dev) {
    (void)dev;
    drain();
}

static lq_status emulated_memory(lq_dev *dev, size_t *free_bytes, size_t *total_bytes) {
    (void)dev;
    *total_bytes = *free_bytes = range_bytes;
    for (int i = 0; i < n_list; i++) *free_bytes -= list[i].bytes;
    return LQ_OK;
}

static size_t room(size_t bytes) { return (bytes + ALIGN + ALIGN - 1) / ALIGN * ALIGN; }

/* First fit; what is between two allocations is out of bounds for AddressSanitizer. */
static lq_status emulated_alloc(lq_dev *dev, void **out, size_t bytes) {
    int i = 0;
    size_t at = 0;
    for (; i < n_list && list[i].at - at < room(bytes); i++) at = list[i].at + room(list[i].bytes);
    *out = NULL;
    if (n_list == MAX_ALLOCATIONS || at > range_bytes || range_bytes - at < room(bytes))
        return lq_dev_full(dev, bytes);
    memmove(list + i + 1, list + i, (size_t)(n_list - i) * sizeof *list);
    list[i] = (allocation){at, bytes};
    n_list++;
    if (at + room(bytes) > top) top = at + room(bytes);
    lq_emulated_memory_open();
    mprotect(range, top, PROT_READ | PROT_WRITE);
    if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(range + at, bytes);
    memset(range + at, POISON, bytes);
    if (__asan_poison_memory_region)
        __asan_poison_memory_region(range + at + bytes, room(bytes) - bytes);
    lq_emulated_memory_close();
    *out = range + at;
    return LQ_OK;
}

static void emulated_free(lq_dev *dev, void *p) {
    (void)dev;
    if (!p) return;
    drain();
    int i = 0;
    while (i < n_list && range + list[i].at != p) i++;
    if (i == n_list) lq_emulated_die("a free of memory that was not allocated");
    if (__asan_poison_memory_region) __asan_poison_memory_region(p, list[i].bytes);
    memmove(list + i, list + i + 1, (size_t)(n_list - i - 1) * sizeof *list);
    n_list--;
}

static bool emulated_owns(lq_dev *dev, const void *p) {
    (void)dev;
    return lq_emulated_memory_holds(p);
}

/* ---- pinned memory --------------------------------------------------------------------------- */

static pinned *find_pinned(const void *p) {
    for (int i = 0; i < MAX_PINNED; i++) {
        pinned *const a = &pinned_list[i];
        if (a->p && (const char *)p >= a->p && (const char *)p < a->p + a->bytes) return a;
    }
    return NULL;
}

static lq_status emulated_alloc_pinned(lq_dev *dev, void **out, size_t bytes) {
    (void)dev;
    int i = 0;
    while (i < MAX_PINNED && pinned_list[i].p) i++;
    if (i == MAX_PINNED) lq_emulated_die("more pinned memory than emulated");
    *out = lq_alloc(bytes);
    if (!*out) return LQ_EMEM;
    memset(*out, POISON, bytes);
    pinned_list[i] = (pinned){*out, bytes ? bytes : 1};
    return LQ_OK;
}

static void emulated_free_pinned(lq_dev *dev, void *p) {
    (void)dev;
    if (!p) return;
    drain();
    pinned *const a = find_pinned(p);
    if (!a || a->p != p) lq_emulated_die("a free of pinned memory that was not allocated");
    a->p = NULL;
    lq_free(p);
}

/* ---- the queue ------------------------------------------------------------------------------- */

static void run_copy(void *ctx) {
    const copying *const c = ctx;
    lq_emulated_memory_open();
    memcpy(c->to, c->from, c->bytes);
    lq_emulated_memory_close();
    free(ctx);
}

static bool is_pageable(const void *p) { return !lq_emulated_memory_holds(p) && !find_pinned(p); }

static void emulated_copy(lq_dev *dev, void *to, const void *from, size_t bytes) {
    (void)dev;
    if (!bytes) return;
    copying *const c = malloc(sizeof *c);
    if (c) *c = (copying){to, from, bytes};
    lq_emulated_queue(run_copy, c);
    if (is_pageable(to) || is_pageable(from)) drain();
}

static void queue_fill(void (*run)(void *), void *p, int byte, float value, size_t n) {
    if (!n) return;
    if (!lq_emulated_memory_holds(p)) lq_emulated_die("a fill of the host's memory");
    filling *const f = malloc(sizeof *f);
    if (f) *f = (filling){p, byte, value, n};
    lq_emulated_queue(run, f);
}

static void run_fill(void *ctx) {
    const filling *const f = ctx;
    lq_emulated_memory_open();
    memset(f->p, f->byte, f->n);
    lq_emulated_memory_close();
    free(ctx);
}

static void run_fill_f32(void *ctx) {
    const filling *const f = ctx;
    lq_emulated_memory_open();
    for (size_t i = 0; i < f->n; i++) ((float *)f->p)[i] = f->value;
    lq_emulated_memory_close();
    free(ctx);
}

static void emulated_fill(lq_dev *dev, void *p, int byte, size_t bytes) {
    (void)dev;
    queue_fill(run_fill, p, byte, 0, bytes);
}

static void emulated_fill_f32(lq_dev *dev, float *p, float value, int64_t n) {
    (void)dev;
    queue_fill(run_fill_f32, p, 0, value, (size_t)n);
}

static void emulated_convert(lq_dev *dev, void *to, const void *from, const lq_format *fmt,
                             int64_t n) {
    lq_cuda_format_of(fmt)->dequant(dev, from, to, dev->activation, n);
}

/* A mark is how many entries of the queue are before it. */
static void emulated_mark(lq_dev *dev, void **m) {
    (void)dev;
    if (!*m) *m = malloc(sizeof(int64_t));
    if (!*m) lq_emulated_die("no memory for a mark");
    *(int64_t *)*m = lq_emulated_queued();
}

static lq_status emulated_reach(lq_dev *dev, void *m) {
    (void)dev;
    if (m) lq_emulated_reach(*(int64_t *)m);
    return LQ_OK;
}

static void emulated_unmark(lq_dev *dev, void *m) {
    (void)dev;
    free(m);
}

static lq_status emulated_check(lq_dev *dev) {
    (void)dev;
    return LQ_OK;
}

static lq_status emulated_wait(lq_dev *dev) {
    (void)dev;
    drain();
    return LQ_OK;
}

const lq_device_row lq_device_cuda = {
    .name = "cuda", .open = emulated_open, .close = emulated_close, .memory = emulated_memory,
    .alloc = emulated_alloc, .free = emulated_free, .owns = emulated_owns,
    .alloc_pinned = emulated_alloc_pinned, .free_pinned = emulated_free_pinned,
    .copy = emulated_copy, .fill = emulated_fill, .fill_f32 = emulated_fill_f32,
    .convert = emulated_convert,
    .mark = emulated_mark, .reach = emulated_reach, .unmark = emulated_unmark, .check = emulated_check,
    .wait = emulated_wait, .span = &lq_cuda_span, .effective = &lq_cuda_effective,
};
