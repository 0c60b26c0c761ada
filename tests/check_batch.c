/* batch.c and loader.c: rows of a batch; every example once per epoch; a position is enough to go
 * on. */
#include "batch.h"

#include "dataset_util.h"
#include "test_util.h"

#include <string.h>

START_TEST(rows_of_a_batch) {
    int32_t ids[] = {10, 11, 12, 20, 21};
    uint8_t mask[] = {1, 0, 1, 0, 1};
    lq_example example[] = {{.first = 0, .n = 3}, {.first = 3, .n = 2}};
    const lq_dataset d = {.example = example, .n = 2, .ids = ids, .mask = mask, .n_tokens = 5};
    static const int32_t want_ids[] = {20, 21, 10, 11, 12}, want_labels[] = {21, -1, -1, 12, -1};
    static const int32_t want_pos[] = {0, 1, 0, 1, 2}, want_starts[] = {0, 0, 2, 2, 2};
    const int64_t order[] = {1, 0};
    lq_batch b;
    ck_ok(lq_batch_init(&b, 5));
    lq_batch_fill(&b, &d, order, 2);
    lq_batch_fill(&b, &d, order, 2); /* replaces, does not append */
    ck_assert_int_eq(b.n_tokens, 5);
    ck_assert_int_eq(b.n_labels, 2);
    ck_assert_int_eq(b.n_examples, 2);
    ck_assert_mem_eq(b.ids, want_ids, sizeof want_ids);
    ck_assert_mem_eq(b.labels, want_labels, sizeof want_labels);
    ck_assert_mem_eq(b.pos, want_pos, sizeof want_pos);
    ck_assert_mem_eq(b.starts, want_starts, sizeof want_starts);
    lq_batch_clear(&b);
}
END_TEST

static const struct {
    int64_t n, max_len;
    lq_loader_options options;
} cases[] = {
    {1, 5, {1, 8, false, LQ_ORDER_SHUFFLE, 1}},
    {1, 5, {4, 8, true, LQ_ORDER_BUCKETED, 1}},
    {37, 9, {1, 16, false, LQ_ORDER_SHUFFLE, 1}},
    {37, 9, {4, 16, false, LQ_ORDER_SHUFFLE, 1}},
    {37, 9, {4, 16, false, LQ_ORDER_SEQUENTIAL, 1}},
    {337, 30, {4, 64, false, LQ_ORDER_BUCKETED, 1}},
    {336, 30, {4, 64, false, LQ_ORDER_BUCKETED, 1}},
    {337, 64, {1, 64, true, LQ_ORDER_SHUFFLE, 1}},
    {337, 64, {3, 64, true, LQ_ORDER_SHUFFLE, 1}},
    {337, 64, {3, 64, true, LQ_ORDER_SEQUENTIAL, 1}},
    {337, 64, {3, 64, true, LQ_ORDER_BUCKETED, 1}},
    {5, 9, {100, 16, false, LQ_ORDER_SHUFFLE, 1}},
};

enum { EPOCHS = 3, MAX_EXAMPLES = 400 };

typedef struct run { lq_dataset d; lq_loader *l; lq_batch b; } run;

static void open_run(run *r, int c) {
    *r = (run){.d = test_dataset(cases[c].n, cases[c].max_len, 9)};
    ck_ok(lq_loader_new(&r->l, &r->d, &cases[c].options)); /* keeps the address of the data */
    ck_ok(lq_batch_init(&r->b, lq_loader_max_tokens(r->l)));
}

static void close_run(run *r) {
    lq_loader_free(r->l);
    lq_batch_clear(&r->b);
    lq_dataset_clear(&r->d);
}

/* Counts the examples of a batch by their first token, i * 1000. */
static void count_batch(const lq_batch *b, int *seen) {
    for (int64_t t = 0; t < b->n_tokens; t++)
        if (b->starts[t] == t) seen[b->ids[t] / 1000]++;
}

