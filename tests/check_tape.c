/* Recording, compiling and running: a toy model trains, gradients add up, checkpointing changes no
 * bit but the memory, lifetimes end when they should, errors stick, and failing allocations are
 * clean. */
#include "ops.h"
#include "tape_print.h"
#include "test_util.h"

#include <string.h>

enum { ROWS = 12, D = 16, F = 24, V = 11, LAYERS = 4, MAX_PARAMS = 3 * LAYERS + 2 };

/* ---- a toy: embedding, layers of norm, gate, product and residual, cross-entropy ------------- */

typedef struct toy {
    lq_tape *tape;
    lq_tensor *ids, *labels, *loss;
    float *data[MAX_PARAMS], *grad[MAX_PARAMS];
    int64_t size[MAX_PARAMS];
    int n_params;
} toy;

static lq_tensor *toy_param(toy *m, int64_t rows, int64_t cols, float spread) {
    const int64_t n = rows * cols, dim[] = {rows, cols};
    const int at = m->n_params++;
    m->size[at] = n;
    m->data[at] = lq_alloc_array(n, sizeof(float));
    m->grad[at] = lq_alloc_array(n, sizeof(float));
    if (!m->data[at] || !m->grad[at]) return lq_tape_fail(m->tape, LQ_EMEM, "toy");
    test_fill(m->data[at], n, (uint64_t)at);
    for (int64_t i = 0; i < n; i++) m->data[at][i] *= spread;
    return lq_tape_param(m->tape, "toy", 2, dim, m->data[at], m->grad[at]);
}

static lq_tensor *toy_layer(toy *m, lq_tensor *h) {
    static const float ones[D] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    lq_tensor *const w = lq_tape_weight(m->tape, "norm", &lq_f32, 1, (const int64_t[]){D}, ones);
    lq_tensor *const x = lq_rmsnorm(m->tape, h, w, (lq_rmsnorm_attr){1e-5f});
    lq_tensor *const gate = lq_linear(m->tape, x, toy_param(m, F, D, 0.4f), NULL);
    lq_tensor *const up = lq_linear(m->tape, x, toy_param(m, F, D, 0.4f), NULL);
    lq_tensor *const y = lq_glu(m->tape, gate, up, (lq_glu_attr){LQ_SILU});
    return lq_add(m->tape, h, lq_linear(m->tape, y, toy_param(m, D, F, 0.4f), NULL));
}

static void toy_record(toy *m) {
    m->ids = lq_tape_input(m->tape, "ids", &lq_i32, 0);
    m->labels = lq_tape_input(m->tape, "labels", &lq_i32, 0);
    lq_tensor *h = lq_embed(m->tape, m->ids, toy_param(m, V, D, 1), NULL,
                            (lq_embed_attr){.scale = 1});
    for (int layer = 0; layer < LAYERS; layer++) {
        lq_tape_segment(m->tape, layer);
        h = toy_layer(m, h);
    }
    lq_tape_segment(m->tape, -1);
    m->loss = lq_ce_head(m->tape, h, toy_param(m, V, D, 1), m->labels, (lq_ce_head_attr){0});
    lq_tape_output(m->tape, m->loss);
}

static void toy_inputs(toy *m, int64_t rows) {
    lq_tape_set_rows(m->tape, rows);
    for (int64_t t = 0; t < rows; t++) {
        ((int32_t *)m->ids->data)[t] = (int32_t)(t * 7 % V);
        ((int32_t *)m->labels->data)[t] = t % 5 == 4 ? -1 : (int32_t)((t + 1) * 7 % V);
    }
}

static lq_status toy_open(toy *m, lq_tape_options options) {
    *m = (toy){0};
    LQ_TRY(lq_tape_new(&m->tape, ROWS));
    toy_record(m);
    LQ_TRY(lq_tape_compile(m->tape, &options));
    LQ_TRY(lq_tape_alloc(m->tape));
    toy_inputs(m, ROWS);
    return LQ_OK;
}

static void toy_close(toy *m) {
    lq_tape_free(m->tape);
    for (int i = 0; i < m->n_params; i++) {
        lq_free(m->data[i]);
        lq_free(m->grad[i]);
    }
}

static double toy_loss(const toy *m) {
    double sum = 0;
    for (int64_t t = 0; t < m->loss->dim[0]; t++) sum += (double)lq_data_f32(m->loss)[2 * t];
    return sum;
}

