/* ops/attention.c against the formula written out in double, forward and backward, with every table
 * of kernels: head sizes, grouped heads, segments, windows, soft caps, block tails; generation with
 * a cache equals one pass without; a NaN stays one. */
#include "cpu.h"
#include "node_util.h"
#include "ops.h"
#include "test_util.h"

#include <math.h>
#include <string.h>

enum { Q, K, V, STARTS, K_CACHE, V_CACHE };

typedef struct shape_case {
    int64_t n;
    int n_head, n_head_kv, head_dim, window, segment; /* rows of a segment; 0: all */
    float softcap;
} shape_case;

static const shape_case cases[] = {
    {1, 1, 1, 8, 0, 0, 0},     {5, 2, 1, 8, 0, 2, 0},      {64, 2, 2, 16, 0, 0, 0},
    {65, 3, 1, 8, 0, 0, 0},    {200, 4, 2, 8, 0, 70, 0},   {150, 2, 1, 8, 9, 0, 0},
    {333, 2, 1, 8, 100, 129, 0}, {40, 2, 2, 8, 0, 0, 1.5f}, {300, 1, 1, 64, 64, 0, 2.0f},
    {300, 9, 3, 4, 0, 1, 0},   {70, 2, 1, 1, 0, 0, 0},     {33, 4, 2, 3, 0, 20, 0},
    {300, 1, 1, 7, 40, 0, 0},  {49, 2, 2, 9, 0, 0, 0},     {260, 3, 1, 15, 0, 100, 0},
    {70, 2, 1, 17, 0, 0, 0},   {1, 2, 1, 16, 0, 0, 0},     {66, 1, 1, 5, 1, 0, 0},
};

static lq_attention_attr attr_of(const shape_case *c) {
    return (lq_attention_attr){.n_head = c->n_head,
                               .n_head_kv = c->n_head_kv,
                               .head_dim = c->head_dim,
                               .scale = 1.7f / sqrtf((float)c->head_dim),
                               .window = c->window,
                               .softcap = c->softcap};
}

static int64_t start_of(const shape_case *c, int64_t t) {
    return c->segment ? t - t % c->segment : 0;
}

static int64_t first_key(const shape_case *c, int64_t t) {
    const int64_t start = start_of(c, t);
    return c->window && t - c->window + 1 > start ? t - c->window + 1 : start;
}

