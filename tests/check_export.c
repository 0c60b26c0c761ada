/* Exported files opened again: blocks equal the forward's, keys and the rest equal the base's; what
 * is refused; failing disks and allocations. */
#include "export.h"

#include "adapter_fixture.h"
#include "test_util.h"

#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static const lq_lineage lineage = {.base_path = "/some/where/base.gguf", .version = "0.0-test"};

static void expect_u32(const lq_gguf *g, const char *key, uint32_t want) {
    uint32_t value = ~want;
    ck_ok(lq_gguf_get_u32(g, key, true, &value));
    ck_assert_uint_eq(value, want);
}

/* Tensor i of the file is the base's tensor i; its bytes are `data` in `fmt`, or the base's. */
static void expect_tensor(const lq_gguf_tensor *t, const lq_gguf_tensor *base, const lq_format *fmt,
                          const void *data) {
    ck_assert_str_eq(t->name, base->name);
    ck_assert_mem_eq(t->ne, base->ne, sizeof t->ne);
    ck_assert_msg(t->ggml_type == (fmt ? fmt->ggml_id : base->ggml_type), "%s has type %d", t->name,
                  t->ggml_type);
    ck_assert_msg(memcmp(t->data, fmt ? data : base->data, t->bytes) == 0, "%s", t->name);
}

/* Every key of the base is in the file; but for the general.* ones with the same value. */
static void expect_base_keys(const lq_gguf *g, const lq_gguf *base) {
    for (int64_t i = 0; i < lq_gguf_n_kv(base); i++) {
        const lq_gguf_kv *want = lq_gguf_kv_at(base, i), *kv = lq_gguf_find(g, want->key);
        if (strncmp(want->key, "quantize.", 9) == 0) {
            ck_assert_msg(!kv, "%s", want->key); /* of an earlier quantization */
            continue;
        }
        ck_assert_msg(kv && kv->type == want->type && kv->n == want->n, "%s", want->key);
        if (kv->elem != LQ_GGUF_STRING && strncmp(want->key, "general.", 8) != 0)
            ck_assert_mem_eq(kv->data, want->data, want->n); /* at least a byte each */
    }
}

/* ---- whole models ---------------------------------------------------------------------------- */

static const lq_format *const qat_formats[] = {&lq_q4_0, &lq_q8_0};

START_TEST(merged_blocks_are_the_forwards) {
    lq_model *m = fixture_model(_i < 2 ? FIXTURE_UNTIED : FIXTURE_TIED);
    const lq_format *fmt = qat_formats[_i % 2];
    lq_adapter *a = fixture_filled(m, fixture_options(LQ_QAT_MERGED, fmt));
    const char *path = test_path("merged.gguf");
    ck_ok(lq_export_merged(a, path, NULL, &lineage));
    lq_gguf *g = fixture_gguf(path);
    ck_assert_int_eq(lq_gguf_n_tensors(g), lq_gguf_n_tensors(m->file));
    for (int64_t i = 0; i < lq_gguf_n_tensors(g); i++) {
        const lq_gguf_tensor *t = lq_gguf_tensor_at(g, i);
        const lq_patch *p = &a->patch[lq_model_find_name(m, t->name)];
        expect_tensor(t, lq_gguf_tensor_at(m->file, i), p->fmt, p->data);
    }
    expect_base_keys(g, m->file);
    fixture_expect_string(g, "general.base_model.0.name", "base.gguf");
    fixture_expect_string(g, "general.finetune", "qat-lora");
    fixture_expect_string(g, "general.quantized_by", "Loquat 0.0-test");
    fixture_expect_string(g, "loquat.qat.mode", "merged");
    expect_u32(g, "general.base_model.count", 1);
    expect_u32(g, "general.quantization_version", 2);
    expect_u32(g, "general.file_type", (uint32_t)fmt->file_type);
    lq_gguf_close(g);
    lq_adapter_free(a);
    lq_model_close(m);
}
END_TEST

/* Without QAT: W + s B A rounded once. type NULL: F16 matrices. */
static const lq_format *const types[] = {NULL, &lq_f32, &lq_f16, &lq_bf16, &lq_q8_0, &lq_q4_0};

