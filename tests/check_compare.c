/* compare as users run it: seeds become one row, rounding afterwards adds rows, the numbers are
 * those of evaluate, and the four ways to print say the same. */
#include "compare.h"
#include "hf_fixture.h"
#include "run_fixture.h"

#include <glob.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char dir[200];

/* Runs p1, p2 (plain, two seeds), q1 (merged Q4_0, seed 1) below one directory. */
static void setup(void) {
    static const struct { const char *out, *args; } runs[] = {
        {"p1", "--seed 1"},
        {"p2", "--seed 2"},
        {"q1", "--seed 1 --qat.weight-dtype q4_0 --qat.mode merged"},
    };
    fixture_run f;
    fixture_make(&f, "compare", 3, "");
    snprintf(dir, sizeof dir, "%s", f.dir);
    ck_assert_int_eq(chdir(dir), 0);
    for (int i = 0; i < 3; i++) {
        const fixture_result r =
            fixture_loquat("train run.yaml --output-dir %s %s", runs[i].out, runs[i].args);
        ck_assert_msg(r.exit_status == 0, "%s", r.err);
    }
}

static json_t *json_of(const char *args) {
    json_error_t error;
    const fixture_result r = fixture_loquat("%s --json", args);
    ck_assert_msg(r.exit_status == 0, "loquat %s: %s", args, r.err);
    json_t *o = json_loads(r.out, 0, &error);
    ck_assert_msg(o != NULL, "%s: %s", error.text, r.out);
    return o;
}

static const json_t *row(const json_t *o, const char *name) {
    size_t i;
    json_t *r;
    json_array_foreach(json_object_get(o, "rows"), i, r)
        if (strcmp(json_string_value(json_object_get(r, "run")), name) == 0) return r;
    ck_abort_msg("no row '%s'", name);
}

static double value(const json_t *o, const char *key) {
    const json_t *v = json_object_get(o, key);
    ck_assert_msg(json_is_number(v), "no number '%s'", key);
    return json_number_value(v);
}

START_TEST(rows_seeds_and_numbers) {
    json_t *o = json_of("compare p1 p2 q1 --data data.jsonl --quantize Q8_0 --exact-match "
                        "--max-new-tokens 4 --baseline 'p* Q8_0'");
    json_t *p1 = json_of("evaluate p1 --data data.jsonl");
    json_t *p2 = json_of("evaluate p2 --data data.jsonl");
    json_t *q1 = json_of("evaluate q1 --data data.jsonl --reference p1");
    ck_assert_int_eq((int)json_array_size(json_object_get(o, "rows")), 3);
    const json_t *plain = row(o, "p*"), *rounded = row(o, "p* Q8_0"), *merged = row(o, "q1");
    const double a = value(p1, "loss"), b = value(p2, "loss");
    ck_assert_double_eq_tol(value(plain, "loss"), (a + b) / 2, 1e-5);
    ck_assert_double_eq_tol(value(plain, "loss_sd"), fabs(a - b) / sqrt(2), 1e-5);
    ck_assert_double_eq_tol(value(merged, "loss"), value(q1, "loss"), 1e-5);
    ck_assert_double_eq_tol(value(merged, "kl_divergence"), value(q1, "kl_divergence"), 1e-5);
    ck_assert(json_is_null(json_object_get(plain, "kl_divergence")));
    ck_assert_double_gt(value(rounded, "kl_divergence"), 0);
    ck_assert_double_lt(value(rounded, "bytes"), value(plain, "bytes"));
    ck_assert_double_ge(value(rounded, "seconds"), value(plain, "seconds")); /* and of rounding */
    ck_assert_double_eq(value(rounded, "difference"), 0);
    ck_assert_double_eq_tol(value(merged, "difference"),
                            value(merged, "loss") - value(rounded, "loss"), 1e-9);
    ck_assert_double_lt(value(merged, "difference_low"), value(merged, "difference_high"));
    value(merged, "exact_match");
    json_decref(o);
    json_decref(p1);
    json_decref(p2);
    json_decref(q1);
    ck_assert_msg(fixture_loquat("inspect p1/compare-1.gguf").exit_status != 0, "a file is left");
}
END_TEST

