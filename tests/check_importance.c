/* importance.c: the sums are those of the inputs, whatever the number of threads, and stand for the
 * tokens that were read. */
#include "importance.h"

#include "atomic_file.h"
#include "test_util.h"
#include "tiny_model.h"

#include <omp.h>
#include <stdio.h>
#include <string.h>

static lq_model *open_model(const tiny_model *options) {
    lq_model *m = NULL;
    ck_ok(tiny_model_write(test_path("m.gguf"), options));
    ck_ok(lq_model_open(&m, test_path("m.gguf"), true));
    return m;
}

static const char *write_text(int words) {
    static char path[256];
    static char text[1 << 14];
    size_t n = 0;
    for (int i = 0; i < words; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%c%c ", 'a' + i % 26, 'a' + i * 7 % 26);
    strcpy(path, test_path("text.txt"));
    ck_ok(lq_write_file(path, text, n));
    return path;
}

/* NULL: none. */
static const lq_imatrix_entry *find_entry(const lq_imatrix *im, const char *name) {
    for (int64_t i = 0; i < im->n; i++)
        if (strcmp(im->entry[i].name, name) == 0) return &im->entry[i];
    return NULL;
}

/* The input of the first layer's queries is a normed embedding: its squares add up to the width. */
START_TEST(sums_are_of_the_inputs) {
    lq_model *m = open_model(&(tiny_model){.tied = true});
    const lq_importance_text text = {.path = write_text(600), .n_ctx = 32, .chunks = 3};
    lq_imatrix *one = NULL, *two = NULL;
    omp_set_num_threads(1);
    ck_ok(lq_importance_of_text(&one, m, &text));
    omp_set_num_threads(3);
    ck_ok(lq_importance_of_text(&two, m, &text));
    ck_assert(one->n == 14 && one->n_chunks == 3 && one->chunk_size == 32);
    for (int64_t i = 0; i < one->n; i++) {
        const lq_imatrix_entry *a = &one->entry[i], *b = &two->entry[i];
        ck_assert_str_eq(a->name, b->name);
        ck_assert_mem_eq(a->sum, b->sum, (size_t)a->n * sizeof *a->sum);
        ck_assert(a->count[0] == 96 && a->n_counts == 1);
    }
    const lq_imatrix_entry *q = find_entry(one, "blk.0.attn_q.weight");
    const lq_gguf_tensor *norm = lq_gguf_find_tensor(m->file, "blk.0.attn_norm.weight");
    const float *g = norm->data;
    double total = 0;
    for (int64_t j = 0; j < q->n; j++) total += (double)q->mean[j] / (double)(g[j] * g[j]);
    ck_assert_double_eq_tol(total, (double)q->n, 0.01 * (double)q->n);
    ck_assert_mem_eq(q->sum, find_entry(one, "blk.0.attn_v.weight")->sum,
                     (size_t)q->n * sizeof *q->sum);
    lq_imatrix_free(one);
    lq_imatrix_free(two);
    lq_model_close(m);
}
END_TEST

START_TEST(the_head_on_request) {
    lq_model *m = open_model(&(tiny_model){.n_layer = 1});
    lq_importance_text text = {.path = write_text(200), .n_ctx = 16};
    lq_imatrix *im = NULL;
    ck_ok(lq_importance_of_text(&im, m, &text));
    ck_assert_ptr_null(find_entry(im, "output.weight"));
    lq_imatrix_free(im);
    text.process_output = true;
    ck_ok(lq_importance_of_text(&im, m, &text));
    ck_assert_ptr_nonnull(find_entry(im, "output.weight"));
    lq_imatrix_free(im);
    text.n_ctx = 1 << 20;
    ck_fails(lq_importance_of_text(&im, m, &text), LQ_EVALUE, "need twice as many");
    lq_model_close(m);
}
END_TEST

/* Stacked experts: one set of sums each, of the tokens routed to it, two experts a token. */
START_TEST(experts_have_sums_of_their_own) {
    lq_model *m = open_model(&(tiny_model){.n_layer = 1, .n_expert = 4});
    const lq_importance_text text = {.path = write_text(600), .n_ctx = 32, .chunks = 3};
    lq_imatrix *im = NULL;
    ck_ok(lq_importance_of_text(&im, m, &text));
    const lq_imatrix_entry *up = find_entry(im, "blk.0.ffn_up_exps.weight");
    const lq_imatrix_entry *gate = find_entry(im, "blk.0.ffn_gate_exps.weight");
    const lq_imatrix_entry *down = find_entry(im, "blk.0.ffn_down_exps.weight");
    const lq_imatrix_entry *router = find_entry(im, "blk.0.ffn_gate_inp.weight");
    ck_assert(up && gate && down && router && up->n_counts == 4 && down->n_counts == 4);
    ck_assert_mem_eq(up->sum, gate->sum, (size_t)up->n * sizeof *up->sum);
    ck_assert_int_eq(down->n, 4 * (m->weight[lq_model_find_name(m, down->name)].cols));
    float count = 0;
    for (int i = 0; i < 4; i++) {
        ck_assert(up->count[i] == down->count[i]);
        count += up->count[i];
    }
    ck_assert(count == 2 * 96 && router->count[0] == 96);
    for (int64_t j = 0; j < router->n; j++) { /* every row once for each of its two experts */
        double sum = 0;
        for (int i = 0; i < 4; i++) sum += (double)up->sum[i * router->n + j];
        ck_assert_double_eq_tol(sum, 2 * (double)router->sum[j], 1e-5 * sum);
    }
    lq_imatrix_free(im);
    lq_model_close(m);
}
END_TEST

static lq_status collect(void *ctx) {
    const lq_importance_text text = {.path = test_path("text.txt"), .n_ctx = 16, .chunks = 1};
    lq_imatrix *im = NULL;
    LQ_TRY(lq_importance_of_text(&im, ctx, &text));
    lq_imatrix_free(im);
    return LQ_OK;
}

START_TEST(allocation_failures) {
    lq_model *m = open_model(&(tiny_model){.n_layer = 1, .n_expert = _i * 3});
    write_text(50);
    test_alloc_failures(collect, m);
    lq_model_close(m);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("importance");
    TCase *tc = tcase_create("importance");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, sums_are_of_the_inputs);
    tcase_add_test(tc, the_head_on_request);
    tcase_add_test(tc, experts_have_sums_of_their_own);
    tcase_add_loop_test(tc, allocation_failures, 0, 2);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
