/* dataset.c: mistakes of files and sources and how they are said, counts, lengths, weights,
 * groups, and real files. Kinds of records: check_records.c. */
#include "jsonl.h"
#include "record_fixture.h"
#include "test_util.h"

#include <stdlib.h>
#include <string.h>

/* ---- mistakes -------------------------------------------------------------------------------- */

/* A file of unknown records is said once, not line by line. */
START_TEST(unknown_records_are_said_once) {
    lq_dataset d;
    const lq_data_options options = fixture_chat_options();
    ck_fails(fixture_load(&d, "u.jsonl", "{\"a\":1}\n{\"a\":2}\n", NULL, &options), LQ_EFORMAT,
             "u.jsonl:1: the fields fit");
    ck_assert(!test_contains(lq_error(), "u.jsonl:2"));
}
END_TEST

START_TEST(refuses_conversations_without_a_template) {
    lq_dataset d;
    const lq_data_options options = {.sequence_len = 100};
    ck_fails(fixture_load(&d, "m.jsonl", "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}",
                       NULL, &options),
             LQ_ECONFIG, "m.jsonl:1: the model has no chat template");
}
END_TEST

START_TEST(gathers_twenty_mistakes) {
    lq_str text = LQ_STR_INIT;
    lq_dataset d;
    const lq_data_options options = fixture_chat_options();
    for (int i = 0; i < 30; i++)
        lq_str_printf(&text, "{\"text\":%s}\n", i % 6 == 5 ? "\"a\"" : "null");
    ck_fails(fixture_load(&d, "many.jsonl", lq_str_text(&text), NULL, &options), LQ_EFORMAT,
             "many.jsonl:1: text record");
    ck_assert(test_contains(lq_error(), "many.jsonl:23: "));
    ck_assert(!test_contains(lq_error(), "many.jsonl:25: "));
    ck_assert(test_contains(lq_error(), "... and 5 more"));
    lq_str_clear(&text);
}
END_TEST

START_TEST(refuses_bad_sources) {
    lq_dataset d;
    const lq_data_options options = fixture_chat_options();
    lq_data_options one_token = options;
    one_token.sequence_len = 1;
    lq_data_source source = {.path = test_path("absent.jsonl"), .weight = 1};
    ck_fails(lq_dataset_load(&d, &source, 1, fixture_tok, &options), LQ_EIO, "absent.jsonl");
    source.weight = 0;
    ck_fails(lq_dataset_load(&d, &source, 1, fixture_tok, &options), LQ_ECONFIG, "weight: found 0");
    ck_fails(lq_dataset_load(&d, &source, 0, fixture_tok, &options), LQ_ECONFIG, "found none");
    ck_fails(lq_dataset_load(&d, &source, 1, fixture_tok, &one_token), LQ_ECONFIG,
             "sequence_len: found 1");
}
END_TEST

/* ---- length, counts, weights ----------------------------------------------------------------- */

static const char mixed[] =
    "{\"prompt\":\"a\",\"completion\":\"b\"}\n"
    "{\"prompt\":\"a\",\"completion\":\"zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz\"}\n"
    "{\"prompt\":\"zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz\",\"completion\":\"b\"}\n"
    "{\"prompt\":\"a\",\"completion\":\"b\",\"id\":4}\n";

