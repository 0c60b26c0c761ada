/* What every test program uses: comparing arrays, temporary files, failing allocations, running
 * a suite. */
#ifndef LOQUAT_TEST_UTIL_H
#define LOQUAT_TEST_UTIL_H

#include "base.h"

#include <check.h>

/* Fails the test with the library's message unless status is LQ_OK. */
#define ck_ok(expr)                                                                            \
    do {                                                                                       \
        const lq_status ck_status = (expr);                                                    \
        ck_assert_msg(ck_status == LQ_OK, "%s: %s: %s", #expr, lq_status_text(ck_status),    \
                      lq_error());                                                             \
    } while (0)

/* Fails unless expr returns `want` and the message contains `part`. */
#define ck_fails(expr, want, part)                                                             \
    do {                                                                                       \
        lq_error_clear();                                                                      \
        const lq_status ck_status = (expr);                                                    \
        ck_assert_msg(ck_status == (want), "%s: got '%s' (%s), wanted '%s'", #expr,            \
                      lq_status_text(ck_status), lq_error(), lq_status_text(want));            \
        ck_assert_msg(test_contains(lq_error(), part), "%s: message '%s' lacks '%s'", #expr,   \
                      lq_error(), part);                                                       \
    } while (0)

bool test_contains(const char *text, const char *part);

/* |got - want| <= atol + rtol * |want| everywhere; reports the worst element. */
void test_close(const char *what, const float *got, const float *want, int64_t n, double atol,
                double rtol);

/* A path below a fresh temporary directory, removed at exit. Borrowed until the next call with
 * the same name. */
const char *test_path(const char *name);

/* LOQUAT_SHARED_DATA/name, or NULL (with a "skipped" line on stderr) when it does not exist. */
const char *test_shared(const char *dir, const char *name);

/* Calls fn(ctx) with allocation 1, 2, 3, ... failing until it returns LQ_OK; every failure must
 * be LQ_EMEM. */
void test_alloc_failures(lq_status (*fn)(void *ctx), void *ctx);

/* Runs the suite (CK_NOFORK is honoured) and returns main's exit status. */
int test_run(Suite *suite);

/* Random numbers for tests: uniform in [-1, 1). */
void test_fill(float *x, int64_t n, uint64_t key);

#endif
