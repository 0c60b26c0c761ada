/* merge_device.c, effective.cu: effective weights made on a device against those that merge.c makes
 * on the CPU: the same bytes, as exact.h promises. */
#include "merge.h"
#include "saturation.h"
#include "test_device.h"
#include "test_util.h"

#include <math.h>
#include <string.h>

static const lq_format *const in_formats[] = {&lq_f32, &lq_bf16, &lq_f16, &lq_q4_0, &lq_q6_k};
static const lq_format *const out_formats[] = {&lq_f32, &lq_f16, &lq_q8_0, &lq_q4_0, &lq_q4_k,
                                               &lq_iq4_xs};
static const struct { int64_t rows, cols; int n_mats, rank; } shapes[] = {
    {1, 256, 1, 1}, {6, 256, 3, 0}, {37, 512, 1, 3}, {70, 768, 2, 20},
};

enum { N_IN = LQ_ARRAY_LEN(in_formats), N_OUT = LQ_ARRAY_LEN(out_formats) };

static lq_dev *dev;

static void setup(void) { ck_ok(lq_dev_open(&dev, "cuda", false)); }
static void teardown(void) { lq_dev_close(dev); }

typedef struct pair {
    lq_merge_job cpu, device;   /* the same work */
    lq_merge *on_cpu, *on_device;
    int64_t n;
} pair;

static float *random_new(int64_t n, uint64_t key) {
    float *x = lq_alloc_array(n, sizeof *x);
    test_fill(x, n, key);
    return x;
}

static void *on_device(const void *p, size_t bytes) {
    void *copy;
    ck_ok(dev->row->alloc(dev, &copy, bytes));
    dev->row->copy(dev, copy, p, bytes);
    return copy;
}

static void pair_init(pair *p, const lq_format *in, const lq_format *out, int shape) {
    lq_merge_job *const j = &p->cpu;
    memset(p, 0, sizeof *p);
    *j = (lq_merge_job){.name = "blk.0.attn_q.weight", .fmt = in, .rows = shapes[shape].rows,
                        .cols = shapes[shape].cols, .n_mats = shapes[shape].n_mats,
                        .rank = shapes[shape].rank, .scale = 0.7f, .out_fmt = out};
    const int64_t n_a = j->n_mats * j->rank * j->cols, n_b = j->rows * j->rank;
    p->n = j->rows * j->cols;
    float *w = random_new(p->n, 1);
    void *data = lq_alloc(lq_format_bytes(in, p->n));
    in->quant(w, data, p->n, NULL);
    lq_free(w);
    j->data = data;
    j->a = random_new(n_a, 2);
    j->b = random_new(n_b, 3);
    j->out = lq_alloc(lq_format_bytes(out, p->n));
    p->device = *j;
    p->device.a = on_device(j->a, (size_t)n_a * sizeof(float));
    p->device.b = on_device(j->b, (size_t)n_b * sizeof(float));
    p->device.out = on_device(j->out, lq_format_bytes(out, p->n));
}

static void pair_prepare(pair *p) {
    ck_ok(lq_merge_new(&p->on_cpu, 1));
    ck_ok(lq_merge_new(&p->on_device, 1));
    ck_ok(lq_merge_on(p->on_device, dev));
    lq_merge_add(p->on_cpu, p->cpu);
    lq_merge_add(p->on_device, p->device);
    ck_ok(lq_merge_prepare(p->on_cpu));
    ck_ok(lq_merge_prepare(p->on_device));
}

static void pair_run(const pair *p) {
    ck_ok(lq_merge_run(p->on_cpu));
    ck_ok(lq_merge_run(p->on_device));
    ck_ok(lq_merge_settle(p->on_device));
}