START_TEST(too_long) {
    lq_dataset d;
    lq_data_options options = {.sequence_len = 10, .excess = LQ_EXCESS_DROP};
    ck_ok(fixture_load(&d, "l.jsonl", mixed, NULL, &options));
    ck_assert_int_eq(d.counts.records, 4);
    ck_assert_int_eq(d.counts.too_long_dropped, 2);
    ck_assert_int_eq(d.counts.duplicates, 1); /* an id does not make it another example */
    ck_assert_int_eq(d.counts.examples, 2);
    lq_dataset_clear(&d);
    options.excess = LQ_EXCESS_TRUNCATE;
    ck_ok(fixture_load(&d, "l.jsonl", mixed, NULL, &options));
    ck_assert_int_eq(d.counts.truncated, 2);
    ck_assert_int_eq(d.counts.nothing_trained, 1); /* cut before the completion */
    ck_assert_int_eq(d.counts.examples, 3);
    ck_assert_int_eq(d.example[1].n, 10);
    ck_assert_int_eq(d.example[1].line, 2);
    lq_dataset_clear(&d);
    options.excess = LQ_EXCESS_RAISE;
    ck_fails(fixture_load(&d, "l.jsonl", mixed, NULL, &options), LQ_EFORMAT,
             "tokens, but sequence_len is 10");
    ck_assert(test_contains(lq_error(), "l.jsonl:2: ") && test_contains(lq_error(), "l.jsonl:3: "));
    options = (lq_data_options){.sequence_len = 2};
    ck_fails(fixture_load(&d, "l.jsonl", mixed, NULL, &options), LQ_EFORMAT,
             "4 are longer than sequence_len 2 (the longest has");
}
END_TEST

static void load_weighted(lq_dataset *d, double weight, uint64_t seed) {
    lq_str text = LQ_STR_INIT;
    const lq_data_options options = {.sequence_len = 100, .seed = seed};
    for (int i = 0; i < 40; i++) lq_str_printf(&text, "{\"text\":\"record %d\"}\n", i);
    const lq_data_source source = {.path = fixture_data("w.jsonl", lq_str_text(&text)),
                                   .weight = weight};
    ck_ok(lq_dataset_load(d, &source, 1, fixture_tok, &options));
    lq_str_clear(&text);
}

START_TEST(weights) {
    static const struct {
        double weight;
        int n;
    } cases[] = {{1, 40}, {2, 80}, {0.5, 20}, {2.25, 90}, {0.001, 0}};
    for (int c = 0; c < 4; c++) {
        lq_dataset d, again;
        int count[40] = {0};
        load_weighted(&d, cases[c].weight, 1);
        load_weighted(&again, cases[c].weight, 1);
        ck_assert_int_eq(d.n, cases[c].n);
        ck_assert_int_eq(d.counts.records, 40);
        ck_assert_int_eq(d.counts.examples, cases[c].n);
        ck_assert_int_eq(d.counts.duplicates, 0);
        for (int64_t i = 0; i < d.n; i++) {
            count[d.example[i].line - 1]++;
            ck_assert_int_eq(d.example[i].line, again.example[i].line);
        }
        for (int i = 0; i < 40; i++)
            ck_assert(count[i] == (int)cases[c].weight || count[i] == (int)cases[c].weight + 1);
        lq_dataset_clear(&d);
        lq_dataset_clear(&again);
    }
}
END_TEST

START_TEST(groups_and_content) {
    lq_dataset d;
    const lq_data_options options = fixture_chat_options();
    const lq_data_source source[] = {
        {.path = fixture_data(
             "g1.jsonl",
             "{\"text\":\"a\",\"group\":\"x\"}\n{\"text\":\"b\"}\n{\"text\":\"c\",\"group\":1}\n"),
         .weight = 1},
        {.path = fixture_data("g2.json", "[{\"text\":\"d\",\"group\":\"x\"},{\"text\":\"b\"},{"
                                       "\"text\":\"e\",\"group\":\"1\"}]"),
         .weight = 1},
    };
    ck_ok(lq_dataset_load(&d, source, 2, fixture_tok, &options));
    ck_assert_int_eq(d.n, 6);
    ck_assert_uint_eq(d.example[0].group, d.example[3].group);
    ck_assert_uint_ne(d.example[1].group, d.example[4].group);
    ck_assert_uint_eq(d.example[1].hash, d.example[4].hash);
    ck_assert_uint_ne(d.example[2].group, d.example[5].group);
    ck_assert_int_eq(d.example[5].source, 1);
    ck_assert_int_eq(d.example[5].line, 3);
    ck_assert_int_eq(d.counts.duplicates, 1);
    lq_dataset_clear(&d);
}
END_TEST

/* ---- real files ------------------------------------------------------------------------------ */

