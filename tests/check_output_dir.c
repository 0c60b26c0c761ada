/* output_dir.c: a directory is one process's, and one that nothing was put into goes again. */
#include "output_dir.h"

#include "atomic_file.h"
#include "test_util.h"

#include <stdio.h>
#include <unistd.h>

static const char *at(const char *root, const char *name) {
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", root, name);
    return path;
}

/* there: made before; below: made by open, then taken back; kept: put in before that. */
static const struct { const char *there, *dir, *gone, *stays, *kept; } cases[] = {
    {NULL, "a/b/c", "a", NULL, NULL},
    {NULL, "a//b/", "a", NULL, NULL},
    {"a", "a/b", "a/b", "a", NULL},
    {"a", "a", "a/.lock", "a", NULL},
    {"a", "a/b", "a/b/.lock", "a/b/run", "a/b/run"},
};

START_TEST(taken_back) {
    char root[256];
    lq_output o;
    snprintf(root, sizeof root, "%s", test_path("taken"));
    ck_ok(lq_make_dirs(root));
    if (cases[_i].there) ck_ok(lq_make_dirs(at(root, cases[_i].there)));
    ck_ok(lq_output_open(&o, at(root, cases[_i].dir)));
    ck_assert(lq_file_exists_in(o.dir, ".lock"));
    if (cases[_i].kept) ck_ok(lq_write_file(at(root, cases[_i].kept), "x", 1));
    lq_output_undo(&o);
    lq_output_close(&o);
    ck_assert_msg(!lq_file_exists(at(root, cases[_i].gone)), "%s is still there", cases[_i].gone);
    if (cases[_i].stays) ck_assert(lq_file_exists(at(root, cases[_i].stays)));
    ck_assert(lq_is_directory(root));
}
END_TEST

START_TEST(relative_paths) {
    lq_output o;
    ck_ok(lq_make_dirs(test_path("here")));
    ck_assert_int_eq(chdir(test_path("here")), 0);
    ck_ok(lq_output_open(&o, "out"));
    lq_output_undo(&o);
    lq_output_close(&o);
    ck_assert(!lq_file_exists("out"));
    ck_ok(lq_output_open(&o, "."));
    lq_output_undo(&o);
    lq_output_close(&o);
    ck_assert(!lq_file_exists(".lock"));
}
END_TEST

START_TEST(one_at_a_time) {
    lq_output first, second;
    ck_ok(lq_output_open(&first, test_path("one")));
    ck_fails(lq_output_open(&second, test_path("one")), LQ_EBUSY, "another run writes into");
    ck_assert(lq_file_exists_in(first.dir, ".lock"));
    lq_output_close(&first);
    ck_ok(lq_output_open(&second, test_path("one")));
    lq_output_undo(&second);   /* the lock is the first one's */
    ck_assert(lq_file_exists_in(second.dir, ".lock"));
    lq_output_close(&second);
}
END_TEST

static lq_status open_once(void *ctx) {
    lq_output o;
    LQ_TRY(lq_output_open(&o, ctx));
    lq_output_close(&o);
    return LQ_OK;
}

START_TEST(failing_allocations) {
    char dir[256];
    snprintf(dir, sizeof dir, "%s", test_path("alloc/a/b"));
    test_alloc_failures(open_once, dir);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("output_dir");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 60);   /* files are synced to disk */
    tcase_add_loop_test(t, taken_back, 0, LQ_ARRAY_LEN(cases));
    tcase_add_test(t, relative_paths);
    tcase_add_test(t, one_at_a_time);
    tcase_add_test(t, failing_allocations);
    suite_add_tcase(suite, t);
    return test_run(suite);
}