static void pair_clear(pair *p) {
    lq_merge_free(p->on_cpu);
    lq_merge_free(p->on_device);
    lq_free((void *)p->cpu.data);
    lq_free((void *)p->cpu.a);
    lq_free((void *)p->cpu.b);
    lq_free(p->cpu.out);
    dev->row->free(dev, (void *)p->device.a);
    dev->row->free(dev, (void *)p->device.b);
    dev->row->free(dev, p->device.out);
}

static void *fetch(const void *p, size_t bytes) {
    void *host = lq_alloc(bytes);
    dev->row->copy(dev, host, p, bytes);
    ck_ok(dev->row->wait(dev));
    return host;
}

static void same_out(const pair *p, const char *what) {
    const size_t bytes = lq_format_bytes(p->cpu.out_fmt, p->n);
    void *got = fetch(p->device.out, bytes);
    ck_assert_msg(memcmp(got, p->cpu.out, bytes) == 0, "%s: %s to %s, %lld rows", what,
                  p->cpu.fmt->name, p->cpu.out_fmt->name, (long long)p->cpu.rows);
    lq_free(got);
}

START_TEST(bytes_are_the_cpus) {
    for (int shape = 0; shape < LQ_ARRAY_LEN(shapes); shape++) {
        pair p;
        pair_init(&p, in_formats[_i / N_OUT], out_formats[_i % N_OUT], shape);
        test_reverse_device(shape % 2);
        pair_prepare(&p);
        pair_run(&p);
        same_out(&p, "made");
        ck_ok(lq_merge_reround(p.on_cpu));
        ck_ok(lq_merge_reround(p.on_device));
        same_out(&p, "rounded again");
        pair_clear(&p);
    }
    test_reverse_device(false);
}
END_TEST

START_TEST(importance_goes_with_the_matrix) {
    pair p;
    pair_init(&p, &lq_f32, out_formats[_i], 3);
    const int64_t n = p.cpu.n_mats * p.cpu.cols;
    float *importance = lq_alloc_array(n, sizeof *importance);
    test_fill(importance, n, 4);
    for (int64_t i = 0; i < n; i++) importance[i] = fabsf(importance[i]);
    p.cpu.importance = p.device.importance = importance;
    pair_prepare(&p);
    pair_run(&p);
    same_out(&p, "weighted");
    pair_clear(&p);
    lq_free(importance);
}
END_TEST

START_TEST(watching_counts) {
    pair p;
    pair_init(&p, &lq_bf16, out_formats[_i], 3);
    pair_prepare(&p);
    ck_ok(lq_merge_watchable(p.on_cpu));
    ck_ok(lq_merge_watchable(p.on_device));
    lq_merge_watch(p.on_cpu, true);
    lq_merge_watch(p.on_device, true);
    for (int run = 0; run < 2; run++) {
        pair_run(&p);
        const lq_watch_sums want = lq_merge_watched(p.on_cpu, 0);
        const lq_watch_sums got = lq_merge_watched(p.on_device, 0);
        const char *const name = out_formats[_i]->name;
        ck_assert_msg(got.codes == want.codes, "%s, codes", name);
        ck_assert_msg(got.changed == want.changed, "%s, changed", name);
        ck_assert_msg(got.saturated == want.saturated, "%s, saturated", name);
        ck_assert_double_eq_tol(got.error, want.error, 1e-9 * want.error + 1e-30);
        ck_assert_double_eq_tol(got.norm, want.norm, 1e-9 * want.norm);
    }
    pair_clear(&p);
}
END_TEST

START_TEST(clipped_values_are_the_cpus) {
    pair p;
    pair_init(&p, &lq_f32, &lq_q4_0, 2);
    const size_t bytes = (size_t)(p.n / LQ_CLIP_BITS) * sizeof(uint32_t);
    p.cpu.clipped = lq_alloc(bytes);
    p.device.clipped = on_device(p.cpu.clipped, bytes);
    pair_prepare(&p);
    pair_run(&p);
    void *got = fetch(p.device.clipped, bytes);
    uint32_t some = 0;
    for (size_t i = 0; i < bytes / sizeof some; i++) some |= p.cpu.clipped[i];
    ck_assert_uint_ne(some, 0);
    ck_assert_mem_eq(got, p.cpu.clipped, bytes);
    lq_free(got);
    lq_free(p.cpu.clipped);
    dev->row->free(dev, p.device.clipped);
    pair_clear(&p);
}
END_TEST

