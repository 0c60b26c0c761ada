/* jsonl.*: lines and arrays, and messages that name the place. */
#include "jsonl.h"

#include "atomic_file.h"
#include "test_util.h"

#include <string.h>

static const struct {
    const char *what, *name, *text;
    int64_t records[4];    /* numbers of the good ones, 0-terminated */
    const char *error;     /* part of the first message; NULL: none */
} files[] = {
    {"lines", "a.jsonl", "{\"a\":1}\n{\"a\":2}\n", {1, 2}, NULL},
    {"no newline at the end", "a.jsonl", "{\"a\":1}\n{\"a\":2}", {1, 2}, NULL},
    {"blank lines, CRLF, spaces",
     "a.jsonl",
     "\r\n{\"a\":1}\r\n \t\r\n  {\"a\":2} \r\n\r\n",
     {2, 4},
     NULL},
    {"byte order mark", "a.jsonl", "\xef\xbb\xbf{\"a\":1}\n", {1}, NULL},
    {"array", "a.json", "[\n {\"a\":1},\n\n {\"a\":2}]\n", {1, 2}, NULL},
    {"array in .jsonl", "a.jsonl", " [{\"a\":1}]", {1}, NULL},
    {"lines in .json", "a.json", "{\"a\":1}\n{\"a\":2}\n", {1, 2}, NULL},
    {"empty file", "a.jsonl", "", {0}, NULL},
    {"empty array", "a.json", "[]", {0}, NULL},
    {"broken line", "a.jsonl", "{\"a\":1}\n{\"a\":\n{\"a\":3}\n", {1, 3}, "a.jsonl:2: broken JSON"},
    {"two objects on a line",
     "a.jsonl",
     "{\"a\":1} {\"a\":2}\n{}\n",
     {2},
     "a.jsonl:1: broken JSON"},
    {"no object",
     "a.jsonl",
     "{}\n[1]\n3\n{}\n",
     {1, 4},
     "a.jsonl:2: found an array, wanted an object"},
    {"no object in an array",
     "a.json",
     "[{}, \"x\", {}]",
     {1, 3},
     "a.json: record 2: found a string, wanted an object"},
    {"Latin-1", "a.jsonl", "{}\n{\"a\":\"\xe9\"}\n{}\n", {1, 3}, "a.jsonl:2: not UTF-8"},
    {"NUL in a string", "a.jsonl", "{\"a\":\"\\u0000\"}\n{}\n", {2}, "a.jsonl:1: broken JSON"},
};

static void check_file(int i, const char *path) {
    lq_jsonl *r = NULL;
    json_t *record = NULL;
    int good = 0, bad = 0;
    ck_ok(lq_jsonl_open(&r, path));
    for (;;) {
        const lq_status status = lq_jsonl_next(r, &record);
        if (status == LQ_OK && !record) break;
        if (status == LQ_OK) {
            ck_assert_msg(lq_jsonl_record(r) == files[i].records[good], "%s: record %lld",
                          files[i].what, (long long)lq_jsonl_record(r));
            good++;
            continue;
        }
        ck_assert_int_eq(status, LQ_EFORMAT);
        if (bad++ == 0)
            ck_assert_msg(files[i].error && test_contains(lq_error(), files[i].error), "%s: %s",
                          files[i].what, lq_error());
    }
    ck_assert_msg(files[i].records[good] == 0, "%s: %d records", files[i].what, good);
    ck_assert_msg((bad > 0) == (files[i].error != NULL), "%s: %d errors", files[i].what, bad);
    lq_jsonl_close(r);
}

START_TEST(reads_every_form) {
    for (int i = 0; i < LQ_ARRAY_LEN(files); i++) {
        const char *path = test_path(files[i].name);
        ck_ok(lq_write_file(path, files[i].text, strlen(files[i].text)));
        check_file(i, path);
    }
}
END_TEST

START_TEST(refuses_a_broken_array) {
    static const char text[] = "[{\"a\":1},\n{\"a\":}]\n";
    const char *path = test_path("b.json");
    lq_jsonl *r = NULL;
    ck_ok(lq_write_file(path, text, strlen(text)));
    ck_fails(lq_jsonl_open(&r, path), LQ_EFORMAT, "b.json:2: broken JSON");
    ck_fails(lq_jsonl_open(&r, test_path("absent.jsonl")), LQ_EIO, "absent.jsonl");
    lq_jsonl_close(NULL);
}
END_TEST

static lq_status read_all(void *path) {
    lq_jsonl *r = NULL;
    json_t *record = NULL;
    lq_status status;
    LQ_TRY(lq_jsonl_open(&r, path));
    do {
        status = lq_jsonl_next(r, &record);
    } while (status == LQ_OK && record);
    lq_jsonl_close(r);
    return status;
}

START_TEST(allocation_failures) {
    char path[256];
    strcpy(path, test_path("c.jsonl"));
    ck_ok(lq_write_file(path, "{}\n{\"a\":[1,2]}\n", 15));
    test_alloc_failures(read_all, path);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("jsonl");
    TCase *tc = tcase_create("jsonl");
    suite_add_tcase(suite, tc);
    tcase_add_test(tc, reads_every_form);
    tcase_add_test(tc, refuses_a_broken_array);
    tcase_add_test(tc, allocation_failures);
    return test_run(suite);
}