START_TEST(named_rows_take_any_model) {
    json_t *o = json_of("compare base=model.gguf 'two runs=p1' 'two runs=q1' --data data.jsonl "
                        "--reference model.gguf");
    ck_assert_int_eq((int)json_array_size(json_object_get(row(o, "two runs"), "seeds")), 2);
    ck_assert_double_eq_tol(value(row(o, "base"), "kl_divergence"), 0, 1e-6);
    ck_assert_double_gt(value(row(o, "two runs"), "kl_divergence"), 0);
    ck_assert(json_is_null(json_object_get(row(o, "base"), "seconds")));
    json_decref(o);
}
END_TEST

/* What a directory deploys is its weights, not the tokenizer beside them. */
START_TEST(directories_count_their_weights) {
    const hf_change shards = {.shard_bytes = 300};
    const char *path = hf_fixture("shards", &shards);
    char *pattern = lq_sprintf("%s/*.safetensors", path);
    char *argument = lq_sprintf("name=%s", path);
    int64_t sum = 0, bytes;
    lq_compare_run run;
    glob_t files;
    ck_assert_int_eq(glob(pattern, 0, NULL, &files), 0);
    for (size_t i = 0; i < files.gl_pathc; i++) {
        ck_ok(lq_file_bytes(&bytes, files.gl_pathv[i]));
        sum += bytes;
    }
    ck_assert_uint_gt(files.gl_pathc, 1);
    ck_ok(lq_compare_run_read(&run, argument));
    ck_assert_int_eq(run.bytes, sum);
    lq_compare_run_clear(&run);
    globfree(&files);
    lq_free(pattern);
    lq_free(argument);
}
END_TEST

static const struct { const char *flag, *has; } printed[] = {
    {"", "scored tokens"},
    {"--csv", "run,seeds,difference,difference_low,difference_high,loss,loss_sd,"},
    {"--csv", "\"p1\",1,0,"},
    {"--markdown", "\n|-|-|-"},
    {"--markdown", "| baseline "},
};

START_TEST(printed_tables) {
    const fixture_result r = fixture_loquat("compare p1 --data data.jsonl %s", printed[_i].flag);
    ck_assert_msg(r.exit_status == 0, "%s", r.err);
    ck_assert_msg(test_contains(r.out, printed[_i].has), "%s", r.out);
}
END_TEST

static const struct { const char *args; int exit_status; const char *says; } refused[] = {
    {"p1", 2, "--data"},
    {"p1 --data data.jsonl --imatrix x", 2, "--imatrix needs --quantize"},
    {"q1 --data data.jsonl --quantize Q8_0", 2, "trained without qat"},
    {"p1 --data data.jsonl --quantize Q9", 2, "Q9"},
    {"p1 --data data.jsonl --baseline p2", 2, "wanted one of the rows: 'p1'"},
    {"p1 --data data.jsonl --csv --json", 2, "give one of them"},
    {"p1 nowhere --data data.jsonl", 1, "nowhere"},
};

START_TEST(refused_by_name) {
    const fixture_result r = fixture_loquat("compare %s", refused[_i].args);
    ck_assert_msg(r.exit_status == refused[_i].exit_status &&
                      test_contains(r.err, refused[_i].says),
                  "loquat compare %s: exit %d: %s", refused[_i].args, r.exit_status, r.err);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("compare");
    TCase *tc = tcase_create("compare");
    tcase_set_timeout(tc, 60);
    tcase_add_unchecked_fixture(tc, setup, NULL); /* once: the tests only read */
    tcase_add_test(tc, rows_seeds_and_numbers);
    tcase_add_test(tc, named_rows_take_any_model);
    tcase_add_test(tc, directories_count_their_weights);
    tcase_add_loop_test(tc, printed_tables, 0, LQ_ARRAY_LEN(printed));
    tcase_add_loop_test(tc, refused_by_name, 0, LQ_ARRAY_LEN(refused));
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
