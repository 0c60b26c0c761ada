/* ops/linear.c and ops/lora_linear.c against naive sums in double: biases, trained weights, packed
 * weights, both modes, dropout; and what the planner is told that backward reads. */
#include "node_util.h"
#include "ops.h"
#include "test_util.h"

#include <string.h>

enum { X, W, BIAS, A, B };
enum { N = 70, D = 64, O = 33, R = 5 };

/* A tenth of W, all of one row, nothing of another. */
static uint32_t some_clipped[O * D / 32];

static void make_clipped(void) {
    memset(some_clipped, 0, sizeof some_clipped);
    for (int i = 0; i < O * D; i++)
        if (i / D == 4 || (i % 10 == 3 && i / D != 7))
            some_clipped[i / 32] |= UINT32_C(1) << i % 32;
}

static bool passes(const lq_lora_attr *lora, int o, int j) {
    return !lora->clipped || !(lora->clipped[(o * D + j) / 32] >> (o * D + j) % 32 & 1);
}

typedef struct setting {
    const lq_format *fmt;
    bool bias, train_w, adapter;
    lq_lora_attr lora;
} setting;

static const setting settings[] = {
    {&lq_f32, false, false, false, {.scale = 0}},
    {&lq_f32, true, true, false, {.scale = 0}},
    {&lq_q4_0, true, false, false, {.scale = 0}},
    {&lq_f32, false, false, true, {.scale = 1.5f}},
    {&lq_q8_0, true, false, true, {.scale = 0.5f}},
    {&lq_q4_0, true, false, true, {.scale = 2, .merged = true}},
    {&lq_f32, false, false, true, {.scale = 1.5f, .dropout = 0.3f}},
    {&lq_q4_0, false, false, true, {.scale = 2, .merged = true, .clipped = some_clipped}},
};

/* Plain double matrices of the reference. */
typedef struct values {
    double x[N][D], w[O][D], a[R][D], b[O][R], dy[N][O], drop[N][D]; /* drop: 0 or 1 / (1 - p) */
} values;

static void quantize_in_place(lq_tensor *w, const lq_format *fmt) {
    void *packed = lq_alloc(lq_format_bytes(fmt, O * D));
    ck_assert_ptr_nonnull(packed);
    fmt->quant(w->data, packed, O * D, NULL);
    lq_free(w->data);
    w->data = packed;
    w->fmt = fmt;
}

static void make_node(test_node *t, const setting *s) {
    *t = (test_node){.n_tensors = 0};
    test_node_input(t, X, LQ_ACTIVATION, N, D, true);
    test_node_input(t, W, s->train_w ? LQ_PARAM : LQ_WEIGHT, O, D, s->train_w);
    if (s->bias) test_node_input(t, BIAS, LQ_PARAM, O, 0, true);
    if (s->fmt != &lq_f32) quantize_in_place(t->node.in[W], s->fmt);
    if (s->adapter) {
        test_node_input(t, A, LQ_PARAM, R, D, true);
        test_node_input(t, B, LQ_PARAM, O, R, true);
    }
    test_node_ready(t, s->adapter ? &lq_op_lora_linear : &lq_op_linear, &s->lora);
}

static void widen(double *out, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) out[i] = (double)x[i];
}

static void read_values(values *v, const test_node *t, const setting *s) {
    float plain[O * D];
    s->fmt->dequant(t->node.in[W]->data, plain, O * D);
    memset(v, 0, sizeof *v);
    widen(&v->x[0][0], lq_data_f32(t->node.in[X]), N * D);
    widen(&v->w[0][0], plain, O * D);
    widen(&v->dy[0][0], lq_grad_f32(t->node.out), N * O);
    for (int i = 0; i < N; i++)
        for (int j = 0; j < D; j++) v->drop[i][j] = 1;
    if (!s->adapter) return;
    widen(&v->a[0][0], lq_data_f32(t->node.in[A]), R * D);
    widen(&v->b[0][0], lq_data_f32(t->node.in[B]), O * R);
}

/* P[i][r] = drop(x) A^T and Q[i][r] = dy B */
static double p_of(const values *v, int i, int r) {
    double sum = 0;
    for (int j = 0; j < D; j++) sum += v->x[i][j] * v->drop[i][j] * v->a[r][j];
    return sum;
}

static double q_of(const values *v, int i, int r) {
    double sum = 0;
    for (int o = 0; o < O; o++) sum += v->dy[i][o] * v->b[o][r];
    return sum;
}

static void check_forward(const values *v, const test_node *t, const setting *s) {
    float want[N * O];
    const bool separate = s->adapter && !s->lora.merged;
    for (int i = 0; i < N; i++)
        for (int o = 0; o < O; o++) {
            double y = s->bias ? (double)lq_data_f32(t->node.in[BIAS])[o] : 0;
            for (int j = 0; j < D; j++) y += v->x[i][j] * v->w[o][j];
            for (int r = 0; separate && r < R; r++)
                y += (double)s->lora.scale * p_of(v, i, r) * v->b[o][r];
            want[i * O + o] = (float)y;
        }
    test_close("out", lq_data_f32(t->node.out), want, N * O, 2e-5, 1e-5);
}

