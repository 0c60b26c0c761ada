/* Offsets: nothing alive at the same time overlaps; the arena is as small as it can be where
 * that is known, and not much larger elsewhere. */
#include "plan.h"
#include "random.h"
#include "redzone.h"
#include "test_util.h"

enum { MANY = 5000 };

static bool together(const lq_plan_item *a, const lq_plan_item *b) {
    return a->first <= b->last && b->first <= a->last;
}

/* Checks all offsets; returns the largest sum of bytes alive at once: no plan can be smaller. */
static size_t check_items(const lq_plan_item *item, int64_t n, size_t total, int n_entries) {
    for (int64_t i = 0; i < n; i++) {
        ck_assert_uint_eq(item[i].offset % 64, 0);
        ck_assert_uint_le(item[i].offset + item[i].bytes + lq_redzone_bytes(), total);
        for (int64_t j = 0; j < i; j++) {
            if (!together(&item[i], &item[j])) continue;
            const lq_plan_item *const low = item[i].offset < item[j].offset ? &item[i] : &item[j];
            const lq_plan_item *const high = low == &item[i] ? &item[j] : &item[i];
            ck_assert_msg(low->offset + low->bytes + lq_redzone_bytes() <= high->offset ||
                          (!low->bytes && !high->bytes), "items %d and %d overlap", (int)i, (int)j);
        }
    }
    size_t most = 0;
    for (int entry = 0; entry < n_entries; entry++) {
        size_t sum = 0;
        for (int64_t i = 0; i < n; i++)
            if (item[i].first <= entry && entry <= item[i].last) sum += item[i].bytes;
        if (sum > most) most = sum;
    }
    return most;
}

START_TEST(few_items) {
    static const struct {
        const char *name;
        lq_plan_item item[4];
        int n;
        size_t total;   /* without red zones */
    } rows[] = {
        {"nothing", {{0}}, 0, 0},
        {"one", {{100, 0, 3, 9}}, 1, 128},
        {"empty item", {{0, 0, 3, 9}}, 1, 0},
        {"together", {{64, 0, 2, 9}, {128, 2, 3, 9}}, 2, 192},
        {"one after the other", {{64, 0, 1, 9}, {128, 2, 3, 9}}, 2, 128},
        {"a gap is used", {{256, 0, 9, 9}, {128, 0, 4, 9}, {64, 0, 9, 9}, {128, 5, 9, 9}}, 4, 448},
        {"lowest gap", {{192, 0, 9, 9}, {64, 0, 3, 9}, {64, 2, 5, 9}, {64, 4, 9, 9}}, 4, 320},
    };
    for (int i = 0; i < LQ_ARRAY_LEN(rows); i++) {
        lq_plan_item item[4];
        for (int k = 0; k < 4; k++) item[k] = rows[i].item[k];
        size_t total = 99;
        ck_ok(lq_plan(&total, item, rows[i].n));
        if (!lq_redzone_bytes())
            ck_assert_msg(total == rows[i].total, "%s: %zu bytes, wanted %zu", rows[i].name, total,
                          rows[i].total);
        check_items(item, rows[i].n, total, 10);
    }
}
END_TEST

static void random_items(lq_plan_item *item, int64_t n, uint64_t key, int n_entries) {
    for (int64_t i = 0; i < n; i++) {
        const uint64_t at = 3 * (uint64_t)i;
        item[i].bytes = lq_random_below(key, at, 4000);
        item[i].first = (int)lq_random_below(key, at + 1, (uint64_t)n_entries - 8);
        item[i].last = item[i].first + (int)lq_random_below(key, at + 2, 8);
    }
}

START_TEST(random_lists) {
    lq_plan_item item[150];
    for (uint64_t key = 0; key < 30; key++) {
        random_items(item, LQ_ARRAY_LEN(item), key, 60);
        size_t total;
        ck_ok(lq_plan(&total, item, LQ_ARRAY_LEN(item)));
        const size_t most = check_items(item, LQ_ARRAY_LEN(item), total, 60);
        const size_t waste = LQ_ARRAY_LEN(item) * (64 + lq_redzone_bytes());
        ck_assert_msg(total <= most + most / 3 + waste, "%zu bytes for %zu alive", total, most);
    }
}
END_TEST

START_TEST(same_list_same_plan) {
    lq_plan_item a[150], b[150];
    random_items(a, LQ_ARRAY_LEN(a), 3, 60);
    random_items(b, LQ_ARRAY_LEN(b), 3, 60);
    size_t total_a, total_b;
    ck_ok(lq_plan(&total_a, a, LQ_ARRAY_LEN(a)));
    ck_ok(lq_plan(&total_b, b, LQ_ARRAY_LEN(b)));
    ck_assert_uint_eq(total_a, total_b);
    for (int i = 0; i < LQ_ARRAY_LEN(a); i++) ck_assert_uint_eq(a[i].offset, b[i].offset);
}
END_TEST

START_TEST(many_items) {
    lq_plan_item *const item = lq_alloc_array(MANY, sizeof *item);
    ck_assert_ptr_nonnull(item);
    random_items(item, MANY, 1, 3000);
    size_t total;
    ck_ok(lq_plan(&total, item, MANY));
    check_items(item, MANY, total, 0);
    lq_free(item);
}
END_TEST

START_TEST(sums_are_checked) {
    lq_plan_item item[] = {{SIZE_MAX / 3, 0, 1, 0}, {SIZE_MAX / 3, 0, 1, 0}};
    size_t total;
    ck_fails(lq_plan(&total, item, 2), LQ_EMEM, "overflow");
    item[0].bytes = SIZE_MAX;
    ck_fails(lq_plan(&total, item, 1), LQ_EMEM, "overflow");
}
END_TEST

static lq_status plan_some(void *ctx) {
    (void)ctx;
    lq_plan_item item[20];
    random_items(item, LQ_ARRAY_LEN(item), 8, 60);
    size_t total;
    return lq_plan(&total, item, LQ_ARRAY_LEN(item));
}

START_TEST(failing_memory) { test_alloc_failures(plan_some, NULL); }
END_TEST

int main(void) {
    Suite *const suite = suite_create("plan");
    TCase *const tcase = tcase_create("plan");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, few_items);
    tcase_add_test(tcase, random_lists);
    tcase_add_test(tcase, same_list_same_plan);
    tcase_add_test(tcase, many_items);
    tcase_add_test(tcase, sums_are_checked);
    tcase_add_test(tcase, failing_memory);
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
