/* split.c: groups and duplicates stay on one side, sizes are about right, the same seed splits the
 * same way. */
#include "dataset_util.h"
#include "test_util.h"

#include <math.h>
#include <string.h>

/* Whether some example of a and some example of b share the key at `offset`. */
static bool share(const lq_dataset *a, const lq_dataset *b, size_t offset) {
    for (int64_t i = 0; i < a->n; i++)
        for (int64_t j = 0; j < b->n; j++)
            if (memcmp((const char *)&a->example[i] + offset, (const char *)&b->example[j] + offset,
                       8) == 0)
                return true;
    return false;
}

/* Every example still has its tokens: token t of the record at line l is (l - 1) * 1000 + t. */
static void check_tokens(const lq_dataset *d) {
    int64_t tokens = 0, trained = 0;
    for (int64_t i = 0; i < d->n; i++) {
        const lq_example *e = &d->example[i];
        for (int32_t t = 0; t < e->n; t++) {
            ck_assert_int_eq(d->ids[e->first + t], (e->line - 1) * 1000 + t);
            ck_assert_int_eq(d->mask[e->first + t], t >= e->n / 2);
        }
        tokens += e->n;
        trained += e->n_trained;
    }
    ck_assert_int_eq(d->counts.examples, d->n);
    ck_assert_int_eq(d->counts.tokens, tokens);
    ck_assert_int_eq(d->counts.trained_tokens, trained);
}

static const struct {
    const char *what;
    int64_t n, group_size;    /* examples, how many in a row share a group */
    int64_t twin_every;       /* 0, or: example i has the content of example i - twin_every */
    double val_set_size;
    int64_t least, most;      /* of the validation side */
} cases[] = {
    {"a share", 300, 1, 0, 0.1, 30, 30},
    {"a number", 300, 1, 0, 25, 25, 25},
    {"half a record is one", 4, 1, 0, 0.1, 1, 1},
    {"two examples", 2, 1, 0, 0.5, 1, 1},
    {"nearly all leaves one", 10, 1, 0, 0.99, 9, 9},
    {"one fewer than all", 10, 1, 0, 9, 9, 9},
    {"groups", 300, 7, 0, 0.1, 28, 30},
    {"groups larger than the share", 300, 60, 0, 0.1, 60, 60},
    {"two groups", 20, 10, 0, 0.1, 10, 10},
    {"duplicates", 300, 1, 150, 0.1, 30, 30},
    {"groups tied by duplicates", 300, 10, 100, 0.1, 30, 30},
};

static lq_dataset make(int c) {
    lq_dataset d = test_dataset(cases[c].n, 12, 5);
    for (int64_t i = 0; i < d.n; i++) {
        d.example[i].group = (uint64_t)(i / cases[c].group_size);
        if (cases[c].twin_every && i >= cases[c].twin_every)
            d.example[i].hash = d.example[i - cases[c].twin_every].hash;
    }
    return d;
}

START_TEST(sizes_and_ties) {
    for (int c = 0; c < LQ_ARRAY_LEN(cases); c++) {
        lq_dataset d = make(c), val;
        const lq_data_options options = {.val_set_size = cases[c].val_set_size, .seed = 3};
        ck_ok(lq_dataset_split(&d, &val, &options));
        ck_assert_msg(val.n >= cases[c].least && val.n <= cases[c].most, "%s: %lld", cases[c].what,
                      (long long)val.n);
        ck_assert_int_eq(d.n + val.n, cases[c].n);
        ck_assert_msg(!share(&d, &val, offsetof(lq_example, group)), "%s: a group is on both sides",
                      cases[c].what);
        ck_assert_msg(!share(&d, &val, offsetof(lq_example, hash)), "%s: content is on both sides",
                      cases[c].what);
        ck_assert_int_eq(lq_dataset_overlap(&d, &val), 0);
        check_tokens(&d);
        check_tokens(&val);
        lq_dataset_clear(&d);
        lq_dataset_clear(&val);
    }
}
END_TEST

static void lines_of_val(int64_t line[30], uint64_t seed) {
    lq_dataset d = test_dataset(300, 12, 5), val;
    const lq_data_options options = {.val_set_size = 30, .seed = seed};
    ck_ok(lq_dataset_split(&d, &val, &options));
    for (int i = 0; i < 30; i++) line[i] = val.example[i].line;
    lq_dataset_clear(&d);
    lq_dataset_clear(&val);
}

