/* gguf_split.c: a split model opens as one file; every mismatch between its parts has a message. */
#include "gguf.h"
#include "str.h"
#include "test_util.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const float numbers[3] = {1, 2, 3};

typedef struct part { int no, count, tensors; const char *name; } part;

static void write_part(const char *path, const part *p) {
    const uint16_t no = (uint16_t)p->no, count = (uint16_t)p->count;
    const int32_t tensors = p->tensors;
    const int64_t one = 1;
    lq_gguf_writer *w;
    ck_ok(lq_gguf_writer_new(&w));
    if (p->no == 0) ck_ok(lq_gguf_writer_set_string(w, "general.architecture", "llama"));
    ck_ok(lq_gguf_writer_set_number(w, "split.no", LQ_GGUF_U16, &no));
    ck_ok(lq_gguf_writer_set_number(w, "split.count", LQ_GGUF_U16, &count));
    ck_ok(lq_gguf_writer_set_number(w, "split.tensors.count", LQ_GGUF_I32, &tensors));
    ck_ok(lq_gguf_writer_add(w, p->name, 0, 1, &one, &numbers[p->no], sizeof(float)));
    ck_ok(lq_gguf_writer_write(w, path));
    lq_gguf_writer_free(w);
}

static const char *write_parts(const char *dir, const part *parts) {
    static char first[512];
    char path[512];
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s-%05d-of-%05d.gguf", test_path(dir), i + 1, 3);
        write_part(path, &parts[i]);
        if (i == 0) memcpy(first, path, sizeof first);
    }
    return first;
}

static const part good[3] = {{0, 3, 3, "a"}, {1, 3, 3, "b"}, {2, 3, 3, "c"}};

static lq_status open_and_check(void *ctx) {
    lq_gguf *g = NULL;
    int n;
    LQ_TRY(lq_gguf_open(&g, ctx));
    ck_assert_int_eq(lq_gguf_n_tensors(g), 3);
    ck_assert_int_eq(lq_gguf_n_kv(g), 1);
    for (int i = 0; i < 3; i++) {
        const lq_gguf_tensor *t = lq_gguf_find_tensor(g, good[i].name);
        ck_assert(t && t->fmt == &lq_f32 && *(const float *)t->data == numbers[i]);
    }
    lq_gguf_regions(g, &n);
    ck_assert_int_eq(n, 3);
    ck_assert_uint_gt(lq_gguf_bytes(g), 300);
    lq_gguf_close(g);
    return LQ_OK;
}

START_TEST(opens_as_one) {
    const char *first = write_parts("good", good);
    ck_ok(open_and_check((void *)first));
    test_alloc_failures(open_and_check, (void *)first);
}
END_TEST

static const struct {
    part parts[3];
    lq_status status;
    const char *message;
} bad[] = {
    {{{0, 3, 3, "a"}, {2, 3, 3, "b"}, {2, 3, 3, "c"}}, LQ_EFORMAT, "split.no is 2, must be 1"},
    {{{0, 3, 3, "a"}, {1, 4, 3, "b"}, {2, 3, 3, "c"}}, LQ_EFORMAT, "split.count is 4, must be 3"},
    {{{0, 3, 4, "a"}, {1, 3, 4, "b"}, {2, 3, 4, "c"}}, LQ_EFORMAT,
     "split.tensors.count is 4, must be 3"},
    {{{0, 3, 3, "a"}, {1, 3, 3, "b"}, {2, 3, 3, "b"}}, LQ_EFORMAT, "duplicate tensor b"},
    {{{1, 3, 3, "a"}, {1, 3, 3, "b"}, {2, 3, 3, "c"}}, LQ_EVALUE,
     "is file 2 of 3 of a split model; open the first"},
    {{{0, 2, 3, "a"}, {1, 3, 3, "b"}, {2, 3, 3, "c"}}, LQ_EVALUE, "-00001-of-00002.gguf"},
};

START_TEST(mismatches) {
    lq_gguf *g = NULL;
    const char *first = write_parts("bad", bad[_i].parts);
    ck_fails(lq_gguf_open(&g, first), bad[_i].status, bad[_i].message);
}
END_TEST

START_TEST(missing_part) {
    lq_gguf *g = NULL;
    char path[512];
    const char *first = write_parts("missing", good);
    snprintf(path, sizeof path, "%s-00002-of-00003.gguf", test_path("missing"));
    ck_assert_int_eq(unlink(path), 0);
    ck_fails(lq_gguf_open(&g, first), LQ_EIO, "00002-of-00003.gguf: No such file");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("gguf_split");
    TCase *t = tcase_create("all");
    tcase_add_test(t, opens_as_one);
    tcase_add_loop_test(t, mismatches, 0, LQ_ARRAY_LEN(bad));
    tcase_add_test(t, missing_part);
    suite_add_tcase(suite, t);
    return test_run(suite);
}
