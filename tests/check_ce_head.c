/* ops/ce_head.c against softmax and its gradient written out in double: frozen and trained heads,
 * packed weights, soft cap, masked rows, more tokens than are taken at a time, ties for the top. */
#include "node_util.h"
#include "ops.h"
#include "test_util.h"

#include <math.h>
#include <string.h>

enum { H, W, LABELS };
enum { D = 32, MAX_V = 4000, MAX_N = 300 };

typedef struct setting {
    int n, vocab;
    const lq_format *fmt;
    bool trained;
    float softcap;
    int mask_every; /* rows with t % mask_every == 1 have no label; 1: none has; 0: all have one */
} setting;

static const setting settings[] = {
    {1, 5, &lq_f32, false, 0, 0},       {40, 600, &lq_f32, false, 0, 3},
    {300, 37, &lq_f32, false, 0, 7},    {40, 600, &lq_q8_0, false, 0, 2},
    {40, 600, &lq_f32, true, 0, 3},     {300, 37, &lq_f32, true, 0, 0},
    {30, 100, &lq_f32, false, 2.5f, 4}, {30, 100, &lq_f32, true, 2.5f, 4},
    {9, 20, &lq_f32, false, 0, 1},      {9, 20, &lq_f32, true, 0, 1},
    {300, 4000, &lq_f32, false, 0, 9},  {300, 4000, &lq_q8_0, false, 0, 0},
    {300, 3999, &lq_f32, true, 3, 5},   {300, 4000, &lq_f32, false, 2, 0},
};

static int32_t label_of(const setting *s, int t) {
    const bool masked = s->mask_every == 1 || (s->mask_every > 1 && t % s->mask_every == 1);
    return masked ? -1 - t % 3 : (t * 7919) % s->vocab;
}

static void make_node(test_node *t, const setting *s, const lq_ce_head_attr *attr) {
    int32_t labels[MAX_N];
    for (int i = 0; i < s->n; i++) labels[i] = label_of(s, i);
    *t = (test_node){.n_tensors = 0};
    test_node_input(t, H, LQ_ACTIVATION, s->n, D, true);
    lq_tensor *w =
        test_node_input(t, W, s->trained ? LQ_PARAM : LQ_WEIGHT, s->vocab, D, s->trained);
    if (s->fmt != &lq_f32) {
        void *packed = lq_alloc(lq_format_bytes(s->fmt, s->vocab * D));
        ck_assert_ptr_nonnull(packed);
        s->fmt->quant(w->data, packed, s->vocab * D, NULL);
        lq_free(w->data);
        w->data = packed;
        w->fmt = s->fmt;
    }
    test_node_ints(t, LABELS, labels, s->n);
    test_node_ready(t, &lq_op_ce_head, attr);
}

typedef struct reference {
    float w[MAX_V * D], out[MAX_N * 2], dh[MAX_N * D];
    double dw[MAX_V * D];
} reference;

/* One row: loss, top flag and what the loss's gradient dout adds to dh and dw. */
static void reference_row(reference *r, const setting *s, const test_node *t, int row) {
    const float *h = lq_data_f32(t->node.in[H]) + row * D;
    const int32_t label = label_of(s, row);
    const double dout = (double)lq_grad_f32(t->node.out)[2 * row], cap = (double)s->softcap;
    double z[MAX_V] = {0}, max = -INFINITY, sum = 0;
    int top = -1;
    for (int v = 0; v < s->vocab; v++) {
        for (int j = 0; j < D; j++) z[v] += (double)h[j] * (double)r->w[v * D + j];
        if (cap > 0) z[v] = cap * tanh(z[v] / cap);
        if (z[v] > max) max = z[v], top = v;
    }
    for (int v = 0; v < s->vocab; v++) sum += exp(z[v] - max);
    r->out[2 * row] = (float)(log(sum) + max - z[label]);
    r->out[2 * row + 1] = top == label;
    double dh[D] = {0};
    for (int v = 0; v < s->vocab; v++) {
        const double slope = cap > 0 ? 1 - z[v] / cap * (z[v] / cap) : 1;
        const double dz = dout * (exp(z[v] - max) / sum - (v == label)) * slope;
        for (int j = 0; j < D; j++) {
            dh[j] += dz * (double)r->w[v * D + j];
            r->dw[v * D + j] += dz * (double)h[j];
        }
    }
    for (int j = 0; j < D; j++) r->dh[row * D + j] = (float)dh[j];
}

static void check_against(reference *r, const setting *s, const test_node *t) {
    test_close("out", lq_data_f32(t->node.out), r->out, 2 * s->n, 1e-5, 1e-5);
    test_close("dh", lq_grad_f32(t->node.in[H]), r->dh, s->n * D, 1e-5, 1e-5);
    if (!s->trained) return;
    float dw[MAX_V * D];
    for (int i = 0; i < s->vocab * D; i++) dw[i] = (float)r->dw[i];
    test_close("dw", lq_grad_f32(t->node.in[W]), dw, s->vocab * D, 1e-5, 1e-5);
}