static double dot(const float *a, const float *b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

typedef struct reference {
    double *out, *dq, *dk, *dv;  /* as the node's tensors */
} reference;

/* One query row of one head: p and, if g has gradients, what flows back from dout. */
static void reference_row(const shape_case *c, const test_node *t, int64_t row, int h,
                          reference *g) {
    const lq_attention_attr attr = attr_of(c);
    const int64_t d = c->head_dim, q_ld = c->n_head * d, kv_ld = c->n_head_kv * d;
    const int64_t kv = h / (c->n_head / c->n_head_kv) * d, at = row * q_ld + h * d,
                  first = first_key(c, row);
    const float *q = lq_data_f32(t->node.in[Q]) + at, *dout = lq_grad_f32(t->node.out) + at;
    const float *k = lq_data_f32(t->node.in[K]) + kv, *v = lq_data_f32(t->node.in[V]) + kv;
    double s[512], p[512], sum = 0, correction = 0;
    for (int64_t j = first; j <= row; j++) {
        s[j] = dot(q, k + j * kv_ld, d) * (double)attr.scale;
        if (c->softcap > 0) s[j] = (double)c->softcap * tanh(s[j] / (double)c->softcap);
        sum += p[j] = exp(s[j]);
    }
    for (int64_t j = first; j <= row; j++) {
        p[j] /= sum;
        for (int64_t i = 0; i < d; i++) g->out[at + i] += p[j] * (double)v[j * kv_ld + i];
        correction += p[j] * dot(dout, v + j * kv_ld, d);
    }
    for (int64_t j = first; j <= row; j++) {
        const double r = c->softcap > 0 ? s[j] / (double)c->softcap : 0;
        const double ds =
            p[j] * (dot(dout, v + j * kv_ld, d) - correction) * (double)attr.scale * (1 - r * r);
        for (int64_t i = 0; i < d; i++) {
            g->dq[at + i] += ds * (double)k[j * kv_ld + i];
            g->dk[j * kv_ld + kv + i] += ds * (double)q[i];
            g->dv[j * kv_ld + kv + i] += p[j] * (double)dout[i];
        }
    }
}

static void compare(const char *what, const float *got, double *want, int64_t n) {
    float *rounded = lq_alloc_array(n, sizeof *rounded);
    ck_assert_ptr_nonnull(rounded);
    for (int64_t i = 0; i < n; i++) rounded[i] = (float)want[i];
    test_close(what, got, rounded, n, 1e-5, 1e-5);
    lq_free(rounded);
    lq_free(want);
}

static void compare_with_reference(const shape_case *c, const test_node *t) {
    const int64_t n_q = c->n * c->n_head * c->head_dim, n_kv = c->n * c->n_head_kv * c->head_dim;
    reference g = {lq_alloc_array(n_q, 8), lq_alloc_array(n_q, 8), lq_alloc_array(n_kv, 8),
                   lq_alloc_array(n_kv, 8)};
    ck_assert(g.out && g.dq && g.dk && g.dv);
    for (int64_t row = 0; row < c->n; row++)
        for (int h = 0; h < c->n_head; h++) reference_row(c, t, row, h, &g);
    compare("out", lq_data_f32(t->node.out), g.out, n_q);
    compare("dq", lq_grad_f32(t->node.in[Q]), g.dq, n_q);
    compare("dk", lq_grad_f32(t->node.in[K]), g.dk, n_kv);
    compare("dv", lq_grad_f32(t->node.in[V]), g.dv, n_kv);
}

static void add_qkv(test_node *t, const shape_case *c, bool trained) {
    const int64_t d = c->head_dim;
    test_node_input(t, Q, LQ_ACTIVATION, c->n, c->n_head * d, trained);
    test_node_input(t, K, LQ_ACTIVATION, c->n, c->n_head_kv * d, trained);
    test_node_input(t, V, LQ_ACTIVATION, c->n, c->n_head_kv * d, trained);
    int32_t starts[512];
    for (int64_t i = 0; i < c->n; i++) starts[i] = (int32_t)start_of(c, i);
    test_node_ints(t, STARTS, starts, c->n);
}

static void check_case(const shape_case *c) {
    const lq_attention_attr attr = attr_of(c);
    const lq_run run = {.training = true};
    test_node t = {.n_tensors = 0};
    add_qkv(&t, c, true);
    test_node_ready(&t, &lq_op_attention, &attr);
    test_node_forward(&t, &run);
    test_node_backward(&t, &run);
    compare_with_reference(c, &t);
    test_node_clear(&t);
}

START_TEST(matches_formula) {
    for (int i = 0; lq_cpu_tables()[i]; i++) {
        lq_cpu_force(lq_cpu_tables()[i]);
        check_case(&cases[_i]);
    }
    lq_cpu_force(NULL);
}
END_TEST

static void check_nan(int head_dim) {
    const shape_case c = {40, 1, 1, head_dim, 0, 0, 0};
    const lq_attention_attr attr = attr_of(&c);
    const lq_run run = {.training = false};
    const int64_t row = 21, last = head_dim - 1;
    test_node t = {.n_tensors = 0};
    add_qkv(&t, &c, false);
    lq_data_f32(t.node.in[Q])[row * head_dim + last] = NAN;
    test_node_ready(&t, &lq_op_attention, &attr);
    test_node_forward(&t, &run);
    for (int64_t i = 0; i < c.n; i++)
        ck_assert_int_eq(!!isnan(lq_data_f32(t.node.out)[i * head_dim]), i == row);
    test_node_clear(&t);
}

START_TEST(nan_stays) {
    for (int i = 0; lq_cpu_tables()[i]; i++) {
        lq_cpu_force(lq_cpu_tables()[i]);
        check_nan(8);
        check_nan(11);
        check_nan(32);
    }
    lq_cpu_force(NULL);
}
END_TEST

/* Gradients that nobody wants are skipped; the others do not change. */
START_TEST(skips_absent_gradients) {
    const shape_case *c = &cases[4];
    const lq_attention_attr attr = attr_of(c);
    const lq_run run = {.training = true};
    for (int absent = Q; absent <= V; absent++) {
        test_node all = {.n_tensors = 0}, t = {.n_tensors = 0};
        add_qkv(&all, c, true);
        add_qkv(&t, c, true);
        t.node.in[absent]->grad = NULL;
        test_node_ready(&all, &lq_op_attention, &attr);
        test_node_ready(&t, &lq_op_attention, &attr);
        test_node_forward(&all, &run);
        test_node_forward(&t, &run);
        test_node_backward(&all, &run);
        test_node_backward(&t, &run);
        for (int i = Q; i <= V; i++)
            if (i != absent)
                ck_assert_int_eq(memcmp(lq_grad_f32(t.node.in[i]), lq_grad_f32(all.node.in[i]),
                                        (size_t)(c->n * lq_cols(t.node.in[i])) * sizeof(float)), 0);
        test_node_clear(&all);
        test_node_clear(&t);
    }
}
END_TEST

/* Rows [from, from + n) of `whole`'s inputs through a node with caches, results compared with its
 * rows. */
static void generate_rows(const shape_case *c, const test_node *whole, lq_tensor caches[2],
                          int64_t from, int64_t n) {
    const lq_attention_attr attr = attr_of(c);
    const lq_run run = {.n_past = from};
    const shape_case part = {n, c->n_head, c->n_head_kv, c->head_dim, c->window, 0, c->softcap};
    test_node t = {.n_tensors = 0};
    add_qkv(&t, &part, false);
    for (int i = Q; i <= V; i++) {
        const int64_t cols = lq_cols(t.node.in[i]);
        memcpy(t.node.in[i]->data, lq_data_f32(whole->node.in[i]) + from * cols,
               (size_t)(n * cols) * sizeof(float));
    }
    t.node.in[K_CACHE] = &caches[0];
    t.node.in[V_CACHE] = &caches[1];
    test_node_ready(&t, &lq_op_attention, &attr);
    test_node_forward(&t, &run);
    const int64_t cols = lq_cols(t.node.out);
    test_close("generated", lq_data_f32(t.node.out), lq_data_f32(whole->node.out) + from * cols,
               n * cols, 1e-5, 1e-5);
    test_node_clear(&t);
}

START_TEST(cache_equals_one_pass) {
    static const int windows[] = {0, 20};
    const shape_case c = {150, 4, 2, 8, windows[_i], 0, 0};
    const lq_attention_attr attr = attr_of(&c);
    const lq_run run = {.training = false};
    float k[160 * 16], v[160 * 16];
    lq_tensor caches[2] = {{.fmt = &lq_f32, .ndim = 2, .dim = {160, 16}, .data = k},
                           {.fmt = &lq_f32, .ndim = 2, .dim = {160, 16}, .data = v}};
    test_node whole = {.n_tensors = 0};
    add_qkv(&whole, &c, false);
    test_node_ready(&whole, &lq_op_attention, &attr);
    test_node_forward(&whole, &run);
    generate_rows(&c, &whole, caches, 0, 77); /* the prompt, then more of it, then token by token */
    generate_rows(&c, &whole, caches, 77, 68);
    for (int64_t t = 145; t < 150; t++) generate_rows(&c, &whole, caches, t, 1);
    test_node_clear(&whole);
}
END_TEST

START_TEST(wrong_shapes_are_refused) {
    const shape_case c = {4, 4, 2, 8, 0, 0, 0};
    lq_attention_attr attr = attr_of(&c);
    test_node t = {.n_tensors = 0};
    add_qkv(&t, &c, false);
    lq_tensor out = {.ndim = 0}, saved = {.ndim = 0};
    t.node.attr = &attr;
    t.node.out = &out;
    t.node.saved = &saved;
    ck_ok(lq_op_attention.shape(&t.node));
    attr.n_head_kv = 3;
    ck_fails(lq_op_attention.shape(&t.node), LQ_ESHAPE, "4 query heads for 3 key heads");
    attr.n_head_kv = 1;
    ck_fails(lq_op_attention.shape(&t.node), LQ_ESHAPE,
             "k is f32 with rows of 16, wanted f32 with 8");
    attr.n_head_kv = 2;
    t.node.in[K_CACHE] = t.node.in[K];
    ck_fails(lq_op_attention.shape(&t.node), LQ_ESHAPE, "one cache without the other");
    test_node_clear(&t);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("attention");
    TCase *tc = tcase_create("attention");
    tcase_add_loop_test(tc, matches_formula, 0, LQ_ARRAY_LEN(cases));
    tcase_add_test(tc, nan_stays);
    tcase_add_test(tc, skips_absent_gradients);
    tcase_add_loop_test(tc, cache_equals_one_pass, 0, 2);
    tcase_add_test(tc, wrong_shapes_are_refused);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
