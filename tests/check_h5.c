/* h5.*: what is written comes back; what is damaged, absent or of another type is a clear error. */
#include "h5.h"

#include "atomic_file.h"
#include "test_util.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

static const float f32[] = {1.5f, -0.0f, 3e38f};
static const double f64[] = {1e300, -2};
static const int32_t i32[] = {INT32_MIN, -1, 0, INT32_MAX};
static const int64_t i64[] = {INT64_MIN, INT64_MAX};
static const uint64_t u64[] = {UINT64_MAX};
static const uint8_t u8[] = {0, 255, 7};

static const struct {
    const char *name;
    lq_h5_type type;
    const void *data;
    int64_t n;
    size_t bytes;
} arrays[] = {
    {"f32", LQ_H5_F32, f32, 3, sizeof f32}, {"f64", LQ_H5_F64, f64, 2, sizeof f64},
    {"i32", LQ_H5_I32, i32, 4, sizeof i32}, {"i64", LQ_H5_I64, i64, 2, sizeof i64},
    {"u64", LQ_H5_U64, u64, 1, sizeof u64}, {"u8", LQ_H5_U8, u8, 3, sizeof u8},
    {"empty", LQ_H5_F32, f32, 0, 0},
};

static lq_status write_sample(const char *path) {
    lq_status status = LQ_OK;
    lq_h5 *h = NULL;
    LQ_TRY(lq_h5_create(&h, path));
    for (int i = 0; i < LQ_ARRAY_LEN(arrays); i++)
        LQ_GOTO(status,
                lq_h5_write(h, arrays[i].name, arrays[i].type, arrays[i].data, arrays[i].n));
    LQ_GOTO(status, lq_h5_write_string(h, "text", "Gr\xc3\xbc\xc3\x9f" "e"));
    LQ_GOTO(status, lq_h5_write_string(h, "nothing", ""));
    status = lq_h5_commit(h);
    h = NULL;
done:
    lq_h5_close(h);
    return status;
}

static lq_status read_sample(const char *path) {
    lq_status status = LQ_OK;
    lq_h5 *h = NULL;
    void *data = NULL;
    char *text = NULL;
    int64_t n;
    LQ_TRY(lq_h5_open(&h, path));
    for (int i = 0; i < LQ_ARRAY_LEN(arrays); i++) {
        LQ_GOTO(status, lq_h5_read(h, arrays[i].name, arrays[i].type, &data, &n));
        ck_assert_int_eq(n, arrays[i].n);
        ck_assert_mem_eq(data, arrays[i].data, arrays[i].bytes);
        lq_free(data);
        data = NULL;
    }
    LQ_GOTO(status, lq_h5_read_string(h, "text", &text));
    ck_assert_str_eq(text, "Gr\xc3\xbc\xc3\x9f" "e");
    lq_free(text);
    LQ_GOTO(status, lq_h5_read_string(h, "nothing", &text));
    ck_assert_str_eq(text, "");
done:
    lq_free(data);
    lq_free(text);
    lq_h5_close(h);
    return status;
}

START_TEST(round_trip) {
    const char *path = test_path("sample.h5");
    ck_ok(write_sample(path));
    ck_ok(read_sample(path));
    ck_ok(write_sample(path)); /* over an existing file */
    ck_ok(read_sample(path));
}
END_TEST

START_TEST(many_chunks) {
    enum { N = 200001 };
    const char *path = test_path("long.h5");
    lq_h5 *h = NULL;
    int64_t n;
    void *back = NULL;
    float *x = lq_alloc_array(N, sizeof *x);
    test_fill(x, N, 1);
    ck_ok(lq_h5_create(&h, path));
    ck_ok(lq_h5_write(h, "x", LQ_H5_F32, x, N));
    ck_ok(lq_h5_commit(h));
    ck_ok(lq_h5_open(&h, path));
    ck_ok(lq_h5_read(h, "x", LQ_H5_F32, &back, &n));
    ck_assert_int_eq(n, N);
    ck_assert_mem_eq(back, x, N * sizeof *x);
    lq_h5_close(h);
    lq_free(back);
    lq_free(x);
}
END_TEST

START_TEST(says_what_is_wrong) {
    const char *path = test_path("wrong.h5");
    lq_h5 *h = NULL;
    void *data;
    char *text;
    int64_t n;
    ck_ok(write_sample(path));
    ck_ok(lq_h5_open(&h, path));
    ck_fails(lq_h5_read(h, "i32", LQ_H5_F32, &data, &n), LQ_EFORMAT,
             "wrong.h5: i32: found another type, wanted float32");
    ck_fails(lq_h5_read(h, "text", LQ_H5_U8, &data, &n), LQ_EFORMAT,
             "wrong.h5: text: found another type, wanted uint8");
    ck_fails(lq_h5_read(h, "absent", LQ_H5_F32, &data, &n), LQ_EFORMAT,
             "wrong.h5: absent is missing");
    ck_fails(lq_h5_read_string(h, "u8", &text), LQ_EFORMAT,
             "u8: found another type, wanted a string");
    ck_fails(lq_h5_read_string(h, "absent", &text), LQ_EFORMAT, "absent is missing");
    lq_h5_close(h);
    lq_h5_close(NULL);
    ck_fails(lq_h5_open(&h, test_path("no-such.h5")), LQ_EIO, "no-such.h5");
    ck_ok(lq_write_file(path, "not HDF5 at all", 15));
    ck_fails(lq_h5_open(&h, path), LQ_EFORMAT, "wrong.h5");
    ck_ok(lq_write_file(path, "", 0));
    ck_fails(lq_h5_open(&h, path), LQ_EFORMAT, "wrong.h5");
    ck_fails(lq_h5_create(&h, test_path("no/such/dir/x.h5")), LQ_EIO, "x.h5");
}
END_TEST