START_TEST(every_example_once_per_epoch) {
    for (int c = 0; c < LQ_ARRAY_LEN(cases); c++) {
        run r;
        open_run(&r, c);
        const int64_t per_epoch = lq_loader_batches_per_epoch(r.l);
        for (int epoch = 0; epoch < EPOCHS; epoch++) {
            int seen[MAX_EXAMPLES] = {0};
            int64_t labels = 0;
            for (int64_t i = 0; i < per_epoch; i++) {
                ck_ok(lq_loader_next(r.l, &r.b));
                ck_assert_int_gt(r.b.n_examples, 0);
                count_batch(&r.b, seen);
                labels += r.b.n_labels;
            }
            for (int64_t i = 0; i < r.d.n; i++)
                ck_assert_msg(seen[i] == 1, "case %d: example %d: %d", c, (int)i, seen[i]);
            ck_assert_int_eq(labels, r.d.counts.trained_tokens);
            ck_assert_int_eq(lq_loader_position(r.l), (epoch + 1) * per_epoch);
        }
        close_run(&r);
    }
}
END_TEST

static void check_same(const lq_batch *a, const lq_batch *b) {
    ck_assert_int_eq(a->n_tokens, b->n_tokens);
    ck_assert_mem_eq(a->ids, b->ids, (size_t)a->n_tokens * sizeof *a->ids);
    ck_assert_mem_eq(a->labels, b->labels, (size_t)a->n_tokens * sizeof *a->labels);
    ck_assert_mem_eq(a->starts, b->starts, (size_t)a->n_tokens * sizeof *a->starts);
}

START_TEST(a_position_is_enough) {
    for (int c = 0; c < LQ_ARRAY_LEN(cases); c++) {
        run a, b;
        open_run(&a, c);
        open_run(&b, c);
        const int64_t n = EPOCHS * lq_loader_batches_per_epoch(a.l);
        for (int64_t p = 0; p < n; p++) {
            ck_ok(lq_loader_next(a.l, &a.b));
            lq_loader_seek(b.l, n - 1);
            ck_ok(lq_loader_next(b.l, &b.b)); /* somewhere else first */
            lq_loader_seek(b.l, p);
            ck_ok(lq_loader_next(b.l, &b.b));
            check_same(&a.b, &b.b);
        }
        close_run(&a);
        close_run(&b);
    }
}
END_TEST

static bool refuse(void *ctx, size_t bytes) {
    (void)bytes;
    ++*(int *)ctx;
    return false;
}

START_TEST(next_allocates_nothing) {
    for (int c = 0; c < LQ_ARRAY_LEN(cases); c++) {
        int calls = 0;
        run r;
        open_run(&r, c);
        lq_set_alloc_hook(refuse, &calls);
        for (int64_t i = 0; i < EPOCHS * lq_loader_batches_per_epoch(r.l); i++)
            ck_ok(lq_loader_next(r.l, &r.b));
        lq_set_alloc_hook(NULL, NULL);
        ck_assert_int_eq(calls, 0);
        close_run(&r);
    }
}
END_TEST

/* First tokens of the first `n` examples served. */
static void first_served(int c, int64_t position, int32_t *first, int64_t n) {
    run r;
    open_run(&r, c);
    lq_loader_seek(r.l, position);
    for (int64_t i = 0; i < n; i++) {
        ck_ok(lq_loader_next(r.l, &r.b));
        first[i] = r.b.ids[0];
    }
    close_run(&r);
}

START_TEST(orders) {
    enum { SHUFFLED = 2, SEQUENTIAL = 4, N = 9 };
    int32_t a[N], b[N];
    first_served(SHUFFLED, 0, a, N);
    first_served(SHUFFLED, 37, b, N);
    ck_assert_int_ne(memcmp(a, b, sizeof a), 0); /* another order every epoch */
    first_served(SEQUENTIAL, 0, a, N);
    for (int i = 0; i < N; i++) ck_assert_int_eq(a[i], i * 4 * 1000);
}
END_TEST

