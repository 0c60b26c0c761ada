/* llama-perplexity's logits file: what is written reads back within half a code; broken files
 * are refused. */
#include "logits_file.h"
#include "test_util.h"

#include <math.h>

enum { CTX = 6, VOCAB = 7, CHUNKS = 2, ROWS = CHUNKS * (CTX - 1 - CTX / 2) };

static void write_file(const char *path, float logits[ROWS][VOCAB]) {
    const int32_t tokens[CTX * CHUNKS] = {1, 2, 3, 4, 5, 6, 0, 1};
    lq_logits_writer w;
    ck_ok(lq_logits_create(&w, path, CTX, VOCAB, CHUNKS, tokens));
    for (int i = 0; i < ROWS; i++) ck_ok(lq_logits_write(&w, logits[i]));
    ck_ok(lq_logits_commit(&w));
}

START_TEST(round_trip) {
    float logits[ROWS][VOCAB], log_p[VOCAB];
    test_fill(&logits[0][0], ROWS * VOCAB, 5);
    for (int i = 0; i < VOCAB; i++) logits[1][i] *= 40; /* clipped 16 below the top */
    for (int i = 0; i < VOCAB; i++) logits[2][i] = 1.5f; /* no spread at all */
    const char *path = test_path("logits.kld");
    write_file(path, logits);
    lq_logits_reader r;
    ck_ok(lq_logits_open(&r, path));
    ck_assert_int_eq(r.n_ctx, CTX);
    ck_assert_int_eq(r.n_vocab, VOCAB);
    ck_assert_int_eq(r.n_chunk, CHUNKS);
    ck_assert_int_eq(r.tokens[5], 6);
    for (int row = 0; row < ROWS; row++) {
        double max = -INFINITY, sum = 0;
        ck_ok(lq_logits_read(&r, log_p));
        for (int i = 0; i < VOCAB; i++) max = fmax(max, (double)logits[row][i]);
        for (int i = 0; i < VOCAB; i++) sum += exp((double)logits[row][i] - max);
        for (int i = 0; i < VOCAB; i++) {
            const double want = fmax((double)logits[row][i], max - 16) - max - log(sum);
            ck_assert_double_eq_tol((double)log_p[i], want, 16.0 / 65535 / 2 + 1e-5);
        }
    }
    lq_logits_close(&r);
}
END_TEST

/* Every length short of the whole is refused at once. */
START_TEST(cut_file) {
    float logits[ROWS][VOCAB];
    char *whole;
    size_t n;
    lq_logits_reader r;
    test_fill(&logits[0][0], ROWS * VOCAB, 6);
    const char *path = test_path("whole.kld"), *cut = test_path("cut.kld");
    write_file(path, logits);
    ck_ok(lq_read_file(&whole, &n, path));
    for (size_t i = 0; i < n; i++) {
        ck_ok(lq_write_file(cut, whole, i));
        ck_fails(lq_logits_open(&r, cut), LQ_EFORMAT, "too early");
    }
    lq_free(whole);
}
END_TEST

START_TEST(broken_files) {
    lq_logits_reader r;
    ck_fails(lq_logits_open(&r, "/nonexistent"), LQ_EIO, "/nonexistent");
    const char *path = test_path("broken.kld");
    ck_ok(lq_write_file(path, "_logit", 6));
    ck_fails(lq_logits_open(&r, path), LQ_EFORMAT, "too early");
    ck_ok(lq_write_file(path, "notlogits_______________", 24));
    ck_fails(lq_logits_open(&r, path), LQ_EFORMAT, "not a logits file");
    ck_ok(lq_write_file(path, "_logits_\1\0\0\0\1\0\0\0\1\0\0\0", 20));
    ck_fails(lq_logits_open(&r, path), LQ_EFORMAT, "no sense");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("logits_file");
    TCase *tc = tcase_create("logits_file");
    tcase_add_test(tc, round_trip);
    tcase_add_test(tc, cut_file);
    tcase_add_test(tc, broken_files);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
