/* quantize_file.c: the shipped model in every file type has the bytes that llama-quantize gives it;
 * metadata is kept; what cannot be quantized is refused and leaves no file. */
#define _GNU_SOURCE /* memmem */
#include "quantize_file.h"

#include "atomic_file.h"
#include "ggml_types.h"
#include "hash.h"
#include "imatrix.h"
#include "quantize_hashes.h"
#include "test_util.h"
#include "tiny_model.h"

#include <stdio.h>
#include <string.h>

static const char model[] = LOQUAT_SOURCE_DIR "/examples/pip-F16.gguf";

static lq_mix_request request(const char *mix) {
    lq_mix_request r = {.mixed = true, .embedding = LQ_TYPE_BY_RULE, .output = LQ_TYPE_BY_RULE};
    ck_ok(lq_mix_find(&r.mix, "TYPE", mix));
    return r;
}

/* As make_quantize_hashes.py makes it. */
static lq_imatrix *simple_imatrix(const char *path) {
    lq_gguf *g = NULL;
    lq_imatrix *im;
    lq_imatrix_entry *e;
    ck_ok(lq_gguf_open(&g, path));
    ck_ok(lq_imatrix_new(&im, "t", 512));
    for (int64_t i = 0; i < lq_gguf_n_tensors(g); i++) {
        const lq_gguf_tensor *t = lq_gguf_tensor_at(g, i);
        if (strncmp(t->name, "blk.", 4) != 0 || t->ndim < 2) continue;
        ck_ok(lq_imatrix_add(&e, im, t->name, t->ne[0], 1));
        e->count[0] = 1;
    }
    ck_ok(lq_imatrix_finish(im));   /* sorts them */
    for (int64_t i = 0; i < im->n; i++)
        for (int64_t j = 0; j < im->entry[i].n; j++)
            im->entry[i].sum[j] = (float)((j * 37 + i * 11) % 101 + 1);
    ck_ok(lq_imatrix_finish(im));
    lq_gguf_close(g);
    return im;
}

static void hash_data(char out[LQ_SHA256_HEX], const char *path) {
    lq_gguf *g = NULL;
    ck_ok(lq_gguf_open(&g, path));
    const lq_gguf_tensor *last = lq_gguf_tensor_at(g, lq_gguf_n_tensors(g) - 1);
    const uint64_t bytes = (last->offset + last->bytes + 31) & ~(uint64_t)31;
    lq_sha256(out, lq_gguf_tensor_at(g, 0)->data, bytes);
    lq_gguf_close(g);
}

START_TEST(bytes_are_llama_quantizes) {
    const char *path = test_path("q.gguf");
    lq_mix_request r = request(quantize_hashes[_i].type);
    lq_imatrix *im = quantize_hashes[_i].imatrix ? simple_imatrix(model) : NULL;
    lq_quantize_report report;
    char hash[LQ_SHA256_HEX];
    r.imatrix = im;
    ck_ok(lq_quantize_file(model, path, &r, false, &report));
    hash_data(hash, path);
    ck_assert_msg(strcmp(hash, quantize_hashes[_i].sha256) == 0, "%s%s: the bytes differ",
                  r.mix->name, im ? " with imatrix" : "");
    lq_imatrix_free(im);
}
END_TEST

/* One part of a model that lies in several files. */
static void write_part(const char *path) {
    const int32_t total = 5;
    const int64_t ne[] = {32, 2};
    static const float x[64];
    lq_gguf_writer *w = NULL;
    char *bytes = NULL;
    size_t n;
    ck_ok(lq_gguf_writer_new(&w));
    ck_ok(lq_gguf_writer_set_string(w, "general.architecture", "llama"));
    ck_ok(lq_gguf_writer_set_u32(w, "split.tensors.count", (uint32_t)total));
    ck_ok(lq_gguf_writer_add(w, "token_embd.weight", LQ_TYPE_F32, 2, ne, x, sizeof x));
    ck_ok(lq_gguf_writer_write(w, path));
    lq_gguf_writer_free(w);
    ck_ok(lq_read_file(&bytes, &n, path));
    char *key = memmem(bytes, n, "split.tensors.count", 19);
    key[19] = LQ_GGUF_I32;
    ck_ok(lq_write_file(path, bytes, n));
    lq_free(bytes);
}