/* Near-equal lengths: over an epoch, tokens per batch times batch size is little more than the
 * tokens. */
START_TEST(buckets_hold_like_lengths) {
    int64_t padded = 0, tokens = 0;
    run r;
    open_run(&r, 6);
    for (int64_t i = 0; i < lq_loader_batches_per_epoch(r.l); i++) {
        int64_t longest = 0;
        ck_ok(lq_loader_next(r.l, &r.b));
        for (int64_t t = 0; t < r.b.n_tokens; t++)
            if (r.b.pos[t] + 1 > longest) longest = r.b.pos[t] + 1;
        padded += longest * r.b.n_examples;
        tokens += r.b.n_tokens;
    }
    ck_assert_msg((double)padded < 1.3 * (double)tokens, "%lld of %lld", (long long)tokens,
                  (long long)padded);
    close_run(&r);
}
END_TEST

/* No bin holds more than sequence_len, and few more bins are used than the tokens need. */
START_TEST(packing_fills_bins) {
    run r;
    open_run(&r, 7);
    const int64_t bins = lq_loader_batches_per_epoch(r.l), least = (r.d.n_tokens + 63) / 64;
    ck_assert_int_ge(bins, least);
    ck_assert_msg(bins <= least + least / 10 + 1, "%lld bins, %lld would hold the tokens",
                  (long long)bins, (long long)least);
    ck_assert_int_le(lq_loader_max_tokens(r.l), 64);
    for (int64_t i = 0; i < bins; i++) {
        ck_ok(lq_loader_next(r.l, &r.b));
        ck_assert_int_le(r.b.n_tokens, 64);
    }
    close_run(&r);
}
END_TEST

START_TEST(refuses) {
    lq_dataset d = test_dataset(20, 30, 1);
    const lq_dataset empty = {0};
    lq_loader *l = NULL;
    const lq_loader_options short_bins = {
        .micro_batch_size = 1, .sequence_len = 10, .packing = true};
    const lq_loader_options no_batch = {.micro_batch_size = 0, .sequence_len = 10};
    ck_fails(lq_loader_new(&l, &empty, &short_bins), LQ_EVALUE, "no examples");
    ck_fails(lq_loader_new(&l, &d, &no_batch), LQ_EVALUE, "micro_batch_size: found 0");
    ck_fails(lq_loader_new(&l, &d, &short_bins), LQ_EVALUE, "more than the 10");
    lq_loader_free(NULL);
    lq_dataset_clear(&d);
}
END_TEST

static lq_status open_all(void *ctx) {
    lq_batch b = {0};
    lq_loader *l = NULL;
    const lq_loader_options options = {2, 64, true, LQ_ORDER_BUCKETED, 1};
    LQ_TRY(lq_loader_new(&l, ctx, &options));
    const lq_status status = lq_batch_init(&b, lq_loader_max_tokens(l));
    lq_batch_clear(&b);
    lq_loader_free(l);
    return status;
}

START_TEST(allocation_failures) {
    lq_dataset d = test_dataset(20, 30, 1);
    test_alloc_failures(open_all, &d);
    lq_dataset_clear(&d);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("batch");
    TCase *tc = tcase_create("batch");
    suite_add_tcase(suite, tc);
    tcase_add_test(tc, rows_of_a_batch);
    tcase_add_test(tc, every_example_once_per_epoch);
    tcase_add_test(tc, a_position_is_enough);
    tcase_add_test(tc, next_allocates_nothing);
    tcase_add_test(tc, orders);
    tcase_add_test(tc, buckets_hold_like_lengths);
    tcase_add_test(tc, packing_fills_bins);
    tcase_add_test(tc, refuses);
    tcase_add_test(tc, allocation_failures);
    return test_run(suite);
}