static void toy_step(toy *m) {
    ck_ok(lq_tape_forward(m->tape, 1, 0));
    ck_ok(lq_tape_backward(m->tape));
}

static void toy_update(toy *m, float rate) {
    for (int i = 0; i < m->n_params; i++) {
        for (int64_t k = 0; k < m->size[i]; k++) m->data[i][k] -= rate * m->grad[i][k];
        memset(m->grad[i], 0, (size_t)m->size[i] * sizeof(float));
    }
}

static const lq_tape_options train = {.training = true};
static const lq_tape_options train_checkpoint = {.training = true, .checkpoint = true};

/* ---- running -------------------------------------------------------------------------------- */

START_TEST(toy_trains) {
    toy m;
    ck_ok(toy_open(&m, train));
    toy_step(&m);
    const double before = toy_loss(&m);
    for (int step = 0; step < 200; step++) {
        toy_update(&m, 0.005f);
        toy_step(&m);
    }
    ck_assert_msg(toy_loss(&m) < 0.05 * before, "loss went from %g to %g", before, toy_loss(&m));
    toy_close(&m);
}
END_TEST

START_TEST(gradients_add_up) {
    toy once, twice;
    ck_ok(toy_open(&once, train));
    ck_ok(toy_open(&twice, train));
    toy_step(&once);
    toy_step(&twice);
    toy_step(&twice);
    for (int i = 0; i < once.n_params; i++) {
        for (int64_t k = 0; k < once.size[i]; k++) once.grad[i][k] *= 2;
        test_close("twice the gradient", twice.grad[i], once.grad[i], once.size[i], 1e-6, 1e-5);
    }
    toy_close(&once);
    toy_close(&twice);
}
END_TEST

/* Running at other sizes in between leaves nothing behind. */
START_TEST(rows_in_use) {
    toy small, m;
    ck_ok(toy_open(&small, train));
    ck_ok(toy_open(&m, train));
    toy_inputs(&small, 5);
    toy_step(&small);
    toy_step(&m);
    toy_update(&m, 0);
    toy_inputs(&m, 5);
    ck_assert_int_eq(m.loss->dim[0], 5);
    toy_step(&m);
    ck_assert_mem_eq(m.loss->data, small.loss->data, 5 * 2 * sizeof(float));
    for (int i = 0; i < m.n_params; i++)
        ck_assert_mem_eq(m.grad[i], small.grad[i], (size_t)m.size[i] * sizeof(float));
    toy_close(&small);
    toy_close(&m);
}
END_TEST

START_TEST(inference_has_the_same_bits) {
    toy m, inference;
    ck_ok(toy_open(&m, train));
    ck_ok(toy_open(&inference, (lq_tape_options){0}));
    toy_step(&m);
    ck_ok(lq_tape_forward(inference.tape, 1, 0));
    ck_assert_mem_eq(m.loss->data, inference.loss->data, ROWS * 2 * sizeof(float));
    ck_assert_uint_lt(lq_tape_arena_bytes(inference.tape), lq_tape_arena_bytes(m.tape));
    toy_close(&m);
    toy_close(&inference);
}
END_TEST

/* ---- checkpointing -------------------------------------------------------------------------- */

START_TEST(checkpointing_keeps_every_bit) {
    toy plain, again;
    ck_ok(toy_open(&plain, train));
    ck_ok(toy_open(&again, train_checkpoint));
    for (int64_t rows = ROWS; rows > 0; rows -= 4) {
        toy_inputs(&plain, rows);
        toy_inputs(&again, rows);
        toy_step(&plain);
        toy_step(&again);
        ck_assert_mem_eq(plain.loss->data, again.loss->data, (size_t)rows * 2 * sizeof(float));
    }
    for (int i = 0; i < plain.n_params; i++)
        ck_assert_mem_eq(plain.grad[i], again.grad[i], (size_t)plain.size[i] * sizeof(float));
    ck_assert_uint_lt(lq_tape_arena_bytes(again.tape), lq_tape_arena_bytes(plain.tape));
    toy_close(&plain);
    toy_close(&again);
}
END_TEST

static int count(const char *text, const char *part) {
    int n = 0;
    for (const char *at = text; (at = strstr(at, part)); at++) n++;
    return n;
}

