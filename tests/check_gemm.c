/* gemm.c: every product equals the naive one in double precision, for sizes around those of tiles,
 * strips and blocks, operands as stored and transposed, one term and two, with every table of
 * kernels; nothing is written beside c; and threads change no bit. */
#include "cpu.h"
#include "gemm.h"
#include "test_util.h"

#include <omp.h>
#include <stdio.h>
#include <string.h>

enum { GAP = 5 }; /* numbers behind every row that belong to nobody */

typedef struct sizes { int64_t m, n, k[LQ_GEMM_TERMS]; } sizes;

static const sizes cases[] = {
    {1, 1, {1}},        {1, 100, {64}},     {7, 33, {5, 3}},     {8, 16, {16, 16}},
    {13, 31, {9}},      {14, 32, {64, 4}},  {15, 33, {17}},      {28, 48, {100}},
    {29, 65, {33, 16}}, {100, 172, {64}},   {64, 40, {784, 16}}, {33, 70, {785}},
    {16, 300, {700}},   {430, 20, {1000}},  {20, 400, {300, 8}}, {600, 130, {600, 16}},
    {16, 280, {65, 2}},
};

typedef struct operands {
    float *a[LQ_GEMM_TERMS], *b[LQ_GEMM_TERMS], *c, *want;
    lq_gemm_term term[LQ_GEMM_TERMS];
    int n_terms;
    int64_t ldc;
} operands;

static lq_mat make_operand(float **out, int64_t rows, int64_t cols, bool transposed,
                           uint64_t key) {
    const int64_t stored_rows = transposed ? cols : rows, ld = (transposed ? rows : cols) + GAP;
    *out = lq_alloc_array(stored_rows * ld, sizeof **out);
    ck_assert_ptr_nonnull(*out);
    test_fill(*out, stored_rows * ld, key);
    return (lq_mat){*out, ld, transposed};
}

static float element(lq_mat x, int64_t row, int64_t col) {
    return x.data[x.transposed ? col * x.ld + row : row * x.ld + col];
}

static void open_operands(operands *o, const sizes *s, bool a_transposed, bool b_transposed) {
    o->n_terms = s->k[1] ? 2 : 1;
    for (int i = 0; i < o->n_terms; i++) {
        o->term[i].a = make_operand(&o->a[i], s->m, s->k[i], a_transposed, 1 + (uint64_t)i);
        o->term[i].b = make_operand(&o->b[i], s->k[i], s->n, b_transposed, 3 + (uint64_t)i);
        o->term[i].k = s->k[i];
    }
    o->ldc = s->n + GAP;
    o->c = lq_alloc_array(s->m * o->ldc, sizeof *o->c);
    o->want = lq_alloc_array(s->m * o->ldc, sizeof *o->want);
    ck_assert(o->c && o->want);
}

static void close_operands(operands *o) {
    for (int i = 0; i < o->n_terms; i++) lq_free(o->a[i]), lq_free(o->b[i]);
    lq_free(o->c);
    lq_free(o->want);
}

/* c starts as the same numbers each time. */
static void naive(operands *o, const sizes *s, bool add, float alpha) {
    test_fill(o->c, s->m * o->ldc, 9);
    memcpy(o->want, o->c, (size_t)(s->m * o->ldc) * sizeof *o->want);
    for (int64_t i = 0; i < s->m; i++)
        for (int64_t j = 0; j < s->n; j++) {
            double sum = 0;
            for (int t = 0; t < o->n_terms; t++)
                for (int64_t k = 0; k < s->k[t]; k++)
                    sum += (double)element(o->term[t].a, i, k) *
                           (double)element(o->term[t].b, k, j);
            float *const c = &o->want[i * o->ldc + j];
            *c = (float)(sum * (double)alpha + (add ? (double)*c : 0));
        }
}

static void check_case(const sizes *s, bool a_transposed, bool b_transposed, const char *table) {
    operands o = {.n_terms = 0};
    open_operands(&o, s, a_transposed, b_transposed);
    char what[120];
    snprintf(what, sizeof what, "%s: %lld x %lld x %lld+%lld, %d%d", table, (long long)s->m,
             (long long)s->n, (long long)s->k[0], (long long)s->k[1], a_transposed, b_transposed);
    for (int add = 0; add < 2; add++) {
        naive(&o, s, add, 1);
        lq_gemm_sum(o.c, o.ldc, (float)add, o.term, o.n_terms, s->m, s->n);
        test_close(what, o.c, o.want, s->m * o.ldc, 1e-4, 1e-4);
    }
    if (o.n_terms == 1) {
        naive(&o, s, true, -0.7f);
        lq_gemm_serial(o.c, o.ldc, 1, -0.7f, o.term[0].a, o.term[0].b, s->m, s->n, s->k[0]);
        test_close(what, o.c, o.want, s->m * o.ldc, 1e-4, 1e-4);
    }
    close_operands(&o);
}

START_TEST(equals_naive) {
    const lq_cpu *const table = lq_cpu_tables()[_i];
    lq_cpu_force(table);
    for (int i = 0; i < LQ_ARRAY_LEN(cases); i++)
        for (int t = 0; t < 4; t++) check_case(&cases[i], t & 1, t & 2, table->name);
    lq_cpu_force(NULL);
}
END_TEST

START_TEST(threads_change_nothing) {
    const int threads = omp_get_max_threads();
    const sizes s = {.m = 300, .n = 290, .k = {200, 16}};
    operands o = {.n_terms = 0};
    open_operands(&o, &s, false, true);
    for (int n = 1; n <= 5; n++) {
        omp_set_num_threads(n);
        float *const c = n == 1 ? o.want : o.c;
        lq_gemm_sum(c, o.ldc, 0, o.term, 2, s.m, s.n);
        if (lq_cpu_kernels()->gemm) /* OpenBLAS may sum another way for other blocks */
            ck_assert_mem_eq(o.want, c, (size_t)(s.m * o.ldc) * sizeof *c);
        lq_gemm_sum(o.want, o.ldc, 0, o.term, 2, s.m, s.n);
        ck_assert_mem_eq(o.want, c, (size_t)(s.m * o.ldc) * sizeof *c);
    }
    omp_set_num_threads(threads);
    close_operands(&o);
}
END_TEST

int main(void) {
    int tables = 0;
    while (lq_cpu_tables()[tables]) tables++;
    Suite *suite = suite_create("gemm");
    TCase *tc = tcase_create("gemm");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, equals_naive, 0, tables);
    tcase_add_test(tc, threads_change_nothing);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