START_TEST(rows_become_as_long_as_asked) {
    pair p;
    pair_init(&p, &lq_f32, &lq_f32, 2);
    const int64_t rows = p.cpu.rows;
    const size_t bytes = (size_t)rows * sizeof(float);
    float *m = random_new(rows, 5), *zero = (float *)p.cpu.data;
    memset(zero, 0, (size_t)p.cpu.cols * sizeof *zero);   /* a row of zeros */
    memset((float *)p.cpu.b, 0, (size_t)p.cpu.rank * sizeof(float));
    dev->row->copy(dev, (void *)p.device.b, p.cpu.b, (size_t)p.cpu.rank * sizeof(float));
    p.cpu.m = m;
    p.cpu.norm = lq_alloc(bytes);
    p.device.m = on_device(m, bytes);
    p.device.norm = on_device(m, bytes);
    pair_prepare(&p);
    pair_run(&p);
    float *norm = fetch(p.device.norm, bytes);
    float *out = fetch(p.device.out, (size_t)p.n * sizeof *out);
    ck_assert_float_eq(norm[0], 0);
    ck_assert_mem_eq(norm, p.cpu.norm, bytes);
    ck_assert_mem_eq(out, p.cpu.out, (size_t)p.n * sizeof *out);
    lq_free(norm);
    lq_free(out);
    lq_free(m);
    lq_free(p.cpu.norm);
    dev->row->free(dev, (void *)p.device.m);
    dev->row->free(dev, p.device.norm);
    pair_clear(&p);
}
END_TEST

/* The run that makes it says nothing yet. */
START_TEST(bad_numbers_are_found) {
    pair p;
    pair_init(&p, &lq_f32, &lq_q4_0, 2);
    ((float *)p.cpu.data)[p.n - 1] = _i ? NAN : 70000;
    pair_prepare(&p);
    ck_ok(lq_merge_run(p.on_device));
    ck_fails(lq_merge_settle(p.on_device), LQ_ENONFINITE,
             "blk.0.attn_q.weight: the effective weight has a NaN or a value beyond what Q4_0");
    ck_fails(lq_merge_run(p.on_device), LQ_ENONFINITE, "blk.0.attn_q.weight");
    pair_clear(&p);
}
END_TEST

START_TEST(what_has_no_kernel_is_refused) {
    pair p;
    lq_merge *merge;
    pair_init(&p, &lq_f32, &lq_f32, 0);
    p.device.out_fmt = &lq_iq2_xs;
    ck_ok(lq_merge_new(&merge, 1));
    ck_ok(lq_merge_on(merge, dev));
    lq_merge_add(merge, p.device);
    ck_fails(lq_merge_prepare(merge), LQ_EUNSUPPORTED,
             "blk.0.attn_q.weight: IQ2_XS on device 'cuda': no kernel writes it");
    lq_merge_free(merge);
    pair_clear(&p);
}
END_TEST

int main(void) {
    if (!test_has_device()) return 77;
    Suite *suite = suite_create("merge_device");
    TCase *tc = tcase_create("merge_device");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, bytes_are_the_cpus, 0, N_IN * N_OUT);
    tcase_add_loop_test(tc, importance_goes_with_the_matrix, 0, N_OUT);
    tcase_add_loop_test(tc, watching_counts, 0, N_OUT);
    tcase_add_test(tc, clipped_values_are_the_cpus);
    tcase_add_test(tc, rows_become_as_long_as_asked);
    tcase_add_loop_test(tc, bad_numbers_are_found, 0, 2);
    tcase_add_test(tc, what_has_no_kernel_is_refused);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
