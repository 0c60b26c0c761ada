/* ops/kd_head.c: against PyTorch's values; against the double-precision reference with more rows
 * and tokens than a chunk and a piece hold, its gradient along itself by differences; a teacher
 * that is the model; logits beyond what exp() holds; shapes that do not fit. */
#include "node_util.h"
#include "ops.h"
#include "ref.h"
#include "test_util.h"

#include <math.h>
#include <string.h>

enum { H, W, LABELS, TEACHER, TEACHER_W };

/* ---- PyTorch --------------------------------------------------------------------------------- */

enum { N = 3, D = 4, DT = 3, V = 7, MAX_K = 3 };

static const struct {
    lq_kd_head_attr attr;
    int32_t ids[N * MAX_K];
    float log_p[N * (MAX_K + 1)], loss[N * 3], dh[N * D], dw[V * D];
} given[] = {
#include "reference/kd_values.h"
};

static const int32_t given_labels[N] = {2, -1, 5};

static void wave(float *x, int64_t n, double start) {
    for (int64_t i = 0; i < n; i++) x[i] = (float)(1.5 * sin(0.7 * (double)i + start));
}

static void add_top(test_node *t, int64_t n, int64_t K, const int32_t *ids, const float *log_p) {
    lq_tensor *const tokens = test_node_ints(t, TEACHER, ids, n * K);
    tokens->ndim = 2;
    tokens->dim[0] = n;
    tokens->dim[1] = K;
    test_node_input(t, TEACHER_W, LQ_INPUT, n, K + 1, false);
    memcpy(t->node.in[TEACHER_W]->data, log_p, (size_t)(n * (K + 1)) * sizeof(float));
}

static void make_given(test_node *t, int i, lq_kind kind) {
    *t = (test_node){.n_tensors = 0};
    wave(lq_data_f32(test_node_input(t, H, LQ_ACTIVATION, N, D, true)), N * D, 0.1);
    wave(lq_data_f32(test_node_input(t, W, kind, V, D, kind == LQ_PARAM)), V * D, 0.2);
    test_node_ints(t, LABELS, given_labels, N);
    if (given[i].attr.top_k) {
        add_top(t, N, given[i].attr.top_k, given[i].ids, given[i].log_p);
    } else {
        wave(lq_data_f32(test_node_input(t, TEACHER, LQ_INPUT, N, DT, false)), N * DT, 0.3);
        wave(lq_data_f32(test_node_input(t, TEACHER_W, LQ_WEIGHT, V, DT, false)), V * DT, 0.4);
    }
    test_node_ready(t, &lq_op_kd_head, &given[i].attr);
    for (int64_t row = 0; row < N; row++) lq_grad_f32(t->node.out)[row * LQ_KD_COLS] = 1;
}

START_TEST(matches_pytorch) {
    const lq_run run = {.training = true};
    const lq_kind kinds[] = {LQ_PARAM, LQ_WEIGHT};
    for (int k = 0; k < 2; k++) {
        test_node t;
        float loss[N * 3];
        make_given(&t, _i, kinds[k]);
        test_node_forward(&t, &run);
        test_node_backward(&t, &run);
        for (int row = 0; row < N; row++) {
            const float *out = lq_data_f32(t.node.out) + row * LQ_KD_COLS;
            loss[3 * row] = out[0];
            loss[3 * row + 1] = out[2];
            loss[3 * row + 2] = out[3];
        }
        test_close("loss", loss, given[_i].loss, N * 3, 1e-6, 1e-6);
        test_close("dh", lq_grad_f32(t.node.in[H]), given[_i].dh, N * D, 2e-6, 2e-6);
        if (kinds[k] == LQ_PARAM)
            test_close("dw", lq_grad_f32(t.node.in[W]), given[_i].dw, V * D, 2e-6, 2e-6);
        test_node_clear(&t);
    }
}
END_TEST

/* ---- the reference --------------------------------------------------------------------------- */

enum { MAX_N = 900, MAX_V = 640, BIG_D = 16, BIG_DT = 8 };

static const struct big {
    int n, vocab;
    lq_kd_head_attr attr;
} bigs[] = {
    {900, 37, {.alpha = 0.5f, .temperature = 2}},
    {20, 640, {.alpha = 1, .temperature = 1, .reverse = true}},
    {900, 37, {.alpha = 0.5f, .temperature = 1, .top_k = 5}},
    {20, 640, {.alpha = 0.25f, .temperature = 1.5f, .top_k = 32, .softcap = 3}},
    {20, 640, {.alpha = 1, .temperature = 1, .top_k = 64, .reverse = true}},
    {9, 5, {.alpha = 1, .temperature = 1, .top_k = 4}},
    {9, 5, {.alpha = 1, .temperature = 1, .top_k = 1}},
};

static int32_t big_label(int t, int vocab) { return t % 4 == 1 ? -1 : t * 31 % vocab; }

