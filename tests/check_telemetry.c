/* What a run writes about its codes and its running average: metrics.jsonl and run.json. */
#include "run_fixture.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static double value(const json_t *o, const char *key) {
    const json_t *v = json_object_get(o, key);
    ck_assert_msg(json_is_number(v), "no number '%s'", key);
    return json_number_value(v);
}

static void train(fixture_run *f, const char *name, const char *extra) {
    fixture_make(f, name, 6, extra);
    const fixture_result r = fixture_loquat("train %s", f->config);
    ck_assert_msg(r.exit_status == 0, "%s", r.err);
}

static json_t *record_of(const fixture_run *f) {
    char path[300];
    json_error_t error;
    snprintf(path, sizeof path, "%s/run.json", f->out);
    json_t *o = json_load_file(path, 0, &error);
    ck_assert_msg(o != NULL, "%s: %s", path, error.text);
    return o;
}

/* Calls with every line of metrics.jsonl; returns how many there were. */
static int each_line(const fixture_run *f, void (*line)(const json_t *o, void *ctx), void *ctx) {
    char path[300];
    int n = 0;
    snprintf(path, sizeof path, "%s/metrics.jsonl", f->out);
    FILE *in = fopen(path, "rb");
    ck_assert_ptr_nonnull(in);
    for (json_t *o; (o = json_loadf(in, JSON_DISABLE_EOF_CHECK, NULL)) != NULL; n++) {
        line(o, ctx);
        json_decref(o);
    }
    fclose(in);
    return n;
}

static void check_codes(const json_t *o, void *ctx) {
    int *steps = ctx;
    const char *key;
    json_t *part;
    if (!json_object_get(o, "loss")) return;
    ++*steps;
    const double changed = value(o, "codes_changed");
    double least = 1, most = 0;
    ck_assert_double_ge(value(o, "codes_saturated"), 1.0 / 32); /* Q4_0: every block has one */
    ck_assert_double_lt(value(o, "codes_saturated"), 0.2);
    ck_assert_double_gt(value(o, "weight_distance"), 0.01);
    ck_assert_double_lt(value(o, "weight_distance"), 0.2);
    ck_assert_double_gt(changed, 0);
    ck_assert_double_lt(changed, 0.9);
    json_object_foreach(json_object_get(o, "codes_changed_by_tensor"), key, part) {
        ck_assert_msg(test_contains(key, ".Q4_0"), "%s", key);
        least = fmin(least, json_number_value(part));
        most = fmax(most, json_number_value(part));
    }
    ck_assert_double_le(least, changed);
    ck_assert_double_ge(most, changed);
}

START_TEST(merged_run_tells_of_its_codes) {
    fixture_run f;
    int steps = 0;
    train(&f, "merged", "qat: {weight_dtype: q4_0, mode: merged}\n");
    each_line(&f, check_codes, &steps);
    ck_assert_int_eq(steps, 6);
}
END_TEST

static void check_none(const json_t *o, void *ctx) {
    (void)ctx;
    ck_assert_ptr_null(json_object_get(o, "codes_changed"));
    ck_assert_ptr_null(json_object_get(o, "eval_loss_ema"));
}

START_TEST(run_without_rebuilds_does_not) {
    static const char *const extra[] = {"", "qat: {weight_dtype: q4_0, mode: separate}\n"};
    fixture_run f;
    train(&f, _i ? "separate" : "plain", extra[_i]);
    each_line(&f, check_none, NULL);
}
END_TEST

START_TEST(record_lists_quantized_tensors) {
    static const char *const modes[] = {"merged", "separate"};
    fixture_run f;
    char extra[80];
    size_t i;
    json_t *one;
    snprintf(extra, sizeof extra, "qat: {weight_dtype: q4_0, mode: %s}\n", modes[_i]);
    train(&f, modes[_i], extra);
    json_t *record = record_of(&f), *list = json_object_get(record, "quantized");
    ck_assert_int_ge((int)json_array_size(list), 7);
    json_array_foreach(list, i, one) {
        ck_assert_double_gt(value(one, "weights"), 0);
        ck_assert_double_gt(value(one, "saturated"), 0);
        ck_assert_double_gt(value(one, "distance"), 0);
    }
    ck_assert_double_gt(value(record, "seconds"), 0);
    json_decref(record);
}
END_TEST

typedef struct best { double loss; bool is_ema; int evals; } best;