/* Not through lq_write_file, which waits for the disk. */
static void put(const char *path, const char *bytes, size_t n) {
    FILE *f = fopen(path, "wb");
    ck_assert(f && fwrite(bytes, 1, n, f) == n && fclose(f) == 0);
}

/* Cuts and flipped bits all over the file: always an error. */
START_TEST(damage_is_never_a_value) {
    const char *whole = test_path("whole.h5"), *hurt = test_path("hurt.h5");
    char *bytes;
    size_t n;
    ck_ok(write_sample(whole));
    ck_ok(lq_read_file(&bytes, &n, whole));
    for (size_t cut = 0; cut < n; cut += 17) {
        put(hurt, bytes, cut);
        ck_assert_int_eq(read_sample(hurt), LQ_EFORMAT);
    }
    for (size_t i = 0; i < n; i += 5) {
        bytes[i] ^= (char)(1 << (i % 8));
        put(hurt, bytes, n);
        bytes[i] ^= (char)(1 << (i % 8));
        const bool unused = i >= 101 && i < 512; /* the rest of the user block */
        ck_assert_int_eq(read_sample(hurt), unused ? LQ_OK : LQ_EFORMAT);
    }
    lq_free(bytes);
}
END_TEST

START_TEST(a_dropped_file_leaves_nothing) {
    const char *path = test_path("dropped.h5");
    lq_h5 *h = NULL;
    ck_ok(lq_h5_create(&h, path));
    ck_ok(lq_h5_write(h, "f32", LQ_H5_F32, f32, 3));
    lq_h5_close(h);
    ck_assert(!lq_file_exists(path));
}
END_TEST

START_TEST(one_writer_at_a_time) {
    const char *path = test_path("busy.h5");
    lq_h5 *first = NULL, *second = NULL;
    ck_ok(lq_h5_create(&first, path));
    ck_fails(lq_h5_create(&second, path), LQ_EBUSY, "busy.h5: another process is writing it");
    for (int i = 0; i < LQ_ARRAY_LEN(arrays); i++)
        ck_ok(lq_h5_write(first, arrays[i].name, arrays[i].type, arrays[i].data, arrays[i].n));
    ck_ok(lq_h5_write_string(first, "text", "Gr\xc3\xbc\xc3\x9f" "e"));
    ck_ok(lq_h5_write_string(first, "nothing", ""));
    ck_ok(lq_h5_commit(first));
    ck_ok(read_sample(path));
    ck_ok(write_sample(path)); /* the lock is gone */
}
END_TEST

/* A limit on file size stands for the full disk: the old file stays. */
START_TEST(full_disk) {
    enum { N = 1 << 20 };
    const char *path = test_path("full.h5");
    float *x = lq_alloc_array(N, sizeof *x);
    lq_h5 *h = NULL;
    lq_status status = LQ_OK;
    struct rlimit old, small;
    ck_ok(write_sample(path));
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = (struct rlimit){100000, old.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    ck_ok(lq_h5_create(&h, path));
    LQ_GOTO(status, lq_h5_write(h, "x", LQ_H5_F32, x, N));
    status = lq_h5_commit(h);
    h = NULL;
done:
    lq_h5_close(h);
    ck_assert_int_eq(status, LQ_EIO);
    ck_assert_msg(test_contains(lq_error(), "full.h5"), "%s", lq_error());
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &old), 0);
    ck_ok(read_sample(path));
    lq_free(x);
}
END_TEST

static lq_status write_and_read(void *path) {
    LQ_TRY(write_sample(path));
    return read_sample(path);
}

START_TEST(allocation_failures) {
    char path[256];
    strcpy(path, test_path("alloc.h5"));
    test_alloc_failures(write_and_read, path);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("h5");
    TCase *tc = tcase_create("h5");
    suite_add_tcase(suite, tc);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, round_trip);
    tcase_add_test(tc, many_chunks);
    tcase_add_test(tc, says_what_is_wrong);
    tcase_add_test(tc, damage_is_never_a_value);
    tcase_add_test(tc, a_dropped_file_leaves_nothing);
    tcase_add_test(tc, one_writer_at_a_time);
    tcase_add_test(tc, full_disk);
    tcase_add_test(tc, allocation_failures);
    return test_run(suite);
}
