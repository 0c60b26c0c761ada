/* imatrix.c, imatrix_file.c: what is written is read back, the older file is understood, and files
 * that cannot be right are refused with the name of the entry. */
#include "imatrix.h"

#include "atomic_file.h"
#include "ggml_types.h"
#include "gguf.h"
#include "str.h"
#include "test_util.h"

#include <math.h>
#include <string.h>

static lq_imatrix *make(void) {
    lq_imatrix *im;
    lq_imatrix_entry *e;
    ck_ok(lq_imatrix_new(&im, "text.txt", 512));
    im->n_chunks = 3;
    ck_ok(lq_imatrix_add(&e, im, "blk.1.attn_q.weight", 4, 1));
    memcpy(e->sum, (float[]){3, 6, 0, 1.5f}, 4 * sizeof(float));
    e->count[0] = 3;
    ck_ok(lq_imatrix_add(&e, im, "blk.0.ffn_up_exps.weight", 6, 2));
    memcpy(e->sum, (float[]){1, 2, 3, 0, 0, 0}, 6 * sizeof(float));
    e->count[0] = 2; /* the second expert was never asked */
    ck_ok(lq_imatrix_finish(im));
    return im;
}

static void expect_same(const lq_imatrix *got, const lq_imatrix *want) {
    ck_assert_int_eq(got->n, want->n);
    for (int64_t i = 0; i < want->n; i++) {
        const lq_imatrix_entry *a = &got->entry[i], *b = &want->entry[i];
        ck_assert_str_eq(a->name, b->name);
        ck_assert(a->n == b->n && a->n_counts == b->n_counts);
        ck_assert_mem_eq(a->sum, b->sum, (size_t)b->n * sizeof *b->sum);
        ck_assert_mem_eq(a->mean, b->mean, (size_t)b->n * sizeof *b->mean);
    }
}

START_TEST(means) {
    lq_imatrix *im = make();
    const float *w;
    ck_ok(lq_imatrix_weights(&w, im, "blk.1.attn_q.weight", 4));
    ck_assert(w[0] == 1 && w[1] == 2 && w[2] == 0 && w[3] == 0.5f);
    ck_ok(lq_imatrix_weights(&w, im, "blk.0.ffn_up_exps.weight", 6));
    ck_assert(w[0] == 0.5f && w[2] == 1.5f && w[3] == 1 && w[5] == 1);
    ck_ok(lq_imatrix_weights(&w, im, "blk.7.attn_q.weight", 4));
    ck_assert_ptr_null(w);
    ck_ok(lq_imatrix_weights(&w, NULL, "blk.1.attn_q.weight", 4));
    ck_assert_ptr_null(w);
    ck_fails(lq_imatrix_weights(&w, im, "blk.1.attn_q.weight", 8), LQ_ESHAPE,
             "blk.1.attn_q.weight: the importance matrix has 4 columns, the tensor 8");
    lq_imatrix_free(im);
}
END_TEST

START_TEST(written_is_read) {
    const char *path = test_path("i.gguf");
    lq_imatrix *im = make(), *back = NULL;
    ck_ok(lq_imatrix_write(im, path));
    ck_ok(lq_imatrix_read(&back, path));
    expect_same(back, im);
    ck_assert(back->n_chunks == 3 && back->chunk_size == 512);
    ck_assert_str_eq(back->dataset, "text.txt");
    ck_assert_str_eq(back->path, path);
    lq_imatrix_free(im);
    lq_imatrix_free(back);
}
END_TEST

/* ---- the older file -------------------------------------------------------------------------- */

static void put_i32(lq_str *s, int32_t v) { lq_str_add(s, (const char *)&v, sizeof v); }

static void put_old_entry(lq_str *s, const char *name, int32_t calls, const float *x, int32_t n) {
    put_i32(s, (int32_t)strlen(name));
    lq_str_puts(s, name);
    put_i32(s, calls);
    put_i32(s, n);
    lq_str_add(s, (const char *)x, (size_t)n * sizeof *x);
}

static lq_str old_file(const float *x) {
    lq_str s = LQ_STR_INIT;
    put_i32(&s, 2);
    put_old_entry(&s, "blk.1.attn_q.weight", 4, x, 3);
    put_old_entry(&s, "blk.0.attn_q.weight", 0, x, 3);
    put_i32(&s, 9);
    put_i32(&s, 3);
    lq_str_puts(&s, "a b");
    return s;
}

START_TEST(older_files_are_read) {
    const char *path = test_path("old.dat");
    const float x[] = {4, 8, 2};
    lq_str s = old_file(x);
    lq_imatrix *im = NULL;
    ck_ok(lq_write_file(path, s.s, s.n));
    ck_ok(lq_imatrix_read(&im, path));
    ck_assert(im->n == 2 && im->n_chunks == 9);
    ck_assert_str_eq(im->dataset, "a b");
    const lq_imatrix_entry *e = &im->entry[1];   /* by name */
    ck_assert_str_eq(e->name, "blk.1.attn_q.weight");
    ck_assert(e->mean[0] == 1 && e->mean[1] == 2 && e->mean[2] == 0.5f);
    ck_assert(im->entry[0].mean[1] == 8);
    lq_imatrix_free(im);
    for (size_t n = 0; n < s.n; n++) { /* cut anywhere: refused, or without the end */
        ck_ok(lq_write_file(path, s.s, n));
        if (lq_imatrix_read(&im, path) != LQ_OK) continue;
        ck_assert_int_eq(im->n, 2);
        lq_imatrix_free(im);
    }
    lq_str_clear(&s);
}
END_TEST

