/* atomic_file.c: files appear whole or not at all; leftovers are reused; two writers do not mix. */
#include "atomic_file.h"
#include "test_util.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>

static void check_content(const char *path, const char *want) {
    char *text = NULL;
    size_t n;
    ck_ok(lq_read_file(&text, &n, path));
    ck_assert_uint_eq(n, strlen(want));
    ck_assert_str_eq(text, want);
    lq_free(text);
}

START_TEST(commit_replaces_and_abort_does_not) {
    const char *path = test_path("file"), *tmp = test_path("file.tmp");
    lq_atomic_file a;
    ck_ok(lq_write_file(path, "old", 3));
    ck_ok(lq_atomic_open(&a, path));
    fputs("new", a.f);
    check_content(path, "old");
    lq_atomic_abort(&a);
    check_content(path, "old");
    ck_assert(!lq_file_exists(tmp));
    ck_ok(lq_atomic_open(&a, path));
    fputs("new", a.f);
    ck_ok(lq_atomic_commit(&a));
    check_content(path, "new");
    ck_assert(!lq_file_exists(tmp) && !a.f && !a.path);
}
END_TEST

START_TEST(leftovers_of_a_killed_writer_are_reused) {
    const char *path = test_path("reused"), *tmp = test_path("reused.tmp");
    FILE *f = fopen(tmp, "w");
    fputs("half of something long", f);
    fclose(f);
    ck_ok(lq_write_file(path, "whole", 5));
    check_content(path, "whole");
    ck_assert(!lq_file_exists(tmp));
}
END_TEST

START_TEST(a_second_writer_is_refused) {
    const char *path = test_path("shared");
    lq_atomic_file a, b;
    ck_ok(lq_atomic_open(&a, path));
    ck_fails(lq_atomic_open(&b, path), LQ_EBUSY, "shared.tmp: another process is writing it");
    fputs("first", a.f);
    ck_ok(lq_atomic_commit(&a));
    check_content(path, "first");
}
END_TEST

START_TEST(full_disk_is_reported) {
    const char *path = test_path("big"), *tmp = test_path("big.tmp");
    char block[8192] = "";
    struct rlimit old, small;
    ck_ok(lq_write_file(path, "old", 3));
    getrlimit(RLIMIT_FSIZE, &old);
    small = (struct rlimit){4096, old.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    lq_atomic_file a;
    ck_ok(lq_atomic_open(&a, path));
    setvbuf(a.f, NULL, _IOFBF, 65536); /* so that the error comes when the buffer is flushed */
    fwrite(block, 1, sizeof block, a.f);
    const lq_status late = lq_atomic_commit(&a);
    const lq_status early = lq_write_file(path, block, sizeof block);
    setrlimit(RLIMIT_FSIZE, &old);
    ck_assert_int_eq(late, LQ_EIO);
    ck_assert_int_eq(early, LQ_EIO);
    ck_assert_msg(test_contains(lq_error(), "big: File too large"), "%s", lq_error());
    ck_assert(!lq_file_exists(tmp));
    check_content(path, "old");
}
END_TEST

START_TEST(bad_paths_are_named) {
    lq_atomic_file a;
    char *text = NULL;
    size_t n;
    ck_fails(lq_atomic_open(&a, "/no/such/dir/file"), LQ_EIO,
             "/no/such/dir/file: No such file");
    ck_fails(lq_atomic_open(&a, "/dev/full"), LQ_EIO, "/dev/full: exists and is not a file");
    ck_fails(lq_atomic_open(&a, "/tmp"), LQ_EIO, "/tmp: exists and is not a file");
    ck_fails(lq_read_file(&text, &n, "/no/such"), LQ_EIO, "/no/such: No such file");
    ck_fails(lq_read_file(&text, &n, "/tmp"), LQ_EIO, "/tmp: Is a directory");
    ck_fails(lq_atomic_publish("/no/such", "/tmp/x"), LQ_EIO, "/no/such: No such file");
}
END_TEST

START_TEST(names_written_by_libraries_are_published) {
    const char *path = test_path("library");
    char *tmp = NULL;
    ck_ok(lq_atomic_tmp_name(&tmp, path));
    FILE *f = fopen(tmp, "w");
    fputs("data", f);
    fclose(f);
    ck_ok(lq_atomic_publish(tmp, path));
    check_content(path, "data");
    ck_assert(!lq_file_exists(tmp));
    lq_free(tmp);
}
END_TEST

START_TEST(directories_are_made) {
    const char *deep = test_path("a//b/c/"), *file = test_path("a/file");
    struct stat info;
    ck_ok(lq_make_dirs(deep));
    ck_ok(lq_make_dirs(deep));
    ck_assert(stat(deep, &info) == 0 && S_ISDIR(info.st_mode));
    ck_ok(lq_write_file(file, "", 0));
    ck_fails(lq_make_dirs(file), LQ_EIO, "a/file: Not a directory");
    ck_fails(lq_make_dirs(""), LQ_EIO, "No such file");
}
END_TEST

START_TEST(files_are_removed_once) {
    const char *path = test_path("removed");
    ck_ok(lq_write_file(path, "", 0));
    ck_ok(lq_remove_file(path));
    ck_assert(!lq_file_exists(path));
    ck_ok(lq_remove_file(path));
    ck_fails(lq_remove_file(test_path("")), LQ_EIO, "");
}
END_TEST

START_TEST(paths_are_joined) {
    static const struct { const char *dir, *name, *want; } row[] = {
        {"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"", "b", "b"}, {"/", "b", "/b"},
    };
    for (int i = 0; i < LQ_ARRAY_LEN(row); i++) {
        char *path = lq_path_join(row[i].dir, row[i].name);
        ck_assert_str_eq(path, row[i].want);
        lq_free(path);
    }
}
END_TEST

static lq_status write_read(void *ctx) {
    char *text = NULL;
    size_t n;
    LQ_TRY(lq_write_file(ctx, "text", 4));
    LQ_TRY(lq_read_file(&text, &n, ctx));
    lq_free(text);
    return LQ_OK;
}

START_TEST(failed_allocations_are_clean) {
    test_alloc_failures(write_read, (void *)test_path("alloc"));
    ck_assert(!lq_file_exists(test_path("alloc.tmp")));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("atomic_file");
    TCase *tc = tcase_create("atomic_file");
    tcase_add_test(tc, commit_replaces_and_abort_does_not);
    tcase_add_test(tc, leftovers_of_a_killed_writer_are_reused);
    tcase_add_test(tc, a_second_writer_is_refused);
    tcase_add_test(tc, full_disk_is_reported);
    tcase_add_test(tc, bad_paths_are_named);
    tcase_add_test(tc, names_written_by_libraries_are_published);
    tcase_add_test(tc, directories_are_made);
    tcase_add_test(tc, files_are_removed_once);
    tcase_add_test(tc, paths_are_joined);
    tcase_add_test(tc, failed_allocations_are_clean);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
