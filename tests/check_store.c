/* store.*: the cache gives back what was put in, only under its own key, and never from a damaged
 * file. */
#include "store.h"

#include "atomic_file.h"
#include "dataset_util.h"
#include "h5.h"
#include "test_util.h"
#include "tiny_model.h"

#include <stdio.h>
#include <string.h>

static const char key[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

static char logged[512];

static void keep_log(void *ctx, lq_log_level level, const char *line) {
    (void)ctx;
    if (level == LQ_LOG_WARN) snprintf(logged, sizeof logged, "%s", line);
}

static void check_equal(const lq_dataset *a, const lq_dataset *b) {
    ck_assert_int_eq(a->n, b->n);
    ck_assert_int_eq(a->n_tokens, b->n_tokens);
    ck_assert_mem_eq(&a->counts, &b->counts, sizeof a->counts);
    ck_assert_mem_eq(a->ids, b->ids, (size_t)a->n_tokens * sizeof *a->ids);
    ck_assert_mem_eq(a->mask, b->mask, (size_t)a->n_tokens);
    for (int64_t i = 0; i < a->n; i++) {
        const lq_example *x = &a->example[i], *y = &b->example[i];
        ck_assert(x->first == y->first && x->n == y->n && x->n_trained == y->n_trained &&
                  x->source == y->source && x->line == y->line && x->hash == y->hash &&
                  x->group == y->group);
    }
}

START_TEST(round_trip) {
    lq_dataset d = test_dataset(50, 20, 1), back;
    bool found;
    const char *path = test_path("round.h5");
    d.counts.too_long_dropped = 3;
    d.example[7].source = 2;
    ck_ok(lq_store_write(path, key, &d));
    ck_ok(lq_store_read(&found, &back, path, key));
    ck_assert(found);
    check_equal(&d, &back);
    lq_dataset_clear(&d);
    lq_dataset_clear(&back);
}
END_TEST

static void refused(const char *path, const char *wanted_key, const char *said) {
    lq_dataset back;
    bool found = true;
    logged[0] = 0;
    lq_set_log(keep_log, NULL);
    ck_ok(lq_store_read(&found, &back, path, wanted_key));
    lq_set_log(NULL, NULL);
    ck_assert(!found);
    ck_assert_ptr_null(back.ids);
    ck_assert_msg(test_contains(logged, said), "logged '%s', wanted '%s'", logged, said);
}

START_TEST(other_keys_and_damage_are_not_found) {
    lq_dataset d = test_dataset(50, 20, 1);
    const char *path = test_path("other.h5");
    char *bytes;
    size_t n;
    refused(test_path("none.h5"), key, "");
    ck_assert_str_eq(logged, ""); /* no file is no news */
    ck_ok(lq_store_write(path, key, &d));
    refused(path, "another", "other.h5: made from other data or options");
    ck_ok(lq_read_file(&bytes, &n, path));
    for (size_t at = 0; at < n; at += n / 50) {
        if (at >= 101 && at < 512) continue; /* nobody reads these */
        bytes[at] ^= 4;
        ck_ok(lq_write_file(path, bytes, n));
        bytes[at] ^= 4;
        refused(path, key, "token cache not used: ");
    }
    ck_ok(lq_write_file(path, bytes, n / 2));
    refused(path, key, "token cache not used: ");
    lq_free(bytes);
    lq_dataset_clear(&d);
}
END_TEST

/* A whole file with impossible contents: written by another program, or by a mistake of ours. */
START_TEST(nonsense_is_not_found) {
    const char *path = test_path("nonsense.h5");
    lq_dataset d = test_dataset(5, 20, 1);
    const lq_example good = d.example[4];
    lq_h5 *h = NULL;
    d.example[4].first = d.n_tokens;
    ck_ok(lq_store_write(path, key, &d));
    refused(path, key, "nonsense.h5: example 4 does not fit the tokens");
    d.example[4] = good;
    d.example[4].first = -1;
    ck_ok(lq_store_write(path, key, &d));
    refused(path, key, "example 4 does not fit");
    d.example[4] = good;
    d.example[4].n = -5;
    ck_ok(lq_store_write(path, key, &d));
    refused(path, key, "example 4 does not fit");
    ck_ok(lq_h5_create(&h, path));
    ck_ok(lq_h5_write_string(h, "key", key));
    ck_ok(lq_h5_commit(h));
    refused(path, key, "nonsense.h5: version is missing");
    d.example[4] = good;
    lq_dataset_clear(&d);
}
END_TEST

/* ---- the key --------------------------------------------------------------------------------- */

typedef struct inputs {
    lq_data_source source[2];
    int n;
    lq_data_options options;
} inputs;

static void key_of(char out[LQ_SHA256_HEX], const lq_tokenizer *tok, const inputs *in) {
    ck_ok(lq_store_key(out, in->source, in->n, tok, &in->options));
}

START_TEST(key_covers_what_decides) {
    static const char *const roles[] = {"user", NULL};
    const char *a = test_path("a.jsonl"), *b = test_path("b.jsonl"),
               *copy = test_path("copy.jsonl");
    ck_ok(lq_write_file(a, "{\"text\":\"a\"}", 12));
    ck_ok(lq_write_file(b, "{\"text\":\"b\"}", 12));
    ck_ok(lq_write_file(copy, "{\"text\":\"a\"}", 12));
    lq_gguf *file = NULL;
    lq_tokenizer *tok = NULL;
    lq_template *chat = NULL;
    ck_ok(lq_gguf_open(&file, test_tiny_model()));
    ck_ok(lq_tokenizer_from_gguf(&tok, file));
    ck_ok(lq_template_parse(&chat, "x"));
    const inputs base = {
        .source = {{a, "text", 1}, {b, NULL, 1}}, .n = 2, .options = {.sequence_len = 64}};
    inputs other[9];
    for (int i = 0; i < LQ_ARRAY_LEN(other); i++) other[i] = base;
    other[0].source[0].path = b;
    other[1].source[0].type = NULL;
    other[2].source[1].weight = 2;
    other[3].n = 1;
    other[4].options.sequence_len = 65;
    other[5].options.excess = LQ_EXCESS_TRUNCATE;
    other[6].options.train_on_inputs = true;
    other[7].options.roles_to_train = roles;
    other[8].options.chat_template = chat;
    other[8].options.chat_template_source = "x";
    char want[LQ_SHA256_HEX], got[LQ_SHA256_HEX];
    key_of(want, tok, &base);
    for (int i = 0; i < LQ_ARRAY_LEN(other); i++) {
        key_of(got, tok, &other[i]);
        ck_assert_msg(strcmp(got, want) != 0, "change %d leaves the key as it is", i);
    }
    inputs same = base;
    same.source[0].path = copy; /* a file's name decides nothing, nor does the split */
    same.options.seed = 5;
    same.options.val_set_size = 0.5;
    key_of(got, tok, &same);
    ck_assert_str_eq(got, want);
    same.source[0].path = test_path("absent.jsonl");
    ck_fails(lq_store_key(got, same.source, 2, tok, &same.options), LQ_EIO, "absent.jsonl");
    lq_template_free(chat);
    lq_tokenizer_close(tok);
    lq_gguf_close(file);
}
END_TEST

typedef struct stored { const char *path; const lq_dataset *d; } stored;

static lq_status write_and_read(void *ctx) {
    const stored *s = ctx;
    lq_dataset back;
    bool found;
    LQ_TRY(lq_store_write(s->path, key, s->d));
    const lq_status status = lq_store_read(&found, &back, s->path, key);
    lq_dataset_clear(&back);
    return status;
}

START_TEST(allocation_failures) {
    lq_dataset d = test_dataset(5, 5, 1);
    stored s = {test_path("alloc.h5"), &d};
    test_alloc_failures(write_and_read, &s);
    lq_dataset_clear(&d);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("store");
    TCase *tc = tcase_create("store");
    suite_add_tcase(suite, tc);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, round_trip);
    tcase_add_test(tc, other_keys_and_damage_are_not_found);
    tcase_add_test(tc, nonsense_is_not_found);
    tcase_add_test(tc, key_covers_what_decides);
    tcase_add_test(tc, allocation_failures);
    return test_run(suite);
}
