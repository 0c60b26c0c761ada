/* attention on CUDA against the CPU's, on a GPU or the emulated device, with F32 activations and
 * with BF16: every head size that has its own kernel, tails of blocks, segments, windows, caps,
 * ALiBi; generation with caches; gradients that nobody wants; the same bits whatever thread is
 * first. */
#include "node_util.h"
#include "ops.h"
#include "test_device.h"
#include "test_util.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { Q, K, V, STARTS, K_CACHE, V_CACHE, N_IN };

typedef struct shape_case {
    int64_t n;
    int n_head, n_head_kv, head_dim, window, segment; /* rows of a segment; 0: all */
    float softcap, alibi;
} shape_case;

static const shape_case cases[] = {
    {1, 2, 1, 64, 0, 0, 0, 0},     {64, 1, 1, 64, 0, 0, 0, 0},    {130, 2, 1, 64, 0, 0, 0, 0},
    {97, 4, 2, 40, 0, 31, 0, 0},   {150, 2, 2, 8, 9, 0, 0, 0},    {140, 1, 1, 96, 100, 77, 0, 0},
    {66, 2, 1, 80, 0, 0, 1.5f, 0}, {70, 3, 1, 128, 0, 0, 0, 8},   {70, 2, 1, 128, 20, 0, 2, 0},
    {70, 1, 1, 256, 0, 0, 0, 0},   {35, 2, 1, 200, 0, 20, 0, 0},  {70, 3, 1, 9, 0, 0, 0, 8},
    {67, 1, 1, 100, 0, 0, 0, 0},   {66, 1, 1, 300, 0, 0, 0.5f, 0},
};

static lq_dev *dev;   /* of the test that runs */

static lq_attention_attr attr_of(const shape_case *c) {
    return (lq_attention_attr){.n_head = c->n_head, .n_head_kv = c->n_head_kv,
                               .head_dim = c->head_dim,
                               .scale = 1.7f / sqrtf((float)c->head_dim), .window = c->window,
                               .softcap = c->softcap, .alibi = c->alibi};
}

/* ---- a node on the CPU ---------------------------------------------------------------------- */

static int64_t elements(const lq_tensor *x) { return lq_rows(x) * lq_cols(x); }

/* So that both devices start from the same numbers. */
static void round_to_activation(lq_tensor *x) {
    for (int64_t i = 0; dev->activation == &lq_bf16 && i < elements(x); i++)
        lq_data_f32(x)[i] = lq_f32_from_bf16(lq_bf16_from_f32(lq_data_f32(x)[i]));
}

static void add_inputs(test_node *t, const shape_case *c, int64_t n, int64_t past) {
    int32_t starts[512];
    for (int64_t i = 0; i < n; i++)
        starts[i] = c->segment ? (int32_t)(past + i - (past + i) % c->segment) : 0;
    for (int i = Q; i <= V; i++)
        round_to_activation(test_node_input(
            t, i, LQ_ACTIVATION, n, (i == Q ? c->n_head : c->n_head_kv) * c->head_dim, true));
    test_node_ints(t, STARTS, starts, n);
}

static void run_on_cpu(test_node *t, const shape_case *c, const lq_attention_attr *attr) {
    add_inputs(t, c, c->n, 0);
    test_node_ready(t, &lq_op_attention, attr);
    round_to_activation(t->node.out->grad);
    test_node_forward(t, &(lq_run){.training = true});
    test_node_backward(t, &(lq_run){.training = true});
}

/* ---- its twin on the device ----------------------------------------------------------------- */

typedef struct twin {
    lq_node node;
    lq_tensor tensor[NODE_MAX_TENSORS];
    int n_tensors;
    lq_run run;
} twin;

static lq_tensor *add_tensor(twin *w, const lq_tensor *of, const lq_format *fmt) {
    lq_tensor *const x = &w->tensor[w->n_tensors++];
    ck_assert_int_le(w->n_tensors, NODE_MAX_TENSORS);
    *x = *of;
    x->fmt = fmt;
    x->grad = NULL;
    ck_ok(dev->row->alloc(dev, &x->data, lq_format_bytes(fmt, elements(of))));
    return x;
}