static const lq_format *rounded_type(const lq_weight *w, const lq_format *type) {
    const lq_format *linear = type ? type : &lq_f16;
    if (w->rows == 1) return NULL;
    if (!lq_weight_is_linear(w) || w->role == LQ_ROLE_OUTPUT)
        return type ? &lq_q8_0 : linear;   /* fixture_types, else F16 */
    return w->cols % linear->block ? &lq_f16 : linear;
}

START_TEST(plain_is_rounded_once) {
    lq_model *m = fixture_model(FIXTURE_UNTIED);
    lq_adapter *a = fixture_filled(m, fixture_options(LQ_QAT_NONE, NULL));
    const char *path = test_path("rounded.gguf");
    ck_ok(lq_export_merged(a, path, types[_i] ? fixture_types(types[_i]) : NULL, &lineage));
    lq_gguf *g = fixture_gguf(path);
    for (int64_t i = 0; i < lq_gguf_n_tensors(g); i++) {
        const lq_gguf_tensor *t = lq_gguf_tensor_at(g, i);
        const int k = lq_model_find_name(m, t->name);
        const lq_format *fmt = rounded_type(&m->weight[k], types[_i]);
        void *want = fmt ? fixture_effective(a, k, fmt, true) : NULL;
        expect_tensor(t, lq_gguf_tensor_at(m->file, i), fmt, want);
        lq_free(want);
    }
    fixture_expect_string(g, "general.finetune", "lora");
    fixture_expect_string(g, "loquat.qat.mode", NULL);
    expect_u32(g, "general.file_type", (uint32_t)(types[_i] ? types[_i] : &lq_f16)->file_type);
    lq_gguf_close(g);
    lq_adapter_free(a);
    lq_model_close(m);
}
END_TEST

START_TEST(full_is_written) {
    lq_model *m = fixture_model(FIXTURE_TIED);
    lq_adapter *a = fixture_filled(m, (lq_adapter_options){.full = true});
    const char *path = test_path("full.gguf");
    ck_ok(lq_export_merged(a, path, NULL, &lineage));
    lq_gguf *g = fixture_gguf(path);
    for (int64_t i = 0; i < lq_gguf_n_tensors(g); i++) {
        const lq_gguf_tensor *t = lq_gguf_tensor_at(g, i);
        const int k = lq_model_find_name(m, t->name);
        const int64_t n = m->weight[k].rows * m->weight[k].cols;
        const lq_format *fmt = m->weight[k].rows == 1 ? &lq_f32 : &lq_f16;
        void *want = lq_alloc(lq_format_bytes(fmt, n));
        fmt->quant(a->patch[k].w, want, n, NULL);
        expect_tensor(t, lq_gguf_tensor_at(m->file, i), fmt, want);
        lq_free(want);
    }
    fixture_expect_string(g, "general.finetune", "full");
    lq_gguf_close(g);
    lq_adapter_free(a);
    lq_model_close(m);
}
END_TEST

/* ---- refusals and failures ------------------------------------------------------------------- */

START_TEST(refusals) {
    lq_model *m = fixture_model(FIXTURE_TIED);
    const char *path = test_path("refused.gguf");
    lq_adapter *merged = fixture_filled(m, fixture_options(LQ_QAT_MERGED, &lq_q4_0));
    lq_adapter *separate = fixture_filled(m, fixture_options(LQ_QAT_SEPARATE, &lq_q4_0));
    lq_adapter *plain = fixture_filled(m, fixture_options(LQ_QAT_NONE, NULL));
    lq_adapter *full = fixture_filled(m, (lq_adapter_options){.full = true});
    ck_fails(lq_export_lora(merged, path, &lq_f16, &lineage), LQ_EUNSUPPORTED, "another model");
    ck_fails(lq_export_lora(full, path, &lq_f16, &lineage), LQ_EUNSUPPORTED, "no adapter");
    ck_fails(lq_export_lora(plain, path, &lq_q8_0, &lineage), LQ_EUNSUPPORTED, "not as Q8_0");
    ck_fails(lq_export_merged(separate, path, NULL, &lineage), LQ_EUNSUPPORTED, "quantize again");
    ck_fails(lq_export_merged(merged, path, fixture_types(&lq_q8_0), &lineage), LQ_EVALUE,
             "trained for Q4_0");
    ck_fails(lq_export_base(merged, path, NULL, &lineage), LQ_EVALUE, "qat.mode separate");
    plain->param[plain->item[2].b] = NAN;
    ck_fails(lq_export_lora(plain, path, &lq_f32, &lineage), LQ_ENONFINITE, ".lora_b");
    ck_fails(lq_export_merged(plain, path, NULL, &lineage), LQ_ENONFINITE, "blk.");
    full->param[full->item[0].a] = 1e6f;
    ck_fails(lq_export_merged(full, path, fixture_types(&lq_q4_0), &lineage), LQ_ENONFINITE,
             "weight");
    ck_assert_int_ne(access(path, F_OK), 0);
    lq_adapter_free(merged);
    lq_adapter_free(separate);
    lq_adapter_free(plain);
    lq_adapter_free(full);
    lq_model_close(m);
}
END_TEST