static void find_best(const json_t *o, void *ctx) {
    best *b = ctx;
    if (!json_object_get(o, "eval_loss") || value(o, "step") == 0) return;
    const double raw = value(o, "eval_loss"), ema = value(o, "eval_loss_ema");
    b->evals++;
    if (fmin(raw, ema) < b->loss) {
        b->loss = fmin(raw, ema);
        b->is_ema = ema < raw;
    }
}

/* A slow average is far behind and loses; one that forgets at once is nearly the parameters. */
START_TEST(better_of_parameters_and_average_is_kept) {
    static const char *const extra[] = {
        "ema_decay: 0.999\n",
        "ema_decay: 0.5\nqat: {weight_dtype: q4_0, mode: merged}\n"};
    static const char *const names[] = {"slow", "fast"};
    fixture_run f;
    best b = {INFINITY, false, 0};
    train(&f, names[_i], extra[_i]);
    each_line(&f, find_best, &b);
    ck_assert_int_eq(b.evals, 2);
    json_t *record = record_of(&f);
    ck_assert_double_eq_tol(value(record, "best_eval_loss"), b.loss, 1e-7 * b.loss);
    ck_assert_double_eq(value(record, "best_eval_loss"), value(record, "final_eval_loss"));
    ck_assert_int_eq(json_is_true(json_object_get(record, "best_is_ema")), b.is_ema);
    if (_i == 0) ck_assert(!b.is_ema);
    json_decref(record);
}
END_TEST

typedef struct divergence { const char *metric; double best, best_of_other; } divergence;

static void take_less(divergence *d, const json_t *o, const char *kl, const char *loss) {
    const bool by_kl = strcmp(d->metric, "eval_kl") == 0;
    if (!json_object_get(o, kl) || !(value(o, by_kl ? kl : loss) < d->best)) return;
    d->best = value(o, by_kl ? kl : loss);
    d->best_of_other = value(o, by_kl ? loss : kl);
}

static void find_least(const json_t *o, void *ctx) {
    if (value(o, "step") == 0) return;
    take_less(ctx, o, "eval_kl", "eval_loss");
    take_less(ctx, o, "eval_kl_ema", "eval_loss_ema");
}

static const struct { const char *extra, *metric; } metrics[] = {
    {"kd: {alpha: 1}\n", "eval_kl"},
    {"kd: {alpha: 0.5}\n", "eval_loss"},
    {"kd: {alpha: 1}\nmetric_for_best_model: eval_loss\n", "eval_loss"},
    {"kd: {alpha: 0.5}\nmetric_for_best_model: eval_kl\nema_decay: 0.999\n", "eval_kl"},
};

/* With a teacher alone the best state is the nearest to it, unless the labels are to decide. */
START_TEST(best_is_best_in_its_metric) {
    fixture_run f;
    char extra[300], name[16];
    divergence d = {metrics[_i].metric, INFINITY, INFINITY};
    snprintf(extra, sizeof extra, "qat: {weight_dtype: q4_0, mode: merged}\n%s",
             metrics[_i].extra);
    snprintf(name, sizeof name, "metric-%d", _i);
    train(&f, name, extra);
    each_line(&f, find_least, &d);
    json_t *record = record_of(&f);
    const bool by_kl = strcmp(d.metric, "eval_kl") == 0;
    ck_assert_str_eq(json_string_value(json_object_get(record, "best_by")), d.metric);
    const double kl = value(record, "best_eval_kl"), loss = value(record, "best_eval_loss");
    ck_assert_double_eq_tol(by_kl ? kl : loss, d.best, 1e-7 * d.best);
    ck_assert_double_eq_tol(by_kl ? loss : kl, d.best_of_other, 1e-7 * d.best_of_other);
    ck_assert_double_eq(kl, value(record, "final_eval_kl"));
    ck_assert_double_gt(value(record, "start_eval_kl"), 0);
    json_decref(record);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("telemetry");
    TCase *tc = tcase_create("telemetry");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, merged_run_tells_of_its_codes);
    tcase_add_loop_test(tc, run_without_rebuilds_does_not, 0, 2);
    tcase_add_loop_test(tc, record_lists_quantized_tensors, 0, 2);
    tcase_add_loop_test(tc, better_of_parameters_and_average_is_kept, 0, 2);
    tcase_add_loop_test(tc, best_is_best_in_its_metric, 0, LQ_ARRAY_LEN(metrics));
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