static double doubles[6][MAX_N * MAX_V]; /* h, w, teacher, its head, logits, out */
static int32_t big_ids[MAX_N * 64];
static double big_log_p[MAX_N * 65];

static void widen(double *out, const lq_tensor *t) {
    for (int64_t i = 0; i < lq_rows(t) * lq_cols(t); i++) out[i] = (double)lq_data_f32(t)[i];
}

static void make_buckets(const struct big *b) {
    const int64_t K = b->attr.top_k;
    for (int t = 0; t < b->n; t++) {
        double p[65], *const logits = doubles[4];
        ref_linear(logits, doubles[2] + t * BIG_DT, doubles[3], NULL, 1, BIG_DT, b->vocab);
        ref_top_buckets(logits, (double)b->attr.temperature, b->vocab, K, big_ids + t * K, p);
        for (int64_t k = 0; k <= K; k++) big_log_p[t * (K + 1) + k] = log(p[k]);
    }
}

static void make_big(test_node *t, const struct big *b) {
    static int32_t labels[MAX_N];
    static float log_p[MAX_N * 65];
    const int64_t K = b->attr.top_k;
    for (int i = 0; i < b->n; i++) labels[i] = big_label(i, b->vocab);
    *t = (test_node){.n_tensors = 0};
    test_node_input(t, H, LQ_ACTIVATION, b->n, BIG_D, true);
    test_node_input(t, W, LQ_WEIGHT, b->vocab, BIG_D, false);
    test_node_ints(t, LABELS, labels, b->n);
    const lq_tensor *teacher = test_node_input(t, TEACHER, LQ_INPUT, b->n, BIG_DT, false);
    const lq_tensor *teacher_w = test_node_input(t, TEACHER_W, LQ_WEIGHT, b->vocab, BIG_DT, false);
    widen(doubles[0], t->node.in[H]);
    widen(doubles[1], t->node.in[W]);
    widen(doubles[2], teacher);
    widen(doubles[3], teacher_w);
    if (K) {
        make_buckets(b);
        for (int64_t i = 0; i < b->n * (K + 1); i++) log_p[i] = (float)big_log_p[i];
        for (int64_t i = 0; i < b->n * (K + 1); i++) big_log_p[i] = (double)log_p[i];
        add_top(t, b->n, K, big_ids, log_p);
    }
    test_node_ready(t, &lq_op_kd_head, &b->attr);
    for (int i = 0; i < b->n; i++) lq_grad_f32(t->node.out)[i * LQ_KD_COLS] = 1;
}

static const double *big_reference(const struct big *b, const test_node *t) {
    const int32_t *const labels = lq_data_i32(t->node.in[LABELS]);
    if (b->attr.top_k)
        ref_kd_head_top(doubles[5], doubles[0], doubles[1], labels, big_ids, big_log_p, b->attr,
                        b->n, BIG_D, b->vocab);
    else
        ref_kd_head(doubles[5], doubles[0], doubles[1], labels, doubles[2], doubles[3], b->attr,
                    b->n, BIG_D, BIG_DT, b->vocab);
    return doubles[5];
}

static double big_loss(const struct big *b, const test_node *t) {
    const double *const out = big_reference(b, t);
    double sum = 0;
    for (int i = 0; i < b->n; i++) sum += out[i * LQ_KD_COLS];
    return sum;
}

/* The derivative along dh itself is its squared length. */
static void check_along_gradient(const struct big *b, const test_node *t) {
    const float *const dh = lq_grad_f32(t->node.in[H]);
    const double step = 1e-4;
    double squares = 0;
    for (int i = 0; i < b->n * BIG_D; i++) squares += (double)dh[i] * (double)dh[i];
    for (int i = 0; i < b->n * BIG_D; i++) doubles[0][i] += step * (double)dh[i];
    const double above = big_loss(b, t);
    for (int i = 0; i < b->n * BIG_D; i++) doubles[0][i] -= 2 * step * (double)dh[i];
    const double slope = (above - big_loss(b, t)) / (2 * step);
    ck_assert_msg(fabs(slope - squares) <= 1e-4 * squares, "slope %g, squared length %g", slope,
                  squares);
}

START_TEST(matches_reference) {
    static float want[MAX_N * LQ_KD_COLS];
    const struct big *b = &bigs[_i];
    const lq_run run = {.training = true};
    test_node t;
    make_big(&t, b);
    const double *const out = big_reference(b, &t);
    for (int i = 0; i < b->n * LQ_KD_COLS; i++) want[i] = (float)out[i];
    test_node_forward(&t, &run);
    test_close("out", lq_data_f32(t.node.out), want, b->n * LQ_KD_COLS, 1e-6, 1e-5);
    test_node_backward(&t, &run);
    check_along_gradient(b, &t);
    test_node_clear(&t);
}
END_TEST

/* ---- a teacher that is the model ------------------------------------------------------------- */

