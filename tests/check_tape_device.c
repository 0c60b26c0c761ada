/* The tape on a device that keeps activations in BF16: which parameters get a copy in it, and that
 * what is queued happens when its turn comes. Emulated. */
#include "ops.h"
#include "tape_parts.h"
#include "test_util.h"

enum { ROWS = 3, D = 8, O = 4 };

static lq_dev *dev;

static void setup(void) { ck_ok(lq_dev_open(&dev, "cuda", true)); }
static void teardown(void) { lq_dev_close(dev); }

START_TEST(gradients_have_no_copy) {
    float *p = NULL;
    lq_tape *tape = NULL;
    const int64_t table_dim[] = {ROWS, D}, w_dim[] = {O, D};
    ck_ok(dev->row->alloc(dev, (void **)&p, 2 * (ROWS + O) * D * sizeof *p));
    ck_ok(lq_tape_new(&tape, ROWS));
    lq_tape_on(tape, dev);
    float *const w = p + ROWS * D, *const table_grad = w + O * D;
    lq_tensor *const ids = lq_tape_input(tape, "ids", &lq_i32, 0);
    lq_tensor *const table = lq_tape_param(tape, "table", 2, table_dim, p, table_grad);
    lq_tensor *const x = lq_embed(tape, ids, table, NULL, (lq_embed_attr){.scale = 1});
    lq_linear(tape, x, lq_tape_param(tape, "w", 2, w_dim, w, table_grad + ROWS * D), NULL);
    ck_ok(lq_tape_compile(tape, &(lq_tape_options){0}));
    ck_assert_uint_eq(lq_tape_narrow_bytes(tape), (ROWS + O) * D * sizeof(uint16_t));
    lq_tape_free(tape);
    dev->row->free(dev, p);
}
END_TEST

START_TEST(work_waits_for_its_turn) {
    float *pinned = NULL, *on_device = NULL, seen = 0;
    void *mark = NULL;
    ck_ok(dev->row->alloc(dev, (void **)&on_device, sizeof *on_device));
    ck_ok(dev->row->alloc_pinned(dev, (void **)&pinned, 2 * sizeof *pinned));
    pinned[0] = pinned[1] = 0;
    dev->row->fill_f32(dev, on_device, 5, 1);
    dev->row->copy(dev, pinned, on_device, sizeof *pinned);
    dev->row->mark(dev, &mark);
    dev->row->fill_f32(dev, on_device, 7, 1);
    dev->row->copy(dev, pinned + 1, on_device, sizeof *pinned);
    ck_assert(pinned[0] == 0);
    ck_ok(dev->row->reach(dev, mark));
    ck_assert(pinned[0] == 5 && pinned[1] == 0);
    dev->row->copy(dev, &seen, on_device, sizeof seen); /* not pinned: done at once */
    ck_assert(seen == 7 && pinned[1] == 7);
    dev->row->unmark(dev, mark);
    dev->row->free_pinned(dev, pinned);
    dev->row->free(dev, on_device);
}
END_TEST

int main(void) {
    Suite *const suite = suite_create("tape_device");
    TCase *const tcase = tcase_create("tape_device");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, gradients_have_no_copy);
    tcase_add_test(tcase, work_waits_for_its_turn);
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
