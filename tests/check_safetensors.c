/* safetensors*.c: what is written is read back, in shards too; every class of malformed file and of
 * index with its message; failed allocations. */
#include "safetensors.h"
#include "atomic_file.h"
#include "str.h"
#include "test_util.h"

#include <string.h>

/* ---- malformed files -------------------------------------------------------------------------- */

typedef struct broken {
    const char *what, *header;
    int64_t claimed;        /* the header's length as the file says it; 0: as it is */
    int data;               /* bytes behind the header */
    const char *message;
} broken;

#define ENTRY(dtype, shape, begin, end) \
    "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" begin "," end "]}"

static const broken cases[] = {
    {"no JSON", "{\"a\":", 0, 0, "the header is not JSON"},
    {"no object", "[1,2]", 0, 0, "the header is an array, must be an object"},
    {"longer than the file", "{}", 100, 0, "the header has 100 bytes, the file"},
    {"far too long", "{}", 100000001, 0, "its header has 100000001 bytes, at most 100000000"},
    {"negative length", "{}", -1, 0, "at most 100000000 are allowed"},
    {"entry", "{\"a\":3}", 0, 0, "tensor a: its entry is an integer, must be an object"},
    {"dtype", "{\"a\":" ENTRY("F7", "[1]", "0", "4") "}", 0, 4, "tensor a: dtype is F7"},
    {"no dtype", "{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 0, 4, "dtype is not a string"},
    {"shape", "{\"a\":" ENTRY("F32", "7", "0", "4") "}", 0, 4, "shape is an integer, must be an array"},
    {"negative size", "{\"a\":" ENTRY("F32", "[-1]", "0", "4") "}", 0, 4, "no whole number from 0"},
    {"too many sizes", "{\"a\":" ENTRY("F32", "[1,1,1,1,1,1,1,1,1]", "0", "4") "}", 0, 4,
     "9 dimensions"},
    {"overflow", "{\"a\":" ENTRY("F32", "[4294967296,4294967296]", "0", "4") "}", 0, 4,
     "its size in bytes overflows"},
    {"product", "{\"a\":" ENTRY("F32", "[2,3]", "0", "20") "}", 0, 20,
     "tensor a: data_offsets span 20 bytes, F32 (2,3) takes 24"},
    {"outside", "{\"a\":" ENTRY("F32", "[2]", "0", "8") "}", 0, 4, "outside of the file's 4 data"},
    {"backwards", "{\"a\":" ENTRY("F32", "[0]", "4", "0") "}", 0, 4, "begin at 4, end before, at 0"},
    {"one offset", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 0, 4,
     "data_offsets must be two numbers"},
    {"overlap", "{\"a\":" ENTRY("F32", "[2]", "0", "8") ",\"b\":" ENTRY("F32", "[1]", "4", "8") "}",
     0, 8, "tensor b: its data begins at 4, overlapping; must be 8"},
    {"hole", "{\"a\":" ENTRY("F32", "[1]", "0", "4") ",\"b\":" ENTRY("F32", "[1]", "8", "12") "}",
     0, 12, "tensor b: its data begins at 8, leaving a hole; must be 4"},
    {"tail", "{\"a\":" ENTRY("F32", "[1]", "0", "4") "}", 0, 9, "have 4 bytes, the file has 9"},
    {"twice", "{\"a\":" ENTRY("F32", "[0]", "0", "0") ",\"a\":" ENTRY("F32", "[0]", "0", "0") "}",
     0, 0, "duplicate"},
};

static void write_broken(const char *path, const broken *c) {
    lq_str file = LQ_STR_INIT;
    const uint64_t n = c->claimed ? (uint64_t)c->claimed : strlen(c->header);
    lq_str_add(&file, (const char *)&n, sizeof n);
    lq_str_puts(&file, c->header);
    for (int i = 0; i < c->data; i++) lq_str_putc(&file, 0);
    ck_ok(lq_write_file(path, file.s, file.n));
    lq_str_clear(&file);
}

START_TEST(malformed) {
    const char *path = test_path("broken.safetensors");
    lq_safetensors *s = NULL;
    write_broken(path, &cases[_i]);
    ck_fails(lq_safetensors_open(&s, path), LQ_EFORMAT, cases[_i].message);
    ck_assert_msg(test_contains(lq_error(), path), "no path: %s", lq_error());
}
END_TEST

START_TEST(truncated) {
    const char *path = test_path("short.safetensors");
    lq_safetensors *s = NULL;
    ck_ok(lq_write_file(path, "\1\0\0", 3));
    ck_fails(lq_safetensors_open(&s, path), LQ_EFORMAT, "truncated: 3 bytes");
    ck_fails(lq_safetensors_open(&s, test_path("absent.safetensors")), LQ_EIO, "absent");
}
END_TEST

/* ---- round trips ------------------------------------------------------------------------------ */

enum { N = 5 };
static float numbers[64];

static void make_tensors(lq_st_tensor t[N]) {
    static char *const names[N] = {"z", "a.weight", "m \"q\"", "empty", "b"};
    for (int i = 0; i < 64; i++) numbers[i] = (float)i;
    for (int i = 0; i < N; i++)
        t[i] = (lq_st_tensor){.name = names[i], .fmt = i & 1 ? &lq_f16 : &lq_f32, .ndim = 2,
                              .dim = {i == 3 ? 0 : i + 1, 4}, .data = numbers + i};
    for (int i = 0; i < N; i++)
        t[i].bytes = (uint64_t)(t[i].dim[0] * t[i].dim[1] * t[i].fmt->bytes);
}

static void check_tensors(const lq_safetensors *s, const lq_st_tensor t[N]) {
    ck_assert_int_eq(lq_safetensors_n(s), N);
    for (int i = 0; i < N; i++) {
        const lq_st_tensor *got = lq_safetensors_find(s, t[i].name);
        ck_assert_msg(got != NULL, "%s is lost", t[i].name);
        ck_assert(got->fmt == t[i].fmt && got->ndim == 2 && got->bytes == t[i].bytes);
        ck_assert(memcmp(got->dim, t[i].dim, 2 * sizeof got->dim[0]) == 0);
        ck_assert(memcmp(got->data, t[i].data, got->bytes) == 0);
    }
    ck_assert_ptr_null(lq_safetensors_find(s, "other"));
}

static lq_status write_and_read(void *ctx) {
    lq_st_tensor t[N];
    lq_safetensors *s = NULL;
    make_tensors(t);
    LQ_TRY(lq_safetensors_write(ctx, t, N));
    LQ_TRY(lq_safetensors_open(&s, ctx));
    check_tensors(s, t);
    lq_safetensors_close(s);
    return LQ_OK;
}

START_TEST(round_trip) {
    ck_ok(write_and_read((void *)test_path("model.safetensors")));
    test_alloc_failures(write_and_read, (void *)test_path("model.safetensors"));
}
END_TEST

START_TEST(header_is_aligned) {
    lq_st_tensor t[N];
    char *bytes = NULL;
    size_t n;
    uint64_t header;
    make_tensors(t);
    ck_ok(lq_safetensors_write(test_path("aligned.safetensors"), t, N));
    ck_ok(lq_read_file(&bytes, &n, test_path("aligned.safetensors")));
    memcpy(&header, bytes, sizeof header);
    ck_assert_uint_eq(header % 8, 0);
    ck_assert(memcmp(bytes + 8, "{\"__metadata__\":{\"format\":\"pt\"},\"b\":", 36) == 0);
    lq_free(bytes);
}
END_TEST

/* ---- shards ----------------------------------------------------------------------------------- */

static const char *write_shards(const char *name, lq_st_tensor t[N], uint64_t room) {
    const char *dir = test_path(name);
    make_tensors(t);
    ck_ok(lq_make_dirs(dir));
    ck_ok(lq_safetensors_write_dir(dir, "model", t, N, room));
    return dir;
}

static lq_status open_shards(void *ctx) {
    lq_st_tensor t[N];
    lq_safetensors *s = NULL;
    make_tensors(t);
    LQ_TRY(lq_safetensors_open_dir(&s, ctx, "model"));
    check_tensors(s, t);
    lq_safetensors_close(s);
    return LQ_OK;
}

START_TEST(sharded) {
    lq_st_tensor t[N];
    const char *dir = write_shards("shards", t, 64);
    char *path = lq_path_join(dir, "model-00003-of-00003.safetensors");
    ck_assert(lq_file_exists(path) && lq_safetensors_in_dir(dir, "model"));
    ck_assert(!lq_safetensors_in_dir(dir, "other"));
    ck_ok(open_shards((void *)dir));
    test_alloc_failures(open_shards, (void *)dir);
    lq_free(path);
    dir = write_shards("one", t, 1 << 20);
    path = lq_path_join(dir, "model.safetensors");
    ck_assert(lq_file_exists(path));
    ck_ok(open_shards((void *)dir));
    lq_free(path);
}
END_TEST

static const struct {
    const char *what, *map, *message;
} indices[] = {
    {"shard missing", "{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"9.safetensors\"}}",
     "9.safetensors is missing"},
    {"absent tensor", "{\"weight_map\":{\"a\":\"1.safetensors\",\"ghost\":\"1.safetensors\"}}",
     "ghost is in the index, but not in 1.safetensors"},
    {"unknown tensor", "{\"weight_map\":{\"b\":\"2.safetensors\",\"x\":\"1.safetensors\"}}",
     "a is not in the index"},
    {"elsewhere", "{\"weight_map\":{\"a\":\"2.safetensors\",\"b\":\"1.safetensors\"}}",
     "a is not where the index says, but in 1.safetensors"},
    {"duplicate", "{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\","
     "\"c\":\"3.safetensors\"}}", "twice in the shards: it is in 3.safetensors"},
    {"no map", "{\"metadata\":{}}", "has no object weight_map"},
    {"no name", "{\"weight_map\":{\"a\":3}}", "must be in a file beside the index"},
    {"a path", "{\"weight_map\":{\"a\":\"../1.safetensors\"}}", "must be in a file beside"},
    {"no JSON", "{", "model.safetensors.index.json:"},
};

START_TEST(bad_index) {
    const char *dir = test_path("bad_index");
    lq_safetensors *s = NULL;
    ck_ok(lq_make_dirs(dir));
    static char *const names[] = {"a", "b", "a"};
    for (int i = 0; i < 3; i++) {
        char name[32];
        const lq_st_tensor t = {.name = names[i], .fmt = &lq_f32, .ndim = 1, .dim = {1},
                                .data = numbers, .bytes = 4};
        snprintf(name, sizeof name, "%d.safetensors", i + 1);
        char *path = lq_path_join(dir, name);
        ck_ok(lq_safetensors_write(path, &t, 1));
        lq_free(path);
    }
    char *path = lq_path_join(dir, "model.safetensors.index.json");
    ck_ok(lq_write_file(path, indices[_i].map, strlen(indices[_i].map)));
    ck_fails(lq_safetensors_open_dir(&s, dir, "model"), LQ_EFORMAT, indices[_i].message);
    lq_free(path);
    ck_fails(lq_safetensors_open_dir(&s, dir, "other"), LQ_EIO, "has neither other.safetensors");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("safetensors");
    TCase *t = tcase_create("all");
    tcase_add_loop_test(t, malformed, 0, LQ_ARRAY_LEN(cases));
    tcase_add_test(t, truncated);
    tcase_add_test(t, round_trip);
    tcase_add_test(t, header_is_aligned);
    tcase_add_test(t, sharded);
    tcase_add_loop_test(t, bad_index, 0, LQ_ARRAY_LEN(indices));
    suite_add_tcase(suite, t);
    return test_run(suite);
}
