/* adapter_device.c: what an adapter has on a device is what it has on the host, before and after
 * rebuilds there. The fixture's numbers are exact, so bytes must be the same. */
#include "adapter_fixture.h"
#include "test_device.h"
#include "test_util.h"

#include <math.h>
#include <string.h>

static lq_dev *dev;
static lq_model *model;

static void setup(void) {
    ck_ok(lq_dev_open(&dev, "cuda", false));
    model = fixture_model(FIXTURE_UNTIED);
}

static void teardown(void) {
    lq_model_close(model);
    lq_dev_close(dev);
}

static const struct {
    lq_qat_mode mode;
    const lq_format *fmt;
    bool dora, clipped, pissa;
} cases[] = {
    {LQ_QAT_NONE, NULL, false, false, false},       {LQ_QAT_NONE, NULL, true, false, false},
    {LQ_QAT_MERGED, &lq_q4_0, false, false, false}, {LQ_QAT_MERGED, &lq_q4_0, false, true, false},
    {LQ_QAT_MERGED, &lq_q5_1, true, false, false},  {LQ_QAT_SEPARATE, &lq_q8_0, false, false, false},
    {LQ_QAT_NONE, NULL, false, false, true},        {LQ_QAT_MERGED, &lq_q4_0, false, true, true},
    {LQ_QAT_SEPARATE, &lq_q8_0, false, false, true},
};

static lq_adapter_options options_of(int i) {
    lq_adapter_options o = fixture_options(cases[i].mode, cases[i].fmt);
    o.use_dora = cases[i].dora;
    o.clipped = cases[i].clipped;
    if (cases[i].pissa) o.init = "pissa";
    return o;
}

/* What was taken from W, too, in exact numbers. */
static void fill_taken(lq_adapter *a) {
    if (!a->taken) return;
    float *const taken = lq_alloc_array(a->n_params, sizeof *taken);
    test_fill(taken, a->n_params, 98);
    for (int64_t i = 0; i < a->n_params; i++) taken[i] = rintf(taken[i] * 64) / 64;
    ck_ok(lq_adapter_take(a, taken));
    lq_free(taken);
}

static void same(const char *what, const void *got, const void *want, size_t bytes) {
    ck_assert_msg(!want == !got && (!want || memcmp(got, want, bytes) == 0), "%s differ", what);
}

static void same_adapters(const lq_adapter *got, const lq_adapter *want) {
    same("spans", got->param, want->param, (size_t)want->n_params * sizeof(float));
    same("effective weights", got->packed, want->packed, want->packed_bytes);
    same("lengths", got->norm, want->norm, (size_t)want->n_norms * sizeof(float));
}

static void check_pointer(const void *on_device, const void *host) {
    ck_assert(!on_device == !host);
    if (host) ck_assert(dev->row->owns(dev, on_device));
}

START_TEST(rebuilt_as_on_the_host) {
    const lq_adapter_options o = options_of(_i);
    lq_adapter *want = fixture_filled(model, o), *a;
    fill_taken(want);
    ck_ok(lq_adapter_rebuild(want));
    ck_ok(lq_adapter_new(&a, model, &o, false));
    ck_ok(lq_adapter_train(a));
    ck_ok(lq_adapter_on(a, dev));
    const lq_patch *const there = lq_adapter_patch(a);
    for (int i = 0; i < model->n_weights; i++) {
        check_pointer(there[i].a, a->patch[i].a);
        check_pointer(there[i].db, a->patch[i].db);
        check_pointer(there[i].data, a->patch[i].data);
        check_pointer(there[i].norm, a->patch[i].norm);
        check_pointer(there[i].clipped, a->patch[i].clipped);
        check_pointer(there[i].a0, a->patch[i].a0);
    }
    fixture_fill(a);
    fill_taken(a);
    lq_adapter_send(a);
    memset(a->param, 0, (size_t)a->n_params * sizeof *a->param);
    if (a->packed) memset(a->packed, 0, a->packed_bytes);
    lq_adapter_watch(a, true);
    ck_ok(lq_adapter_rebuild(a));
    ck_ok(lq_adapter_settle(a));
    ck_ok(lq_adapter_fetch(a));
    same_adapters(a, want);
    lq_adapter_free(a);
    lq_adapter_free(want);
}
END_TEST

START_TEST(not_a_number) {
    const lq_adapter_options o = fixture_options(LQ_QAT_MERGED, &lq_q4_0);
    lq_adapter *a;
    ck_ok(lq_adapter_new(&a, model, &o, false));
    ck_ok(lq_adapter_train(a));
    ck_ok(lq_adapter_on(a, dev));
    a->param[0] = NAN;
    lq_adapter_send(a);
    ck_ok(lq_adapter_rebuild(a));
    ck_fails(lq_adapter_settle(a), LQ_ENONFINITE, "the effective weight has a NaN");
    ck_fails(lq_adapter_fetch(a), LQ_ENONFINITE, "the effective weight has a NaN");
    lq_adapter_free(a);
}
END_TEST

START_TEST(the_cpu_needs_nothing) {
    const lq_adapter_options o = fixture_options(LQ_QAT_MERGED, &lq_q4_0);
    lq_adapter *a = fixture_filled(model, o);
    ck_ok(lq_adapter_on(a, lq_dev_cpu()));
    ck_assert_ptr_eq(lq_adapter_param(a), a->param);
    ck_assert_ptr_eq(lq_adapter_patch(a), a->patch);
    ck_ok(lq_adapter_fetch(a));
    lq_adapter_send(a);
    lq_adapter_free(a);
}
END_TEST

int main(void) {
    if (!test_has_device()) return 77;
    Suite *suite = suite_create("adapter_device");
    TCase *tc = tcase_create("adapter_device");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, rebuilt_as_on_the_host, 0, LQ_ARRAY_LEN(cases));
    tcase_add_test(tc, not_a_number);
    tcase_add_test(tc, the_cpu_needs_nothing);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
