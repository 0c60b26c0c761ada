/* build.c: what it refuses, by name. */
#include "model.h"

#include "test_util.h"
#include "tiny_model.h"

#include <stdio.h>

static lq_model *open_tiny(const tiny_model *o) {
    const char *path = test_path("limits.gguf");
    lq_model *m = NULL;
    ck_ok(tiny_model_write(path, o));
    ck_ok(lq_model_open(&m, path, true));
    return m;
}

/* Recording and planning, without memory. */
static lq_status plan(const lq_model *m, lq_build_options o) {
    lq_tape *tape = NULL;
    lq_model_io io;
    LQ_TRY(lq_tape_new(&tape, 8));
    lq_status status = lq_model_build(m, &o, tape, &io);
    if (status == LQ_OK) status = lq_tape_compile(tape, &(lq_tape_options){.training = false});
    lq_tape_free(tape);
    return status;
}

START_TEST(positions_end_with_the_context) {
    char path[512];
    lq_model *m = NULL;
    snprintf(path, sizeof path, "%s/tests/reference/gpt2.gguf", LOQUAT_SOURCE_DIR);
    ck_ok(lq_model_open(&m, path, true));
    ck_ok(plan(m, (lq_build_options){.n_ctx = 64}));
    ck_fails(plan(m, (lq_build_options){.n_ctx = 65}), LQ_EVALUE,
             "65 tokens in a row, the model has learned 64 positions");
    m->n_ctx = 65;
    ck_fails(plan(m, (lq_build_options){0}), LQ_EVALUE, "65 tokens in a row");
    lq_model_close(m);
}
END_TEST

START_TEST(experts_take_no_dropout) {
    lq_model *m = open_tiny(&(tiny_model){.n_expert = 3});
    lq_patch *patch = lq_alloc_array(m->n_weights, sizeof *patch);
    lq_patch *up = &patch[lq_model_find(m, LQ_ROLE_EXPERTS_UP, 1, false)];
    *up = (lq_patch){.rank = 2, .scale = 1};
    ck_ok(plan(m, (lq_build_options){.patch = patch}));
    up->dropout = 0.1F;
    ck_fails(plan(m, (lq_build_options){.patch = patch}), LQ_EUNSUPPORTED,
             "not supported on blk.1.ffn_up_exps.weight, an adapter per expert");
    lq_free(patch);
    lq_model_close(m);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("build_limits");
    TCase *tc = tcase_create("build_limits");
    tcase_add_test(tc, positions_end_with_the_context);
    tcase_add_test(tc, experts_take_no_dropout);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
