/* Status codes with a thread-local message, checked allocation with a test hook, and the log hook.
 *
 * Conventions of the whole library: a function that can fail returns lq_status and puts its results
 * in out parameters, first in the list. What comes through `**out` belongs to the caller; what is
 * returned by value is borrowed. The library never prints and never exits. */
#ifndef LOQUAT_BASE_H
#define LOQUAT_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One list: name, text. The numbers are part of the ABI; append only. */
#define LQ_STATUSES(X)                              \
    X(LQ_OK, "no error")                            \
    X(LQ_EMEM, "out of memory")                     \
    X(LQ_EIO, "input/output error")                 \
    X(LQ_EFORMAT, "malformed data")                 \
    X(LQ_ESHAPE, "shape mismatch")                  \
    X(LQ_EVALUE, "invalid value")                   \
    X(LQ_ECONFIG, "invalid configuration")          \
    X(LQ_EUNSUPPORTED, "not supported")             \
    X(LQ_ENONFINITE, "non-finite number")           \
    X(LQ_EINTERRUPTED, "interrupted")               \
    X(LQ_EBUSY, "in use by another process")        \
    X(LQ_EDEVICE, "device error")

typedef enum lq_status {
#define LQ_STATUS_ENUM(name, text) name,
    LQ_STATUSES(LQ_STATUS_ENUM)
#undef LQ_STATUS_ENUM
} lq_status;

#if defined(__GNUC__)
#define LQ_PRINTF(fmt_index, first) __attribute__((format(printf, fmt_index, first)))
#else
#define LQ_PRINTF(fmt_index, first)
#endif

/* Records the message (at most 8 KiB, thread-local) and returns `status`.
 * Say the thing, the value found and the value wanted. */
lq_status lq_fail(lq_status status, const char *fmt, ...) LQ_PRINTF(2, 3);

/* Prepends context ("FILE: ") to the recorded message and returns `status` unchanged. */
lq_status lq_fail_context(lq_status status, const char *fmt, ...) LQ_PRINTF(2, 3);

/* The last recorded message of this thread; "" when none. Borrowed until the next failure. */
const char *lq_error(void);
void lq_error_clear(void);
const char *lq_status_text(lq_status status);

#define LQ_TRY(expr)                                  \
    do {                                              \
        const lq_status lq_try_status = (expr);       \
        if (lq_try_status != LQ_OK) return lq_try_status; \
    } while (0)

/* For functions with resources: keeps the status and jumps to the one clean-up label `done`. */
#define LQ_GOTO(status, expr)                         \
    do {                                              \
        (status) = (expr);                            \
        if ((status) != LQ_OK) goto done;             \
    } while (0)

/* ---- memory ---------------------------------------------------------------------------------
 * All return NULL on failure with LQ_EMEM already recorded, so callers write
 * `if (!p) return LQ_EMEM;`. Size 0 gives a unique pointer. Every product is overflow-checked. */
void *lq_alloc(size_t bytes);                         /* zeroed */
void *lq_alloc_array(int64_t n, size_t elem_bytes);   /* zeroed */
void *lq_alloc_aligned(size_t bytes);                 /* 64-byte aligned, zeroed */
void *lq_resize(void *ptr, int64_t n, size_t elem_bytes); /* realloc; failed: ptr stays valid */
void lq_free(void *ptr);                              /* any of the above; NULL is fine */
char *lq_strdup(const char *s);
char *lq_strndup(const char *s, size_t n);
char *lq_sprintf(const char *fmt, ...) LQ_PRINTF(1, 2);   /* allocated */

/* Makes room for at least `want` elements in a growing array (doubling). */
lq_status lq_reserve(void **array, int64_t *capacity, int64_t want, size_t elem_bytes);

/* Test hook: called before every allocation; returning false makes it fail. NULL removes it. */
typedef bool (*lq_alloc_hook)(void *ctx, size_t bytes);
void lq_set_alloc_hook(lq_alloc_hook hook, void *ctx);

/* Up to the next multiple of 64: a cache line, and the alignment of arena and packed weights. */
static inline size_t lq_align64(size_t bytes) { return (bytes + 63) & ~(size_t)63; }

static inline int64_t lq_min64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t lq_max64(int64_t a, int64_t b) { return a > b ? a : b; }

/* Checked a * b for sizes: LQ_EMEM on overflow. */
lq_status lq_mul_size(size_t *out, size_t a, size_t b);

/* ---- log ------------------------------------------------------------------------------------ */
typedef enum lq_log_level { LQ_LOG_DEBUG, LQ_LOG_INFO, LQ_LOG_WARN } lq_log_level;
typedef void (*lq_log_fn)(void *ctx, lq_log_level level, const char *line);
void lq_set_log(lq_log_fn fn, void *ctx);             /* NULL (the default): silent */
void lq_log(lq_log_level level, const char *fmt, ...) LQ_PRINTF(2, 3);

/* Monotonic seconds, for progress and metrics only. */
double lq_seconds(void);

#define LQ_ARRAY_LEN(a) ((int)(sizeof(a) / sizeof((a)[0])))

#ifdef __cplusplus
}
#endif
#endif