/* A layer's last product is read by nobody when the layer runs again, and so is its sum. */
START_TEST(only_what_is_read_runs_again) {
    toy m;
    char *text = NULL;
    ck_ok(toy_open(&m, train_checkpoint));
    ck_ok(tape_print(m.tape, &text));
    ck_assert_int_eq(count(text, "forward  rmsnorm"), 2 * LAYERS);
    ck_assert_int_eq(count(text, "forward  glu"), 2 * LAYERS);
    ck_assert_int_eq(count(text, "forward  linear"), (3 + 2) * LAYERS);
    ck_assert_int_eq(count(text, "forward  add"), LAYERS);
    ck_assert_int_eq(count(text, "backward add"), LAYERS);
    lq_free(text);
    toy_close(&m);
}
END_TEST

/* ---- lifetimes ------------------------------------------------------------------------------ */

enum { WIDE = 64 };

static float lifetime_data[WIDE * WIDE], lifetime_grad[WIDE * WIDE];

/* y = x + x -> linear with a trained or frozen weight -> softcap. Returns the entry that last reads
 * y, and how many entries there are. */
static int last_read_of_linear_input(bool trained, int *n_entries) {
    const int64_t dim[] = {WIDE, WIDE};
    lq_tape *tape;
    char *text;
    ck_ok(lq_tape_new(&tape, WIDE));
    lq_tensor *const x = lq_tape_param(tape, "x", 2, dim, lifetime_data, lifetime_grad);
    lq_tensor *const w = trained ? lq_tape_param(tape, "w", 2, dim, lifetime_data, lifetime_grad)
                                 : lq_tape_weight(tape, "w", &lq_f32, 2, dim, lifetime_data);
    lq_tensor *const y = lq_add(tape, x, x);
    lq_tape_output(tape, lq_softcap(tape, lq_linear(tape, y, w, NULL), (lq_softcap_attr){1}));
    ck_ok(lq_tape_compile(tape, &train));
    ck_ok(tape_print(tape, &text));
    *n_entries = count(text, "\n") - 1;
    const int last = y->last;
    lq_free(text);
    lq_tape_free(tape);
    return last;
}

START_TEST(a_frozen_linear_lets_its_input_go) {
    int n_entries;
    ck_assert_int_eq(last_read_of_linear_input(false, &n_entries), 1); /* the linear's forward */
    const int last = last_read_of_linear_input(true, &n_entries);
    ck_assert_msg(last > 2 && last < n_entries, "last read at %d of %d", last, n_entries);
}
END_TEST

START_TEST(side_branches_are_not_run_backward) {
    const int64_t dim[] = {4, 4};
    lq_tape *tape;
    char *text;
    ck_ok(lq_tape_new(&tape, 4));
    lq_tensor *const x = lq_tape_param(tape, "x", 2, dim, lifetime_data, lifetime_grad);
    lq_tensor *const side = lq_softcap(tape, x, (lq_softcap_attr){1});
    lq_tape_output(tape, side);
    lq_tape_output(tape, lq_add(tape, x, x));
    ck_ok(lq_tape_compile(tape, &train));
    ck_ok(tape_print(tape, &text));
    ck_assert_int_eq(count(text, "backward"), 1);
    ck_assert_ptr_null(side->grad);
    lq_free(text);
    lq_tape_free(tape);
}
END_TEST

/* ---- errors --------------------------------------------------------------------------------- */

static lq_tape *new_tape(void) {
    lq_tape *tape;
    ck_ok(lq_tape_new(&tape, 4));
    return tape;
}

START_TEST(errors_stick) {
    lq_tape *const tape = new_tape();
    const int64_t dim[] = {4, 6}, other[] = {4, 7};
    lq_tensor *const a = lq_tape_weight(tape, "a", &lq_f32, 2, dim, lifetime_data);
    lq_tensor *const b = lq_tape_weight(tape, "b", &lq_f32, 2, other, lifetime_data);
    lq_tensor *const poison = lq_add(tape, a, b);
    ck_assert_ptr_nonnull(poison);
    ck_assert_ptr_eq(lq_tape_input(tape, "late", &lq_i32, 0), poison);
    ck_assert_ptr_eq(lq_softcap(tape, poison, (lq_softcap_attr){-1}), poison);
    ck_assert_ptr_eq(lq_tape_fail(tape, LQ_EVALUE, "a later error"), poison);
    lq_tape_output(tape, poison);
    ck_fails(lq_tape_compile(tape, &train), LQ_ESHAPE, "add: a is (4,6), b is (4,7)");
    lq_tape_free(tape);
}
END_TEST