static void upload(const lq_tensor *x, const lq_tensor *from) {
    const size_t bytes = lq_format_bytes(x->fmt, elements(from));
    void *const rounded = lq_alloc_aligned(bytes);
    ck_assert_ptr_nonnull(rounded);
    if (x->fmt == &lq_bf16)
        lq_bf16.quant(lq_data_f32(from), rounded, elements(from), NULL);
    else
        memcpy(rounded, from->data, bytes);
    dev->row->copy(dev, x->data, rounded, bytes);
    ck_ok(dev->row->wait(dev));
    lq_free(rounded);
}

/* As F32; the caller's. */
static float *download(const lq_tensor *x) {
    const size_t bytes = lq_format_bytes(x->fmt, elements(x));
    void *const data = lq_alloc_aligned(bytes);
    float *const out = lq_alloc_array(elements(x), sizeof *out);
    ck_assert(data && out);
    dev->row->copy(dev, data, x->data, bytes);
    ck_ok(dev->row->wait(dev));
    x->fmt->dequant(data, out, elements(x));
    lq_free(data);
    return out;
}

/* The same inputs, and dout, with gradients of 0. */
static void twin_open(twin *w, const test_node *t) {
    *w = (twin){.node = t->node, .run = {.dev = dev, .training = true}};
    for (int i = Q; i < K_CACHE; i++) {
        const lq_tensor *const of = t->node.in[i];
        lq_tensor *const x = add_tensor(w, of, i == STARTS ? &lq_i32 : dev->activation);
        upload(x, of);
        w->node.in[i] = x;
        if (!of->grad) continue;
        x->grad = add_tensor(w, of, dev->activation);
        dev->row->fill(dev, x->grad->data, 0, lq_format_bytes(x->grad->fmt, elements(x)));
    }
    w->node.out = add_tensor(w, t->node.out, dev->activation);
    w->node.out->grad = add_tensor(w, t->node.out, dev->activation);
    upload(w->node.out->grad, t->node.out->grad);
    w->node.saved = add_tensor(w, t->node.saved, &lq_f32);
    const lq_kernels *const kernels = lq_op_attention.kernel[LQ_CUDA];
    ck_ok(kernels->accepts(&w->node));
    ck_ok(dev->row->alloc(dev, &w->run.scratch, kernels->scratch(&w->node, true) + 64));
}

static void twin_run(twin *w, bool backward) {
    lq_op_attention.kernel[LQ_CUDA]->fwd(&w->node, &w->run);
    if (backward) lq_op_attention.kernel[LQ_CUDA]->bwd(&w->node, &w->run);
    ck_ok(dev->row->wait(dev));
}

static void twin_close(twin *w) {
    for (int i = 0; i < w->n_tensors; i++) dev->row->free(dev, w->tensor[i].data);
    dev->row->free(dev, w->run.scratch);
}

/* ---- comparing ------------------------------------------------------------------------------ */

static double largest(const float *x, int64_t n) {
    double most = 0;
    for (int64_t i = 0; i < n; i++) most = fmax(most, fabs((double)x[i]));
    return most;
}

/* BF16 rounds p and ds before their products, and the results. */
static void same_numbers(const char *what, const lq_tensor *got, const float *want) {
    char name[64];
    float *const x = download(got);
    const double tolerance = dev->activation == &lq_bf16 ? 0.01 : 5e-6;
    snprintf(name, sizeof name, "%s, %s", what, dev->activation->name);
    const double scale = fmax(0.1, largest(want, elements(got)));
    test_close(name, x, want, elements(got), tolerance * scale, 0);
    lq_free(x);
}

static void same_bits(const lq_tensor *a, const lq_tensor *b) {
    float *const x = download(a), *const y = download(b);
    ck_assert_int_eq(memcmp(x, y, (size_t)elements(a) * sizeof *x), 0);
    lq_free(x);
    lq_free(y);
}

/* ---- tests ---------------------------------------------------------------------------------- */

static void open_device(bool bf16) { ck_ok(lq_dev_open(&dev, "cuda", bf16)); }

static const char *const names[] = {"dq", "dk", "dv"};

