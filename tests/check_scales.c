/* adapter: scales: what it starts as, what a rebuild and the file get, what it is refused for. */
#include "adapter_fixture.h"
#include "block_scales.h"
#include "export.h"
#include "export_peft.h"
#include "ggml_types.h"
#include "test_util.h"
#include "tiny_model.h"

#include <math.h>
#include <string.h>

static const lq_adapter_options scales = {.scales = true};
static const lq_lineage lineage = {.base_path = "base.gguf", .version = "0"};

static lq_model *packed_model(const char *type) {
    const tiny_model tiny = {.n_embd = 64, .n_ff = 96};
    lq_model *m = NULL;
    ck_ok(tiny_model_write(test_path("packed.gguf"), &tiny));
    ck_ok(lq_model_open_as(&m, test_path("packed.gguf"), true, type));
    return m;
}

/* Changed scales reach the file, rounded to F16; codes and all else are the base's. */
START_TEST(the_file_has_the_scales) {
    static const char *const types[] = {"q4_0", "q8_0"};
    lq_model *m = packed_model(types[_i]);
    lq_adapter *a = NULL;
    const char *path = test_path("scaled.gguf");
    ck_ok(lq_adapter_new(&a, m, &scales, false));
    ck_ok(lq_adapter_rebuild(a));
    for (int i = 0; i < a->n_items; i++) {
        const lq_weight *w = &m->weight[a->item[i].weight];
        ck_assert_mem_eq(a->patch[a->item[i].weight].data, w->data,
                         lq_format_bytes(w->fmt, w->rows * w->cols));
    }
    for (int64_t i = 0; i < a->n_params; i++) a->param[i] *= 1 + 0.01f * (float)(i % 7);
    ck_ok(lq_adapter_rebuild(a));
    ck_ok(lq_export_merged(a, path, NULL, &lineage));
    lq_gguf *g = fixture_gguf(path);
    fixture_expect_string(g, "general.finetune", "scales");
    for (int i = 0; i < m->n_weights; i++) {
        const lq_weight *w = &m->weight[i];
        const lq_gguf_tensor *t = lq_gguf_find_tensor(g, w->name);
        const size_t bytes = lq_format_bytes(w->fmt, w->rows * w->cols);
        ck_assert_int_eq((int64_t)t->bytes, (int64_t)bytes);
        char *want = lq_alloc(bytes);
        memcpy(want, w->data, bytes);
        const float *d = a->patch[i].d;
        for (int64_t b = 0; d && b < w->rows * w->cols / w->fmt->block; b++) {
            const uint16_t half = lq_f16_from_f32(d[b]);
            memcpy(want + b * w->fmt->bytes, &half, sizeof half);
        }
        ck_assert_msg(memcmp(want, t->data, bytes) == 0, "%s", w->name);
        lq_free(want);
    }
    lq_gguf_close(g);
    lq_adapter_free(a);
    lq_model_close(m);
}
END_TEST

START_TEST(other_files_are_refused) {
    const lq_mix_request f16 = lq_mix_plain(LQ_TYPE_F16);
    lq_model *m = packed_model("q8_0");
    lq_adapter *a = NULL;
    ck_ok(lq_adapter_new(&a, m, &scales, false));
    ck_fails(lq_export_merged(a, test_path("no"), &f16, &lineage), LQ_EVALUE,
             "in the base's own types");
    ck_fails(lq_export_lora(a, test_path("no"), &lq_f32, &lineage), LQ_EUNSUPPORTED,
             "has no adapter to write");
    ck_fails(lq_export_peft(a, test_path("no"), &lq_f32, "base"), LQ_EUNSUPPORTED,
             "has no adapter to write");
    ck_fails(lq_adapter_init_from(a, "x"), LQ_ECONFIG, "can only start a run with `adapter: lora`");
    a->param[3] = NAN;
    ck_fails(lq_adapter_rebuild(a), LQ_ENONFINITE, "a scale is NaN");
    a->param[3] = 1e5f;
    ck_fails(lq_adapter_rebuild(a), LQ_ENONFINITE, "beyond what F16 holds");
    lq_adapter_free(a);
    lq_model_close(m);
}
END_TEST

/* Codes are what the format's own dequantizer makes of scale 1. */
START_TEST(codes_times_scales_are_values) {
    enum { N_VALUES = 96 };
    const lq_format *fmt = _i ? &lq_q8_0 : &lq_q4_0;
    float x[N_VALUES], value[N_VALUES], code[N_VALUES], d[N_VALUES / 32];
    char blocks[N_VALUES * 2];
    test_fill(x, N_VALUES, 3);
    memset(x + 32, 0, 32 * sizeof *x);   /* scale 0 */
    fmt->quant(x, blocks, N_VALUES, NULL);
    fmt->dequant(blocks, value, N_VALUES);
    lq_block_scales_get(fmt, blocks, d, N_VALUES / 32);
    lq_block_codes(fmt, blocks, code, N_VALUES);
    for (int i = 0; i < N_VALUES; i++) ck_assert_float_eq(code[i] * d[i / 32], value[i]);
    ck_assert(lq_has_block_scales(fmt) && !lq_has_block_scales(&lq_q4_k));
}
END_TEST

static lq_status whole_life(void *ctx) {
    lq_adapter *a = NULL;
    lq_status status = lq_adapter_new(&a, ctx, &scales, false);
    if (status == LQ_OK) status = lq_adapter_train(a);
    if (status == LQ_OK) status = lq_adapter_rebuild(a);
    lq_adapter_free(a);
    return status;
}

START_TEST(allocation_failures) {
    lq_model *m = packed_model("q4_0");
    test_alloc_failures(whole_life, m);
    lq_model_close(m);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("scales");
    TCase *tc = tcase_create("scales");
    tcase_add_loop_test(tc, the_file_has_the_scales, 0, 2);
    tcase_add_test(tc, other_files_are_refused);
    tcase_add_loop_test(tc, codes_times_scales_are_values, 0, 2);
    tcase_add_test(tc, allocation_failures);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