static const lq_kd_head_attr selves[] = {
    {.alpha = 1, .temperature = 1},
    {.alpha = 1, .temperature = 3, .softcap = 2, .teacher_softcap = 2},
    {.alpha = 1, .temperature = 1, .reverse = true},
    {.alpha = 1, .temperature = 0.5f, .reverse = true},
};

START_TEST(of_itself_learns_nothing) {
    const int32_t labels[] = {0, 3, -1, 9, 4};
    const lq_run run = {.training = true};
    test_node t = {.n_tensors = 0};
    test_node_input(&t, H, LQ_ACTIVATION, 5, BIG_D, true);
    test_node_input(&t, W, LQ_WEIGHT, 50, BIG_D, false);
    test_node_ints(&t, LABELS, labels, 5);
    lq_tensor *h = test_node_input(&t, TEACHER, LQ_INPUT, 5, BIG_D, false);
    memcpy(h->data, t.node.in[H]->data, 5 * BIG_D * sizeof(float));
    t.node.in[TEACHER_W] = t.node.in[W];
    test_node_ready(&t, &lq_op_kd_head, &selves[_i]);
    test_node_forward(&t, &run);
    test_node_backward(&t, &run);
    for (int i = 0; i < 5; i++) {
        ck_assert_float_eq(lq_data_f32(t.node.out)[i * LQ_KD_COLS], 0);
        ck_assert_float_eq(lq_data_f32(t.node.out)[i * LQ_KD_COLS + 3], 0);
    }
    for (int i = 0; i < 5 * BIG_D; i++) ck_assert_float_eq(lq_grad_f32(t.node.in[H])[i], 0);
    test_node_clear(&t);
}
END_TEST

/* ---- edges ----------------------------------------------------------------------------------- */

/* Everything on one token: shares of the others are below what a float holds. */
START_TEST(large_logits_stay_finite) {
    for (int reverse = 0; reverse < 2; reverse++)
        for (int top = 0; top < 2; top++) {
            const lq_kd_head_attr attr = {.alpha = 0.5f, .temperature = 1, .reverse = reverse,
                                          .top_k = top};
            const int32_t labels[] = {0, 1}, ids[] = {0, 0};
            const float log_p[] = {0, -400, 0, -400};
            test_node t = {.n_tensors = 0};
            test_node_input(&t, H, LQ_ACTIVATION, 2, 1, true);
            test_node_input(&t, W, LQ_WEIGHT, 3, 1, false);
            test_node_ints(&t, LABELS, labels, 2);
            memcpy(t.node.in[H]->data, (float[]){1, 1}, 2 * sizeof(float));
            memcpy(t.node.in[W]->data, (float[]){1000, -1000, 0}, 3 * sizeof(float));
            if (top) {
                add_top(&t, 2, 1, ids, log_p);
            } else {
                t.node.in[TEACHER] = t.node.in[H];
                t.node.in[TEACHER_W] = t.node.in[W];
            }
            test_node_ready(&t, &lq_op_kd_head, &attr);
            test_node_forward(&t, &(lq_run){.training = true});
            test_node_backward(&t, &(lq_run){.training = true});
            ck_assert_float_eq(lq_data_f32(t.node.out)[0], 0);
            ck_assert_float_eq(lq_data_f32(t.node.out)[LQ_KD_COLS], 1000);
            ck_assert(isfinite(lq_grad_f32(t.node.in[H])[0]));
            ck_assert(isfinite(lq_grad_f32(t.node.in[H])[1]));
            test_node_clear(&t);
        }
}
END_TEST

START_TEST(wrong_shapes_are_refused) {
    test_node t;
    lq_kd_head_attr attr = {.alpha = 1, .temperature = 1};
    make_given(&t, 0, LQ_WEIGHT);
    t.node.attr = &attr;
    ck_ok(lq_op_kd_head.shape(&t.node));
    t.node.in[TEACHER_W]->dim[0] = V + 1;
    ck_fails(lq_op_kd_head.shape(&t.node), LQ_ESHAPE, "8 tokens, the model 7 tokens");
    attr.top_k = V;
    ck_fails(lq_op_kd_head.shape(&t.node), LQ_ESHAPE, "the top 7 of a vocabulary of 7");
    attr.top_k = 2;
    ck_fails(lq_op_kd_head.shape(&t.node), LQ_ESHAPE, "the teacher's ids are f32");
    test_node_clear(&t);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("kd_head");
    TCase *tc = tcase_create("kd_head");
    tcase_add_loop_test(tc, matches_pytorch, 0, LQ_ARRAY_LEN(given));
    tcase_add_loop_test(tc, matches_reference, 0, LQ_ARRAY_LEN(bigs));
    tcase_add_loop_test(tc, of_itself_learns_nothing, 0, LQ_ARRAY_LEN(selves));
    tcase_add_test(tc, large_logits_stay_finite);
    tcase_add_test(tc, wrong_shapes_are_refused);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