static uint32_t u32(const lq_gguf *g, const char *key) {
    uint32_t value = 0;
    ck_ok(lq_gguf_get_u32(g, key, true, &value));
    return value;
}

START_TEST(metadata_is_kept) {
    const char *path = test_path("q.gguf");
    lq_mix_request r = request("Q8_0");
    lq_imatrix *im = simple_imatrix(model);
    lq_gguf *in = NULL, *out = NULL;
    lq_quantize_report report;
    char *text = NULL;
    im->path = lq_strdup("some/imatrix.gguf");
    im->n_chunks = 5;
    r.imatrix = im;
    ck_ok(lq_quantize_file(model, path, &r, false, &report));
    ck_ok(lq_gguf_open(&in, model));
    ck_ok(lq_gguf_open(&out, path));
    ck_assert_int_eq(u32(out, "general.file_type"), 7);
    ck_assert_int_eq(u32(out, "general.quantization_version"), 2);
    ck_assert_int_eq(u32(out, "quantize.imatrix.entries_count"), im->n);
    ck_assert_int_eq(u32(out, "quantize.imatrix.chunks_count"), 5);
    ck_ok(lq_gguf_get_string(out, "quantize.imatrix.file", true, &text));
    ck_assert_str_eq(text, "some/imatrix.gguf");
    lq_free(text);
    for (int64_t i = 0; i < lq_gguf_n_kv(in); i++)
        ck_assert_ptr_nonnull(lq_gguf_find(out, lq_gguf_kv_at(in, i)->key));
    ck_assert_int_eq(lq_gguf_n_tensors(in), lq_gguf_n_tensors(out));
    ck_assert(report.bytes_out < report.bytes_in);
    lq_gguf_close(in);
    lq_gguf_close(out);
    lq_imatrix_free(im);
}
END_TEST

/* A matrix of one row, as a shared expert's router is, becomes a vector. */
START_TEST(trailing_ones_go) {
    static const float x[32] = {1};
    const int64_t ne[] = {32, 1, 1};
    const char *path = test_path("ones.gguf"), *to = test_path("q.gguf");
    const lq_mix_request r = request("Q8_0");
    lq_quantize_report report;
    lq_gguf_writer *w = NULL;
    lq_gguf *g = NULL;
    ck_ok(lq_gguf_writer_new(&w));
    ck_ok(lq_gguf_writer_set_string(w, "general.architecture", "llama"));
    ck_ok(lq_gguf_writer_add(w, "blk.0.ffn_gate_inp_shexp.weight", lq_f32.ggml_id, 3, ne, x,
                             sizeof x));
    ck_ok(lq_gguf_writer_write(w, path));
    ck_ok(lq_quantize_file(path, to, &r, false, &report));
    ck_ok(lq_gguf_open(&g, to));
    ck_assert_int_eq(lq_gguf_tensor_at(g, 0)->ndim, 1);
    lq_gguf_close(g);
    lq_gguf_writer_free(w);
}
END_TEST

START_TEST(refusals) {
    char path[256], nan_path[256];
    strcpy(path, test_path("no.gguf"));
    strcpy(nan_path, test_path("nan.gguf"));
    const lq_mix_request r = request("Q8_0"), down = request("F16");
    lq_quantize_report report;
    char *bytes = NULL;
    size_t n;
    ck_ok(tiny_model_write(test_path("q8.gguf"), &(tiny_model){.fmt = &lq_q8_0}));
    ck_fails(lq_quantize_file(test_path("q8.gguf"), path, &down, false, &report), LQ_EVALUE,
             "is q8_0 already");
    ck_ok(lq_quantize_file(test_path("q8.gguf"), test_path("f16.gguf"), &down, true, &report));
    ck_fails(lq_quantize_file(model, model, &r, false, &report), LQ_EVALUE,
             "is the file that is being quantized");
    ck_fails(lq_quantize_file(test_path("absent"), path, &r, false, &report), LQ_EIO, "absent");
    ck_fails(lq_quantize_file(model, "/nonexistent/x.gguf", &r, false, &report), LQ_EIO, "x.gguf");
    char part[256];
    strcpy(part, test_path("part.gguf"));
    write_part(part);
    ck_fails(lq_quantize_file(part, test_path("no.gguf"), &r, false, &report), LQ_EUNSUPPORTED,
             "has 1 of the 5 tensors");
    lq_gguf *g = NULL;
    ck_ok(lq_gguf_open(&g, model));
    const lq_gguf_tensor *k = lq_gguf_find_tensor(g, "blk.3.attn_k.weight");
    ck_ok(lq_read_file(&bytes, &n, model));
    char *at = memmem(bytes, n, k->data, 64);
    lq_gguf_close(g);
    memset(at + 100, 0xff, 2); /* a NaN */
    ck_ok(lq_write_file(nan_path, bytes, n));
    lq_free(bytes);
    ck_fails(lq_quantize_file(nan_path, path, &r, false, &report), LQ_ENONFINITE,
             "blk.3.attn_k.weight");
    ck_assert(!lq_file_exists(test_path("no.gguf")));
}
END_TEST