/* A disk that fills up: an error that names the file, and neither a part of it nor a changed old
 * one. */
START_TEST(failing_disk) {
    lq_model *m = fixture_model(FIXTURE_TIED);
    lq_adapter *a = fixture_filled(m, fixture_options(LQ_QAT_MERGED, &lq_q4_0));
    const char *path = test_path("disk.gguf");
    ck_fails(lq_export_merged(a, "/nonexistent/dir/x.gguf", NULL, &lineage), LQ_EIO,
             "/nonexistent");
    struct rlimit old;
    getrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){4096, old.rlim_max});
    const lq_status status = lq_export_merged(a, path, NULL, &lineage);
    setrlimit(RLIMIT_FSIZE, &old);
    ck_assert_int_eq(status, LQ_EIO);
    ck_assert_msg(test_contains(lq_error(), "disk.gguf"), "%s", lq_error());
    ck_assert_int_ne(access(path, F_OK), 0);
    lq_adapter_free(a);
    lq_model_close(m);
}
END_TEST

typedef struct exports { const lq_model *m; lq_adapter *merged, *separate, *plain; } exports;

static lq_status export_all(void *ctx) {
    const exports *x = ctx;
    static char path[4][256];
    static const char *const name[] = {"m.gguf", "l.gguf", "b.gguf", "r.gguf"};
    for (int i = 0; i < 4; i++) strcpy(path[i], test_path(name[i]));
    const lq_lora_file files[] = {{path[1], 1}};
    lq_adapter *back = NULL;
    LQ_TRY(lq_export_merged(x->merged, path[0], NULL, &lineage));
    LQ_TRY(lq_export_lora(x->separate, path[1], &lq_f16, &lineage));
    LQ_TRY(lq_export_base(x->separate, path[2], NULL, &lineage));
    LQ_TRY(lq_export_merged(x->plain, path[3], fixture_types(&lq_q8_0), &lineage));
    LQ_TRY(lq_adapter_load(&back, x->m, files, 1));
    lq_adapter_free(back);
    return lq_adapter_init_from(x->plain, path[1]);
}

START_TEST(allocation_failures) {
    lq_model *m = fixture_model(FIXTURE_TIED);
    static const char *const targets[] = {"blk.0.attn_q", NULL};
    lq_adapter_options o[] = {fixture_options(LQ_QAT_MERGED, &lq_q4_0),
                              fixture_options(LQ_QAT_SEPARATE, &lq_q4_0),
                              fixture_options(LQ_QAT_NONE, NULL)};
    for (int i = 0; i < 3; i++) o[i].targets = targets;
    exports x = {m, fixture_filled(m, o[0]), fixture_filled(m, o[1]), fixture_filled(m, o[2])};
    test_alloc_failures(export_all, &x);
    lq_adapter_free(x.merged);
    lq_adapter_free(x.separate);
    lq_adapter_free(x.plain);
    lq_model_close(m);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("export");
    TCase *tc = tcase_create("export");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, merged_blocks_are_the_forwards, 0, 4);
    tcase_add_loop_test(tc, plain_is_rounded_once, 0, LQ_ARRAY_LEN(types));
    tcase_add_test(tc, full_is_written);
    tcase_add_test(tc, refusals);
    tcase_add_test(tc, failing_disk);
    tcase_add_test(tc, allocation_failures);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
