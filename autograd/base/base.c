/* Status messages, checked allocation and the log hook. See base.h. */
#include "base.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MESSAGE_BYTES = 8192 };

static _Thread_local char message[MESSAGE_BYTES];

static lq_alloc_hook alloc_hook;
static void *alloc_hook_ctx;
static lq_log_fn log_fn;
static void *log_ctx;

lq_status lq_fail(lq_status status, const char *fmt, ...) {
    char text[MESSAGE_BYTES]; /* the arguments may point into `message` */
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    memcpy(message, text, sizeof message);
    return status;
}

lq_status lq_fail_context(lq_status status, const char *fmt, ...) {
    char text[MESSAGE_BYTES];
    va_list args;
    va_start(args, fmt);
    const int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (n >= 0 && n < MESSAGE_BYTES)
        snprintf(text + n, sizeof text - (size_t)n, "%s", message);
    memcpy(message, text, sizeof message);
    return status;
}

const char *lq_error(void) { return message; }

void lq_error_clear(void) { message[0] = 0; }

const char *lq_status_text(lq_status status) {
    static const char *const text[] = {
#define LQ_STATUS_TEXT(name, text) text,
        LQ_STATUSES(LQ_STATUS_TEXT)
#undef LQ_STATUS_TEXT
    };
    return (int)status >= 0 && (int)status < LQ_ARRAY_LEN(text) ? text[status] : "unknown status";
}

static bool allowed(size_t bytes) {
    return !alloc_hook || alloc_hook(alloc_hook_ctx, bytes);
}

static void *no_memory(size_t bytes) {
    lq_fail(LQ_EMEM, "out of memory: %zu bytes wanted", bytes);
    return NULL;
}

void *lq_alloc(size_t bytes) {
    void *p = allowed(bytes) ? calloc(1, bytes ? bytes : 1) : NULL;
    return p ? p : no_memory(bytes);
}

void *lq_alloc_array(int64_t n, size_t elem_bytes) {
    size_t bytes;
    if (n < 0 || lq_mul_size(&bytes, (size_t)n, elem_bytes) != LQ_OK) return no_memory(SIZE_MAX);
    return lq_alloc(bytes);
}

void *lq_alloc_aligned(size_t bytes) {
    const size_t padded = lq_align64(bytes);
    if (padded < bytes) return no_memory(bytes);
    void *p = allowed(bytes) ? aligned_alloc(64, padded ? padded : 64) : NULL;
    if (!p) return no_memory(bytes);
    memset(p, 0, padded);
    return p;
}

void *lq_resize(void *ptr, int64_t n, size_t elem_bytes) {
    size_t bytes;
    if (n < 0 || lq_mul_size(&bytes, (size_t)n, elem_bytes) != LQ_OK) return no_memory(SIZE_MAX);
    void *p = allowed(bytes) ? realloc(ptr, bytes ? bytes : 1) : NULL;
    return p ? p : no_memory(bytes);
}

void lq_free(void *ptr) { free(ptr); }

char *lq_strndup(const char *s, size_t n) {
    char *copy = lq_alloc(n + 1);
    if (copy) memcpy(copy, s, n);
    return copy;
}

char *lq_strdup(const char *s) { return lq_strndup(s, strlen(s)); }

char *lq_sprintf(const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    const int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    char *text = n < 0 ? NULL : lq_alloc((size_t)n + 1);
    if (!text) return NULL;
    va_start(args, fmt);
    vsnprintf(text, (size_t)n + 1, fmt, args);
    va_end(args);
    return text;
}

lq_status lq_reserve(void **array, int64_t *capacity, int64_t want, size_t elem_bytes) {
    if (want <= *capacity) return LQ_OK;
    int64_t cap = *capacity ? *capacity : 16;
    while (cap < want) cap = cap > INT64_MAX / 2 ? want : cap * 2;
    void *grown = lq_resize(*array, cap, elem_bytes);
    if (!grown) return LQ_EMEM;
    *array = grown;
    *capacity = cap;
    return LQ_OK;
}

void lq_set_alloc_hook(lq_alloc_hook hook, void *ctx) {
    alloc_hook = hook;
    alloc_hook_ctx = ctx;
}

lq_status lq_mul_size(size_t *out, size_t a, size_t b) {
    if (b && a > SIZE_MAX / b) return lq_fail(LQ_EMEM, "size overflow: %zu x %zu", a, b);
    *out = a * b;
    return LQ_OK;
}

void lq_set_log(lq_log_fn fn, void *ctx) {
    log_fn = fn;
    log_ctx = ctx;
}

void lq_log(lq_log_level level, const char *fmt, ...) {
    if (!log_fn) return;
    char line[MESSAGE_BYTES];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    log_fn(log_ctx, level, line);
}

double lq_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}