static void check_dx(const values *v, const test_node *t, const setting *s) {
    float want[N * D];
    const bool separate = s->adapter && !s->lora.merged;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < D; j++) {
            double dx = 0;
            for (int o = 0; o < O; o++) dx += v->dy[i][o] * v->w[o][j];
            for (int r = 0; separate && r < R; r++)
                dx += (double)s->lora.scale * q_of(v, i, r) * v->a[r][j] * v->drop[i][j];
            want[i * D + j] = (float)dx;
        }
    test_close("dx", lq_grad_f32(t->node.in[X]), want, N * D, 5e-5, 1e-5);
}

static void check_weight_gradients(const values *v, const test_node *t, const setting *s) {
    float dw[O * D], dbias[O];
    for (int o = 0; o < O; o++) {
        double sum = 0;
        for (int i = 0; i < N; i++) sum += v->dy[i][o];
        dbias[o] = (float)sum;
        for (int j = 0; j < D; j++) {
            double g = 0;
            for (int i = 0; i < N; i++) g += v->dy[i][o] * v->x[i][j];
            dw[o * D + j] = (float)g;
        }
    }
    if (s->train_w) test_close("dw", lq_grad_f32(t->node.in[W]), dw, O * D, 2e-5, 1e-5);
    if (s->bias) test_close("dbias", lq_grad_f32(t->node.in[BIAS]), dbias, O, 2e-5, 1e-5);
}

/* scale * dy^T drop(x) where it passes. */
static double g_of(const values *v, const setting *s, int o, int j) {
    double g = 0;
    if (!passes(&s->lora, o, j)) return 0;
    for (int i = 0; i < N; i++) g += v->dy[i][o] * v->x[i][j] * v->drop[i][j];
    return g * (double)s->lora.scale;
}

static void check_adapter_gradients(const values *v, const test_node *t, const setting *s) {
    static double g[O][D];
    float da[R * D], db[O * R];
    for (int o = 0; o < O; o++)
        for (int j = 0; j < D; j++) g[o][j] = g_of(v, s, o, j);
    for (int r = 0; r < R; r++) {
        for (int j = 0; j < D; j++) {
            double sum = 0;
            for (int o = 0; o < O; o++) sum += v->b[o][r] * g[o][j];
            da[r * D + j] = (float)sum;
        }
        for (int o = 0; o < O; o++) {
            double sum = 0;
            for (int j = 0; j < D; j++) sum += g[o][j] * v->a[r][j];
            db[o * R + r] = (float)sum;
        }
    }
    test_close("da", lq_grad_f32(t->node.in[A]), da, R * D, 1e-4, 1e-5);
    test_close("db", lq_grad_f32(t->node.in[B]), db, O * R, 1e-4, 1e-5);
}

/* What the dropout mask is can be read off P / s when A has a single 1: here from a node with x =
 * 1, R = D. */
static void read_mask(values *v, const setting *s, const lq_run *run) {
    test_node t = {.n_tensors = 0};
    test_node_input(&t, X, LQ_ACTIVATION, N, D, false);
    test_node_input(&t, W, LQ_WEIGHT, O, D, false);
    lq_tensor *a = test_node_input(&t, A, LQ_PARAM, D, D, false);
    test_node_input(&t, B, LQ_PARAM, O, D, false);
    for (int i = 0; i < N * D; i++) lq_data_f32(t.node.in[X])[i] = 1;
    for (int i = 0; i < D * D; i++) lq_data_f32(a)[i] = i / D == i % D;
    test_node_ready(&t, &lq_op_lora_linear, &s->lora);
    test_node_forward(&t, run);
    widen(&v->drop[0][0], lq_data_f32(t.node.saved), N * D);
    for (int i = 0; i < N; i++)
        for (int j = 0; j < D; j++) v->drop[i][j] /= (double)s->lora.scale;
    test_node_clear(&t);
}

static void check_mask(const values *v, float dropout) {
    int zeros = 0;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < D; j++) {
            zeros += v->drop[i][j] == 0;
            if (v->drop[i][j] != 0)
                ck_assert_double_eq_tol(v->drop[i][j], 1 / (1 - (double)dropout), 1e-6);
        }
    ck_assert_double_eq_tol((double)zeros / (N * D), (double)dropout, 0.03);
}

START_TEST(matches_naive) {
    const setting *s = &settings[_i];
    const lq_run run = {.training = true, .key = 42};
    static values v;
    test_node t;
    make_node(&t, s);
    read_values(&v, &t, s);
    if (s->lora.dropout > 0) {
        read_mask(&v, s, &run);
        check_mask(&v, s->lora.dropout);
    }
    test_node_forward(&t, &run);
    check_forward(&v, &t, s);
    test_node_backward(&t, &run);
    check_dx(&v, &t, s);
    check_weight_gradients(&v, &t, s);
    if (s->adapter) check_adapter_gradients(&v, &t, s);
    test_node_clear(&t);
}
END_TEST