/* ---- files that cannot be right -------------------------------------------------------------- */

typedef struct bad {
    const char *sums, *counts;
    int64_t n_counts;
    float value, count;
    const char *says;
} bad;

static const bad bads[] = {
    {"q.in_sum2", "q.counts", 1, NAN, 1, "q: the importance of column 2 is nan"},
    {"q.in_sum2", "q.counts", 1, INFINITY, 1, "q: the importance of column 2 is inf"},
    {"q.in_sum2", "q.counts", 1, -1, 1, "q: the importance of column 2 is -1"},
    {"q.in_sum2", "q.counts", 1, 1, NAN, "q: count 0 is nan"},
    {"q.in_sum2", "p.counts", 1, 1, 1, "q: wanted F32 tensors in_sum2 and counts"},
    {"q.in_sum2", "q.counts", 3, 1, 1, "q: 4 sums and 3 counts"},
    {"q.weight", "q.counts", 1, 1, 1, "is no importance matrix: found no tensor NAME.in_sum2"},
};

static void write_bad(const char *path, const bad *b, bool with_keys) {
    const float sum[] = {1, 1, b->value, 1}, count[] = {b->count, 1, 1};
    const int64_t four = 4, ne[] = {1, b->n_counts};
    const lq_gguf_str name = {"t", 1};
    lq_gguf_writer *w = NULL;
    ck_ok(lq_gguf_writer_new(&w));
    if (with_keys) {
        ck_ok(lq_gguf_writer_set_strings(w, "imatrix.datasets", &name, 1));
        ck_ok(lq_gguf_writer_set_u32(w, "imatrix.chunk_count", 1));
        ck_ok(lq_gguf_writer_set_u32(w, "imatrix.chunk_size", 1));
    }
    ck_ok(lq_gguf_writer_add(w, b->sums, LQ_TYPE_F32, 1, &four, sum, sizeof sum));
    ck_ok(lq_gguf_writer_add(w, b->counts, LQ_TYPE_F32, 2, ne, count,
                             (uint64_t)b->n_counts * sizeof *count));
    ck_ok(lq_gguf_writer_write(w, path));
    lq_gguf_writer_free(w);
}

START_TEST(wrong_files_are_refused) {
    const char *path = test_path("bad.gguf");
    lq_imatrix *im = NULL;
    write_bad(path, &bads[_i], true);
    const lq_status status = lq_imatrix_read(&im, path);
    ck_assert_msg(status == LQ_EFORMAT || status == LQ_ENONFINITE, "%s", lq_error());
    ck_assert_msg(test_contains(lq_error(), bads[_i].says), "%s", lq_error());
    ck_assert_msg(test_contains(lq_error(), "bad.gguf: "), "%s", lq_error());
    ck_assert_ptr_null(im);
}
END_TEST

START_TEST(other_files_are_refused) {
    const char *path = test_path("other");
    const bad good = {"q.in_sum2", "q.counts", 1, 1, 1, NULL};
    lq_imatrix *im = NULL;
    ck_fails(lq_imatrix_read(&im, test_path("absent")), LQ_EIO, "absent");
    ck_ok(lq_write_file(path, "", 0));
    ck_fails(lq_imatrix_read(&im, path), LQ_EFORMAT, "is no importance matrix");
    ck_ok(lq_write_file(path, "{\"text\": 1}", 11));
    ck_fails(lq_imatrix_read(&im, path), LQ_EFORMAT, "the name of entry 0 is cut short");
    write_bad(path, &good, false);
    ck_fails(lq_imatrix_read(&im, path), LQ_EFORMAT, "imatrix.chunk_count");
}
END_TEST

static lq_status read_and_write(void *ctx) {
    lq_imatrix *im = NULL;
    LQ_TRY(lq_imatrix_read(&im, ctx));
    const lq_status status = lq_imatrix_write(im, test_path("again.gguf"));
    lq_imatrix_free(im);
    return status;
}

START_TEST(allocation_failures) {
    char path[256];
    lq_imatrix *im = make();
    strcpy(path, test_path("a.gguf"));
    ck_ok(lq_imatrix_write(im, path));
    lq_imatrix_free(im);
    test_alloc_failures(read_and_write, path);
    const float x[] = {1, 2, 3};
    lq_str s = old_file(x);
    ck_ok(lq_write_file(path, s.s, s.n));
    lq_str_clear(&s);
    test_alloc_failures(read_and_write, path);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("imatrix");
    TCase *tc = tcase_create("imatrix");
    tcase_add_test(tc, means);
    tcase_add_test(tc, written_is_read);
    tcase_add_test(tc, older_files_are_read);
    tcase_add_loop_test(tc, wrong_files_are_refused, 0, LQ_ARRAY_LEN(bads));
    tcase_add_test(tc, other_files_are_refused);
    tcase_add_test(tc, allocation_failures);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
