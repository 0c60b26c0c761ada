/* See test_util.h. */
#include "test_util.h"

#include "random.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool test_contains(const char *text, const char *part) { return strstr(text, part) != NULL; }

void test_close(const char *what, const float *got, const float *want, int64_t n, double atol,
                double rtol) {
    int64_t worst = -1;
    double worst_excess = 0;
    for (int64_t i = 0; i < n; i++) {
        const double bound = atol + rtol * fabs((double)want[i]);
        const double excess = fabs((double)got[i] - (double)want[i]) - bound;
        if (!(excess <= 0) && (worst < 0 || !(excess <= worst_excess))) {
            worst = i;
            worst_excess = excess;
        }
    }
    ck_assert_msg(worst < 0, "%s[%lld]: got %.9g, wanted %.9g (atol %g, rtol %g)", what,
                  (long long)worst, (double)got[worst < 0 ? 0 : worst],
                  (double)want[worst < 0 ? 0 : worst], atol, rtol);
}

static char tmp_dir[64];
static pid_t tmp_owner;

static void remove_tmp_dir(void) {
    if (getpid() != tmp_owner) return; /* not in a forked test */
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", tmp_dir);
    if (system(command) != 0) fprintf(stderr, "could not remove %s\n", tmp_dir);
}

static void make_tmp_dir(void) {
    if (tmp_dir[0]) return;
    snprintf(tmp_dir, sizeof tmp_dir, "/tmp/loquat-test-XXXXXX");
    if (!mkdtemp(tmp_dir)) abort();
    tmp_owner = getpid();
    atexit(remove_tmp_dir);
}

const char *test_path(const char *name) {
    static char path[8][256];
    static int next;
    make_tmp_dir();
    char *p = path[next++ % 8];
    snprintf(p, sizeof path[0], "%s/%s", tmp_dir, name);
    return p;
}

const char *test_shared(const char *dir, const char *name) {
    static char path[8][512];
    static int next;
    char *p = path[next++ % 8];
    snprintf(p, sizeof path[0], "%s/%s", dir, name);
    if (access(p, R_OK) == 0) return p;
    fprintf(stderr, "skipped: %s is not here\n", p);
    return NULL;
}

typedef struct countdown { int64_t left; bool failed; } countdown;

static bool fail_when_zero(void *ctx, size_t bytes) {
    (void)bytes;
    countdown *c = ctx;
    if (c->left-- > 0) return true;
    c->failed = true;
    return false;
}

void test_alloc_failures(lq_status (*fn)(void *ctx), void *ctx) {
    for (int64_t n = 0;; n++) {
        countdown c = {n, false};
        lq_set_alloc_hook(fail_when_zero, &c);
        const lq_status status = fn(ctx);
        lq_set_alloc_hook(NULL, NULL);
        if (!c.failed) {
            ck_assert_msg(status == LQ_OK, "without a failed allocation: %s", lq_error());
            return;
        }
        ck_assert_msg(status == LQ_EMEM, "allocation %lld failed, got '%s' (%s)", (long long)n + 1,
                      lq_status_text(status), lq_error());
    }
}

/* In place of libc's: tests write thousands of small files, none of which has to outlive a power
 * cut, and on a busy disk each one would take longer than the test. */
int fsync(int fd) {
    (void)fd;
    return 0;
}

int test_run(Suite *suite) {
    make_tmp_dir(); /* before any fork, so that all tests share it and the parent removes it */
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

void test_fill(float *x, int64_t n, uint64_t key) {
    for (int64_t i = 0; i < n; i++) x[i] = 2 * lq_random_uniform(key, (uint64_t)i) - 1;
}