START_TEST(wrong_shapes) {
    const int64_t odd[] = {4, 33}, none[] = {4, 0};
    lq_tape *tape = new_tape();
    lq_tape_weight(tape, "blk.0.ffn", &lq_q4_0, 2, odd, NULL);
    ck_fails(lq_tape_compile(tape, &train), LQ_ESHAPE,
             "blk.0.ffn: rows of 33 elements, q4_0 wants");
    lq_tape_free(tape);
    tape = new_tape();
    lq_tape_param(tape, "empty", 2, none, NULL, NULL);
    ck_fails(lq_tape_compile(tape, &train), LQ_ESHAPE, "empty: dimension 1 is 0");
    lq_tape_free(tape);
    ck_fails(lq_tape_new(&tape, 0), LQ_EVALUE, "0 rows");
}
END_TEST

START_TEST(nothing_to_train) {
    const int64_t dim[] = {4, 4};
    lq_tape *tape = new_tape();
    ck_fails(lq_tape_compile(tape, &train), LQ_EVALUE, "output");
    lq_tape_free(tape);
    tape = new_tape();
    lq_tensor *const x = lq_tape_param(tape, "x", 2, dim, lifetime_data, NULL);
    lq_tape_output(tape, lq_add(tape, x, x));
    ck_fails(lq_tape_compile(tape, &train), LQ_EVALUE, "nothing to train");
    lq_tape_free(tape);
}
END_TEST

/* A plan for a model that fits nowhere: no memory is touched. */
START_TEST(huge_plan) {
    const int64_t dim[] = {(int64_t)1 << 30, (int64_t)1 << 20};
    lq_tape *tape;
    ck_ok(lq_tape_new(&tape, (int64_t)1 << 30));
    lq_tensor *const x = lq_tape_param(tape, "x", 2, dim, NULL, lifetime_grad);
    lq_tape_output(tape, lq_add(tape, x, x));
    ck_ok(lq_tape_compile(tape, &train));
    ck_assert_uint_ge(lq_tape_arena_bytes(tape), (size_t)1 << 53);
    lq_tape_free(tape);
}
END_TEST

/* ---- failing memory ------------------------------------------------------------------------- */

static lq_status toy_whole_life(void *ctx) {
    toy m;
    char *text = NULL;
    lq_status status;
    LQ_GOTO(status, toy_open(&m, *(const lq_tape_options *)ctx));
    LQ_GOTO(status, lq_tape_forward(m.tape, 1, 0));
    LQ_GOTO(status, lq_tape_backward(m.tape));
    LQ_GOTO(status, tape_print(m.tape, &text));
done:
    lq_free(text);
    toy_close(&m);
    return status;
}

START_TEST(failing_memory) {
    lq_tape_options options = train_checkpoint;
    test_alloc_failures(toy_whole_life, &options);
}
END_TEST

static bool refuse(void *ctx, size_t bytes) {
    (void)ctx;
    (void)bytes;
    return false;
}

START_TEST(a_step_allocates_nothing) {
    toy m;
    ck_ok(toy_open(&m, train_checkpoint));
    lq_set_alloc_hook(refuse, NULL);
    const lq_status forward = lq_tape_forward(m.tape, 1, 0), backward = lq_tape_backward(m.tape);
    lq_set_alloc_hook(NULL, NULL);
    ck_assert(forward == LQ_OK && backward == LQ_OK);
    toy_close(&m);
}
END_TEST

int main(void) {
    Suite *const suite = suite_create("tape");
    TCase *const tcase = tcase_create("tape");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, toy_trains);
    tcase_add_test(tcase, gradients_add_up);
    tcase_add_test(tcase, rows_in_use);
    tcase_add_test(tcase, inference_has_the_same_bits);
    tcase_add_test(tcase, checkpointing_keeps_every_bit);
    tcase_add_test(tcase, only_what_is_read_runs_again);
    tcase_add_test(tcase, a_frozen_linear_lets_its_input_go);
    tcase_add_test(tcase, side_branches_are_not_run_backward);
    tcase_add_test(tcase, errors_stick);
    tcase_add_test(tcase, wrong_shapes);
    tcase_add_test(tcase, nothing_to_train);
    tcase_add_test(tcase, huge_plan);
    tcase_add_test(tcase, failing_memory);
    tcase_add_test(tcase, a_step_allocates_nothing);
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