START_TEST(matches_formula) {
    const setting *s = &settings[_i];
    const lq_ce_head_attr attr = {s->softcap};
    const lq_run run = {.training = true};
    static reference r;
    test_node t;
    make_node(&t, s, &attr);
    s->fmt->dequant(t.node.in[W]->data, r.w, s->vocab * D);
    for (int i = 0; i < s->n; i++)
        if (label_of(s, i) >= 0) reference_row(&r, s, &t, i);
    test_node_forward(&t, &run);
    test_node_backward(&t, &run);
    check_against(&r, s, &t);
    test_node_clear(&t);
}
END_TEST

/* Evaluation computes the same losses and nothing for backward. */
START_TEST(evaluation_equals_training) {
    const setting *s = &settings[_i];
    const lq_ce_head_attr attr = {s->softcap};
    test_node a, b;
    make_node(&a, s, &attr);
    make_node(&b, s, &attr);
    test_node_forward(&a, &(lq_run){.training = true});
    test_node_forward(&b, &(lq_run){.training = false});
    ck_assert_int_eq(memcmp(a.node.out->data, b.node.out->data, (size_t)(2 * s->n) * sizeof(float)),
                     0);
    if (b.node.saved) ck_assert(isnan(lq_data_f32(b.node.saved)[0]));
    test_node_clear(&a);
    test_node_clear(&b);
}
END_TEST

/* Equal logits: the lowest index is the top token. */
START_TEST(lowest_index_wins_ties) {
    const lq_ce_head_attr attr = {0};
    const int32_t labels[] = {0, 1, 2, 3};
    const float want[] = {0, 1, 0, 0};
    test_node t = {.n_tensors = 0};
    test_node_input(&t, H, LQ_ACTIVATION, 4, 1, false);
    test_node_input(&t, W, LQ_WEIGHT, 4, 1, false);
    test_node_ints(&t, LABELS, labels, 4);
    for (int i = 0; i < 4; i++) lq_data_f32(t.node.in[H])[i] = 1;
    memcpy(t.node.in[W]->data, (float[]){-1, 2, 2, 0}, 4 * sizeof(float));
    test_node_ready(&t, &lq_op_ce_head, &attr);
    test_node_forward(&t, &(lq_run){.training = false});
    for (int i = 0; i < 4; i++) ck_assert_float_eq(lq_data_f32(t.node.out)[2 * i + 1], want[i]);
    test_node_clear(&t);
}
END_TEST

/* Logits too large for exp() are no trouble. */
START_TEST(large_logits_stay_finite) {
    const lq_ce_head_attr attr = {0};
    const int32_t labels[] = {0, 1};
    test_node t = {.n_tensors = 0};
    test_node_input(&t, H, LQ_ACTIVATION, 2, 1, true);
    test_node_input(&t, W, LQ_WEIGHT, 2, 1, false);
    test_node_ints(&t, LABELS, labels, 2);
    for (int i = 0; i < 2; i++) lq_data_f32(t.node.in[H])[i] = 1;
    memcpy(t.node.in[W]->data, (float[]){1000, -1000}, 2 * sizeof(float));
    test_node_ready(&t, &lq_op_ce_head, &attr);
    test_node_forward(&t, &(lq_run){.training = true});
    ck_assert_float_eq(lq_data_f32(t.node.out)[0], 0);
    ck_assert_float_eq(lq_data_f32(t.node.out)[2], 2000);
    test_node_clear(&t);
}
END_TEST

START_TEST(wrong_shapes_are_refused) {
    const setting *s = &settings[1];
    const lq_ce_head_attr attr = {0};
    test_node t;
    make_node(&t, s, &attr);
    lq_tensor *const h = t.node.in[H], *const labels = t.node.in[LABELS];
    h->dim[1] = D / 2;
    ck_fails(lq_op_ce_head.shape(&t.node), LQ_ESHAPE, "h has rows of 16, the weight of 32");
    h->dim[1] = D;
    labels->fmt = &lq_f32;
    ck_fails(lq_op_ce_head.shape(&t.node), LQ_ESHAPE, "labels are f32");
    test_node_clear(&t);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("ce_head");
    TCase *tc = tcase_create("ce_head");
    tcase_add_loop_test(tc, matches_formula, 0, LQ_ARRAY_LEN(settings));
    tcase_add_loop_test(tc, evaluation_equals_training, 0, LQ_ARRAY_LEN(settings));
    tcase_add_test(tc, lowest_index_wins_ties);
    tcase_add_test(tc, large_logits_stay_finite);
    tcase_add_test(tc, wrong_shapes_are_refused);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