START_TEST(seeded) {
    int64_t a[30], b[30], c[30];
    lines_of_val(a, 1);
    lines_of_val(b, 1);
    lines_of_val(c, 2);
    ck_assert_mem_eq(a, b, sizeof a);
    ck_assert_int_ne(memcmp(a, c, sizeof a), 0);
    for (int i = 1; i < 30; i++)
        ck_assert_int_lt(a[i - 1], a[i]); /* the order of the file is kept */
}
END_TEST

START_TEST(nothing_wanted_or_possible) {
    lq_dataset d = test_dataset(10, 5, 1), val;
    lq_data_options options = {.val_set_size = 0};
    ck_ok(lq_dataset_split(&d, &val, &options));
    ck_assert_int_eq(d.n, 10);
    ck_assert_int_eq(val.n, 0);
    for (int i = 0; i < 10; i++) d.example[i].group = 7;
    options.val_set_size = 0.2;
    ck_ok(lq_dataset_split(&d, &val, &options)); /* one group: it stays together, in training */
    ck_assert_int_eq(d.n, 10);
    ck_assert_int_eq(val.n, 0);
    options.val_set_size = 10;
    ck_fails(lq_dataset_split(&d, &val, &options), LQ_ECONFIG,
             "val_set_size: found 10, but there are only 10 examples");
    options.val_set_size = -1;
    ck_fails(lq_dataset_split(&d, &val, &options), LQ_ECONFIG, "val_set_size: found -1");
    options.val_set_size = NAN;
    ck_fails(lq_dataset_split(&d, &val, &options), LQ_ECONFIG, "val_set_size");
    ck_assert_int_eq(d.n, 10);
    lq_dataset_clear(&d);
}
END_TEST

/* A repeated example (weight 2) shares its tokens before the split and after it. */
START_TEST(repeats_keep_sharing) {
    lq_dataset d = test_dataset(40, 6, 1), val;
    const int64_t tokens = d.n_tokens;
    const lq_data_options options = {.val_set_size = 0.25, .seed = 1};
    d.example = lq_resize(d.example, 80, sizeof *d.example);
    memcpy(d.example + 40, d.example, 40 * sizeof *d.example);
    d.n = 80;
    ck_ok(lq_dataset_split(&d, &val, &options));
    ck_assert_int_eq(val.n, 20);
    ck_assert_int_eq(d.n, 60);
    ck_assert_int_eq(d.n_tokens + val.n_tokens, tokens);
    check_tokens(&d);
    check_tokens(&val);
    lq_dataset_clear(&d);
    lq_dataset_clear(&val);
}
END_TEST

START_TEST(overlap_counts_leaks) {
    lq_dataset a = test_dataset(20, 5, 1), b = test_dataset(10, 5, 1);
    ck_assert_int_eq(lq_dataset_overlap(&a, &b), 10);
    ck_assert_int_eq(lq_dataset_overlap(&b, &a), 10);
    for (int i = 0; i < 10; i++) b.example[i].hash += 1;
    ck_assert_int_eq(lq_dataset_overlap(&a, &b), 0);
    lq_dataset_clear(&a);
    lq_dataset_clear(&b);
}
END_TEST

static lq_status split_copy(void *ctx) {
    const lq_data_options options = {.val_set_size = 0.2, .seed = 1};
    lq_dataset *d = ctx, val;
    const int64_t n = d->n;
    const lq_status status = lq_dataset_split(d, &val, &options);
    if (status != LQ_OK) ck_assert_int_eq(d->n, n); /* a failed split changes nothing */
    lq_dataset_clear(&val);
    return status;
}

START_TEST(allocation_failures) {
    lq_dataset d = test_dataset(20, 5, 1);
    test_alloc_failures(split_copy, &d);
    ck_assert_int_eq(d.n, 16);
    lq_dataset_clear(&d);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("split");
    TCase *tc = tcase_create("split");
    suite_add_tcase(suite, tc);
    tcase_add_test(tc, sizes_and_ties);
    tcase_add_test(tc, seeded);
    tcase_add_test(tc, nothing_wanted_or_possible);
    tcase_add_test(tc, repeats_keep_sharing);
    tcase_add_test(tc, overlap_counts_leaks);
    tcase_add_test(tc, allocation_failures);
    return test_run(suite);
}