static void load_shared(const char *name, int64_t n) {
    const char *path = test_shared(LOQUAT_SHARED_DATA "/instruct", name);
    if (!path) return;
    lq_dataset d;
    lq_data_options options = fixture_chat_options();
    options.sequence_len = 1 << 20;
    const lq_data_source source = {.path = path, .weight = 1};
    ck_ok(lq_dataset_load(&d, &source, 1, fixture_tok, &options));
    ck_assert_int_eq(d.n, n);
    ck_assert_int_eq(d.counts.records, n);
    ck_assert_int_gt(d.counts.trained_tokens, 0);
    lq_dataset_clear(&d);
}

START_TEST(real_files) {
    load_shared("rasbt_instruction-data.json", 1100);
    load_shared("lf_glaive_toolcall_en_demo.json", 300);
}
END_TEST

/* Self-instruct's records hold their answer in `instances`; taken out of there they are alpaca's.
 */
static void add_first_instance(lq_str *out, json_t *record) {
    const json_t *instance = json_array_get(json_object_get(record, "instances"), 0);
    json_t *flat = json_pack("{sO,sO,sO}", "instruction", json_object_get(record, "instruction"),
                             "input", json_object_get(instance, "input"), "output",
                             json_object_get(instance, "output"));
    char *line = json_dumps(flat, 0);
    lq_str_printf(out, "%s\n", line);
    free(line);
    json_decref(flat);
}

START_TEST(real_self_instruct) {
    static const struct {
        const char *name;
        int n;
    } files[] = {{"seed_tasks.jsonl", 175}, {"user_oriented_instructions.jsonl", 252}};
    for (int f = 0; f < LQ_ARRAY_LEN(files); f++) {
        const char *path = test_shared(LOQUAT_SHARED_DATA "/instruct", files[f].name);
        if (!path) continue;
        lq_jsonl *reader = NULL;
        json_t *record = NULL;
        lq_str flat = LQ_STR_INIT;
        lq_dataset d;
        lq_data_options options = fixture_chat_options();
        options.sequence_len = 1 << 20;
        ck_ok(lq_jsonl_open(&reader, path));
        while (lq_jsonl_next(reader, &record) == LQ_OK && record) add_first_instance(&flat, record);
        ck_ok(fixture_load(&d, "flat.jsonl", lq_str_text(&flat), NULL, &options));
        ck_assert_int_eq(d.n, files[f].n);
        lq_dataset_clear(&d);
        lq_str_clear(&flat);
        lq_jsonl_close(reader);
    }
}
END_TEST

static lq_status load_everything(void *ctx) {
    const lq_data_options options = fixture_chat_options();
    const lq_data_source *source = ctx;
    lq_dataset d;
    const lq_status status = lq_dataset_load(&d, source, 2, fixture_tok, &options);
    lq_dataset_clear(&d);
    return status;
}

START_TEST(allocation_failures) {
    lq_data_source source[] = {
        {.path = fixture_data("af1.jsonl", "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{"
                                         "\"role\":\"assistant\",\"content\":\"b\"}]}"),
         .weight = 2},
        {.path = fixture_data(
             "af2.jsonl",
             "{\"prompt\":\"a\",\"completion\":\"b\"}\n{\"prompt\":\"c\",\"completion\":\"d\"}"),
         .weight = 0.5},
    };
    test_alloc_failures(load_everything, source);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("dataset");
    TCase *tc = tcase_create("dataset");
    suite_add_tcase(suite, tc);
    tcase_set_timeout(tc, 60);
    tcase_add_unchecked_fixture(tc, fixture_setup, fixture_teardown);
    tcase_add_test(tc, unknown_records_are_said_once);
    tcase_add_test(tc, refuses_conversations_without_a_template);
    tcase_add_test(tc, gathers_twenty_mistakes);
    tcase_add_test(tc, refuses_bad_sources);
    tcase_add_test(tc, too_long);
    tcase_add_test(tc, weights);
    tcase_add_test(tc, groups_and_content);
    tcase_add_test(tc, real_files);
    tcase_add_test(tc, real_self_instruct);
    tcase_add_test(tc, allocation_failures);
    return test_run(suite);
}
