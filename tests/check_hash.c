/* hash.c against the published vectors of SHA-256 (FIPS 180-4) and FNV-1a. */
#include "hash.h"
#include "atomic_file.h"
#include "test_util.h"

#include <string.h>

START_TEST(sha256_vectors) {
    static const struct { const char *text, *hex; } row[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    };
    const char *path = test_path("hashed");
    for (int i = 0; i < LQ_ARRAY_LEN(row); i++) {
        char hex[LQ_SHA256_HEX];
        uint64_t bytes;
        lq_sha256(hex, row[i].text, strlen(row[i].text));
        ck_assert_str_eq(hex, row[i].hex);
        ck_ok(lq_write_file(path, row[i].text, strlen(row[i].text)));
        memset(hex, 0, sizeof hex);
        ck_ok(lq_sha256_file(hex, path, &bytes));
        ck_assert_str_eq(hex, row[i].hex);
        ck_assert_uint_eq(bytes, strlen(row[i].text));
    }
}
END_TEST

START_TEST(large_files_are_streamed) {
    const char *path = test_path("large");
    char from_file[LQ_SHA256_HEX], from_memory[LQ_SHA256_HEX];
    enum { N = 100001 };
    char *x = lq_alloc(N);
    for (int i = 0; i < N; i++) x[i] = (char)(i * 7);
    ck_ok(lq_write_file(path, x, N));
    ck_ok(lq_sha256_file(from_file, path, NULL));
    lq_sha256(from_memory, x, N);
    ck_assert_str_eq(from_file, from_memory);
    lq_free(x);
}
END_TEST

START_TEST(unreadable_files_are_named) {
    char hex[LQ_SHA256_HEX];
    ck_fails(lq_sha256_file(hex, "/no/such", NULL), LQ_EIO, "/no/such: No such file");
    ck_fails(lq_sha256_file(hex, "/tmp", NULL), LQ_EIO, "/tmp: Is a directory");
}
END_TEST

START_TEST(fnv1a_vectors) {
    ck_assert_uint_eq(lq_fnv1a(LQ_FNV_INIT, "", 0), UINT64_C(0xcbf29ce484222325));
    ck_assert_uint_eq(lq_fnv1a(LQ_FNV_INIT, "a", 1), UINT64_C(0xaf63dc4c8601ec8c));
    ck_assert_uint_eq(lq_fnv1a(LQ_FNV_INIT, "foobar", 6), UINT64_C(0x85944171f73967e8));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("hash");
    TCase *tc = tcase_create("hash");
    tcase_add_test(tc, sha256_vectors);
    tcase_add_test(tc, large_files_are_streamed);
    tcase_add_test(tc, unreadable_files_are_named);
    tcase_add_test(tc, fnv1a_vectors);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