START_TEST(imatrix_of_another_model) {
    const char *path = test_path("no.gguf"), *tiny = test_path("tiny.gguf");
    lq_mix_request r = request("Q8_0");
    lq_quantize_report report;
    ck_ok(tiny_model_write(tiny, &(tiny_model){.n_embd = 64}));
    lq_imatrix *im = simple_imatrix(tiny);
    r.imatrix = im;
    ck_fails(lq_quantize_file(model, path, &r, false, &report), LQ_ESHAPE,
             "attn_q.weight: the importance matrix has 64 columns, the tensor 256");
    for (int64_t i = 0; i < im->n; i++) im->entry[i].name[0] = 'v';
    ck_fails(lq_quantize_file(model, path, &r, false, &report), LQ_ESHAPE,
             "made for another model");
    lq_imatrix_free(im);
}
END_TEST

static void keep_warning(void *ctx, lq_log_level level, const char *line) {
    if (level == LQ_LOG_WARN) snprintf(ctx, 300, "%s", line);
}

/* What has no statistics is quantized without, and said; Q2_K_S cannot do without. */
START_TEST(imatrix_lacks_a_tensor) {
    const char *path = test_path("lacks.gguf");
    const lq_mix_request none = request("Q2_K_S");
    lq_mix_request r = request("Q8_0"), small = request("Q2_K_S");
    lq_quantize_report report;
    char warning[300] = "";
    lq_imatrix *im = simple_imatrix(model);
    r.imatrix = small.imatrix = im;
    im->entry[0].name[0] = 'v';
    ck_ok(lq_imatrix_finish(im)); /* sorts */
    lq_set_log(keep_warning, warning);
    ck_ok(lq_quantize_file(model, path, &r, false, &report));
    lq_set_log(NULL, NULL);
    ck_assert_msg(test_contains(warning, "lacks 1 of 28 tensors") &&
                      test_contains(warning, "blk.0.attn_k.weight"), "%s", warning);
    ck_fails(lq_quantize_file(model, path, &small, false, &report), LQ_EVALUE,
             "blk.0.attn_k.weight: the importance matrix has no entry for it");
    ck_fails(lq_quantize_file(model, path, &none, false, &report), LQ_EVALUE,
             "needs an importance matrix; none was given");
    lq_imatrix_free(im);
}
END_TEST

static lq_status quantize_once(void *ctx) {
    const lq_mix_request r = request("Q8_0");
    lq_quantize_report report;
    return lq_quantize_file(ctx, test_path("out.gguf"), &r, false, &report);
}

START_TEST(allocation_failures) {
    char path[256];
    strcpy(path, test_path("tiny.gguf"));
    ck_ok(tiny_model_write(path, &(tiny_model){.n_layer = 1}));
    test_alloc_failures(quantize_once, path);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("quantize_file");
    TCase *tc = tcase_create("quantize_file");
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, bytes_are_llama_quantizes, 0, LQ_ARRAY_LEN(quantize_hashes));
    tcase_add_test(tc, metadata_is_kept);
    tcase_add_test(tc, trailing_ones_go);
    tcase_add_test(tc, refusals);
    tcase_add_test(tc, imatrix_of_another_model);
    tcase_add_test(tc, imatrix_lacks_a_tensor);
    tcase_add_test(tc, allocation_failures);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