START_TEST(equals_cpu) {
    const shape_case *const c = &cases[_i / 2];
    const lq_attention_attr attr = attr_of(c);
    test_node t = {.n_tensors = 0};
    twin w;
    open_device(_i % 2);
    run_on_cpu(&t, c, &attr);
    twin_open(&w, &t);
    twin_run(&w, true);
    same_numbers("out", w.node.out, lq_data_f32(t.node.out));
    same_numbers("log-sum-exp", w.node.saved, lq_data_f32(t.node.saved));
    for (int i = Q; i <= V; i++)
        same_numbers(names[i], w.node.in[i]->grad, lq_grad_f32(t.node.in[i]));
    twin_close(&w);
    test_node_clear(&t);
    lq_dev_close(dev);
}
END_TEST

START_TEST(skips_absent_gradients) {
    const shape_case c = {100, 2, 1, _i < 2 ? 64 : 9, 0, 30, 0, 0};
    const lq_attention_attr attr = attr_of(&c);
    test_node t = {.n_tensors = 0};
    twin all, some;
    open_device(_i % 2);
    run_on_cpu(&t, &c, &attr);
    twin_open(&all, &t);
    twin_run(&all, true);
    for (int absent = Q; absent <= V; absent++) {
        twin_open(&some, &t);
        some.node.in[absent]->grad = NULL;
        test_reverse_device(true);
        twin_run(&some, true);
        test_reverse_device(false);
        for (int i = Q; i <= V; i++)
            if (i != absent) same_bits(some.node.in[i]->grad, all.node.in[i]->grad);
        twin_close(&some);
    }
    twin_close(&all);
    test_node_clear(&t);
    lq_dev_close(dev);
}
END_TEST

/* Rows [from, from + n) of `whole`'s inputs through a node with caches. */
static void generate_rows(const shape_case *c, const test_node *whole, lq_tensor *const caches[2],
                          int64_t from, int64_t n) {
    const lq_attention_attr attr = attr_of(c);
    test_node t = {.n_tensors = 0};
    twin w;
    add_inputs(&t, c, n, from);
    for (int i = Q; i <= V; i++) {
        const int64_t cols = lq_cols(t.node.in[i]);
        memcpy(t.node.in[i]->data, lq_data_f32(whole->node.in[i]) + from * cols,
               (size_t)(n * cols) * sizeof(float));
    }
    test_node_ready(&t, &lq_op_attention, &attr);
    twin_open(&w, &t);
    w.node.in[K_CACHE] = caches[0];
    w.node.in[V_CACHE] = caches[1];
    w.run.n_past = from;
    twin_run(&w, false);
    same_numbers("generated", w.node.out,
                 lq_data_f32(whole->node.out) + from * lq_cols(w.node.out));
    twin_close(&w);
    test_node_clear(&t);
}

START_TEST(cache_equals_one_pass) {
    static const shape_case shapes[] = {{150, 4, 2, 8, 0, 0, 0, 0},
                                        {150, 2, 1, 64, 20, 61, 0, 0},
                                        {150, 3, 1, 100, 0, 0, 0, 8},
                                        {150, 2, 2, 150, 0, 70, 1.5f, 0}};
    const shape_case *const c = &shapes[_i / 2];
    const lq_attention_attr attr = attr_of(c);
    test_node whole = {.n_tensors = 0};
    twin w = {.n_tensors = 0};
    open_device(_i % 2);
    run_on_cpu(&whole, c, &attr);
    lq_tensor *const caches[2] = {add_tensor(&w, whole.node.in[K], &lq_f32),
                                  add_tensor(&w, whole.node.in[V], &lq_f32)};
    generate_rows(c, &whole, caches, 0, 77); /* the prompt, then more of it, then by token */
    generate_rows(c, &whole, caches, 77, 59);
    generate_rows(c, &whole, caches, 136, 11);
    for (int64_t t = 147; t < 150; t++) generate_rows(c, &whole, caches, t, 1);
    twin_close(&w);
    test_node_clear(&whole);
    lq_dev_close(dev);
}
END_TEST

int main(void) {
    if (!test_has_device()) return 77;
    Suite *const suite = suite_create("attention on CUDA");
    TCase *const tc = tcase_create("attention on CUDA");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, equals_cpu, 0, 2 * LQ_ARRAY_LEN(cases));
    tcase_add_loop_test(tc, skips_absent_gradients, 0, 4);
    tcase_add_loop_test(tc, cache_equals_one_pass, 0, 8);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