/* Backward adds: twice gives double. */
START_TEST(backward_adds) {
    const setting *s = &settings[_i];
    const lq_run run = {.training = true, .key = 42};
    test_node once, twice;
    make_node(&once, s);
    make_node(&twice, s);
    test_node_forward(&once, &run);
    test_node_forward(&twice, &run);
    test_node_backward(&once, &run);
    test_node_backward(&twice, &run);
    test_node_backward(&twice, &run);
    for (int k = X; k <= B; k++) {
        const lq_tensor *in = once.node.in[k];
        if (!in || !in->grad) continue;
        for (int64_t i = 0; i < lq_rows(in) * lq_cols(in); i++) lq_grad_f32(in)[i] *= 2;
        test_close("grad", lq_grad_f32(twice.node.in[k]), lq_grad_f32(in),
                   lq_rows(in) * lq_cols(in), 1e-4, 1e-5);
    }
    test_node_clear(&once);
    test_node_clear(&twice);
}
END_TEST

/* Dropout is off outside training, and another key gives another mask. */
START_TEST(dropout_follows_the_run) {
    const setting *with = &settings[6], *without = &settings[3];
    test_node a, b, c;
    make_node(&a, with);
    make_node(&b, without);
    make_node(&c, with);
    test_node_forward(&a, &(lq_run){.training = false});
    test_node_forward(&b, &(lq_run){.training = false});
    ck_assert_int_eq(memcmp(a.node.out->data, b.node.out->data, sizeof(float) * N * O), 0);
    test_node_forward(&a, &(lq_run){.training = true, .key = 1});
    test_node_forward(&c, &(lq_run){.training = true, .key = 2});
    ck_assert_int_ne(memcmp(a.node.out->data, c.node.out->data, sizeof(float) * N * O), 0);
    test_node_forward(&c, &(lq_run){.training = true, .key = 1});
    ck_assert_int_eq(memcmp(a.node.out->data, c.node.out->data, sizeof(float) * N * O), 0);
    test_node_clear(&a);
    test_node_clear(&b);
    test_node_clear(&c);
}
END_TEST

/* A frozen linear's input dies at once: this is where LoRA's memory win begins. */
START_TEST(backward_reads) {
    for (int i = 0; i < LQ_ARRAY_LEN(settings); i++) {
        const setting *s = &settings[i];
        test_node t;
        make_node(&t, s);
        const unsigned want = s->adapter ? LQ_IN(X) | LQ_IN(W) | LQ_IN(A) | LQ_IN(B)
                            : s->train_w ? LQ_IN(X) | LQ_IN(W) : LQ_IN(W);
        ck_assert_uint_eq(lq_bwd_reads(&t.node), want);
        ck_assert_int_eq(t.node.saved != NULL, s->adapter && !s->lora.merged);
        test_node_clear(&t);
    }
}
END_TEST

static lq_status reshape(test_node *t, lq_lora_attr attr) {
    lq_tensor out = {.ndim = 0}, saved = {.ndim = 0};
    t->node.attr = &attr;
    t->node.out = &out;
    t->node.saved = &saved;
    return lq_op_lora_linear.shape(&t->node);
}

START_TEST(wrong_shapes_are_refused) {
    test_node t = {.n_tensors = 0};
    test_node_input(&t, X, LQ_ACTIVATION, N, D, false);
    lq_tensor *w = test_node_input(&t, W, LQ_WEIGHT, O, D, false);
    lq_tensor *bias = test_node_input(&t, BIAS, LQ_PARAM, O, 0, false);
    lq_tensor *a = test_node_input(&t, A, LQ_PARAM, R, D, false);
    test_node_input(&t, B, LQ_PARAM, O, R, false);
    w->name = "blk.0.attn_q.weight";
    ck_ok(reshape(&t, (lq_lora_attr){0}));
    ck_fails(reshape(&t, (lq_lora_attr){.dropout = 1}), LQ_EVALUE, "dropout is 1");
    ck_fails(reshape(&t, (lq_lora_attr){.dropout = 0.1f, .merged = true}), LQ_EVALUE,
             "0 when merged");
    a->dim[0] = R + 1;
    ck_fails(reshape(&t, (lq_lora_attr){0}), LQ_ESHAPE, "A is (6,64) and B (33,5)");
    a->dim[0] = R;
    bias->dim[0] = O - 1;
    ck_fails(reshape(&t, (lq_lora_attr){0}), LQ_ESHAPE, "the bias has 32 elements");
    bias->dim[0] = O;
    w->dim[1] = D / 2;
    ck_fails(reshape(&t, (lq_lora_attr){0}), LQ_ESHAPE,
             "'blk.0.attn_q.weight': x has rows of 64, the weight of 32");
    test_node_clear(&t);
}
END_TEST

int main(void) {
    make_clipped();
    Suite *suite = suite_create("lora_linear");
    TCase *tc = tcase_create("lora_linear");
    tcase_add_loop_test(tc, matches_naive, 0, LQ_ARRAY_LEN(settings));
    tcase_add_loop_test(tc, backward_adds, 0, LQ_ARRAY_LEN(settings));
    tcase_add_test(tc, dropout_follows_the_run);
    tcase_add_test(tc, backward_reads);
    tcase_add_test(tc, wrong_shapes_are_refused);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
