/* base.*, str.*, random.*: messages, strings, allocation failures, reproducible random numbers. */
#include "random.h"
#include "str.h"
#include "test_util.h"

#include <string.h>

START_TEST(message_keeps_context) {
    ck_assert_int_eq(lq_fail(LQ_ESHAPE, "found %d, wanted %d", 3, 4), LQ_ESHAPE);
    ck_assert_int_eq(lq_fail_context(LQ_ESHAPE, "file.gguf: "), LQ_ESHAPE);
    ck_assert_str_eq(lq_error(), "file.gguf: found 3, wanted 4");
    lq_fail(LQ_EIO, "again: %s", lq_error()); /* an argument that points into the message */
    ck_assert_str_eq(lq_error(), "again: file.gguf: found 3, wanted 4");
    lq_error_clear();
    ck_assert_str_eq(lq_error(), "");
}
END_TEST

START_TEST(string_grows) {
    lq_str s = LQ_STR_INIT;
    ck_assert_str_eq(lq_str_text(&s), "");
    for (int i = 0; i < 1000; i++) lq_str_printf(&s, "%d,", i % 10);
    ck_ok(lq_str_status(&s));
    ck_assert_uint_eq(s.n, 2000);
    char *text = lq_str_take(&s);
    ck_assert_str_eq(text + 1990, "5,6,7,8,9,");
    lq_free(text);
    lq_str_clear(&s);
}
END_TEST

static lq_status build_string(void *ctx) {
    (void)ctx;
    lq_str s = LQ_STR_INIT;
    for (int i = 0; i < 500; i++) lq_str_puts(&s, "hello ");
    const lq_status status = lq_str_status(&s);
    lq_str_clear(&s);
    return status;
}

START_TEST(string_survives_failed_allocations) { test_alloc_failures(build_string, NULL); }
END_TEST

START_TEST(sizes_are_checked) {
    size_t n;
    ck_fails(lq_mul_size(&n, SIZE_MAX, 2), LQ_EMEM, "overflow");
    ck_assert_ptr_null(lq_alloc_array(INT64_MAX, 64));
    ck_assert_ptr_null(lq_alloc_array(-1, 1));
}
END_TEST

START_TEST(random_is_keyed_and_uniform) {
    double sum = 0, normal_sum = 0, normal_square = 0;
    enum { N = 100000 };
    for (int i = 0; i < N; i++) {
        const float u = lq_random_uniform(7, (uint64_t)i);
        ck_assert(u >= 0 && u < 1);
        sum += u;
        const double z = lq_random_normal(7, (uint64_t)i);
        normal_sum += z;
        normal_square += z * z;
    }
    ck_assert_double_eq_tol(sum / N, 0.5, 0.005);
    ck_assert_double_eq_tol(normal_sum / N, 0, 0.02);
    ck_assert_double_eq_tol(normal_square / N, 1, 0.02);
    ck_assert(lq_random_u64(1, 2) == lq_random_u64(1, 2));
    ck_assert(lq_random_u64(1, 2) != lq_random_u64(2, 1));
    for (uint64_t i = 0; i < 1000; i++) ck_assert(lq_random_below(3, i, 10) < 10);
}
END_TEST

START_TEST(edit_distance) {
    ck_assert_int_eq(lq_edit_distance("lora_r", "lora_r"), 0);
    ck_assert_int_eq(lq_edit_distance("learing_rate", "learning_rate"), 1);
    ck_assert_int_eq(lq_edit_distance("", "abc"), 3);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("base");
    TCase *tc = tcase_create("base");
    tcase_add_test(tc, message_keeps_context);
    tcase_add_test(tc, string_grows);
    tcase_add_test(tc, string_survives_failed_allocations);
    tcase_add_test(tc, sizes_are_checked);
    tcase_add_test(tc, random_is_keyed_and_uniform);
    tcase_add_test(tc, edit_distance);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
