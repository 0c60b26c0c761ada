/* See adapter_fixture.h. */
#include "adapter_fixture.h"

#include "ggml_types.h"
#include "test_util.h"
#include "tiny_model.h"

#include <math.h>

/* `from` again at `to`, with keys that an export must not keep. */
static void add_stale_keys(const char *to, const char *from) {
    lq_gguf *g = fixture_gguf(from);
    lq_gguf_writer *w = NULL;
    ck_ok(lq_gguf_writer_new(&w));
    ck_ok(lq_gguf_writer_copy_kv(w, g));
    ck_ok(lq_gguf_writer_set_string(w, "general.base_model.0.name", "an older base"));
    ck_ok(lq_gguf_writer_set_string(w, "quantize.imatrix.file", "of an older quantization"));
    for (int64_t i = 0; i < lq_gguf_n_tensors(g); i++) {
        const lq_gguf_tensor *t = lq_gguf_tensor_at(g, i);
        ck_ok(lq_gguf_writer_add(w, t->name, t->ggml_type, t->ndim, t->ne, t->data, t->bytes));
    }
    ck_ok(lq_gguf_writer_write(w, to));
    lq_gguf_writer_free(w);
    lq_gguf_close(g);
}

lq_model *fixture_model(fixture_kind kind) {
    static const struct { const char *file; tiny_model options;
    } kinds[] = {
        [FIXTURE_UNTIED] = {"untied.gguf", {.n_ff = 44}},
        [FIXTURE_TIED] = {"tied.gguf", {.n_ff = 44, .tied = true, .no_tokenizer = true}},
        [FIXTURE_F16] = {"f16.gguf",
                         {.n_ff = 44, .fmt = &lq_f16, .biases = true, .rope_freqs = true}},
    };
    const char *path = test_path(kinds[kind].file), *plain = test_path("plain.gguf");
    lq_model *m = NULL;
    ck_ok(tiny_model_write(plain, &kinds[kind].options));
    add_stale_keys(path, plain);
    ck_ok(lq_model_open(&m, path, true));
    return m;
}

const lq_mix_request *fixture_types(const lq_format *fmt) {
    static lq_mix_request types[8];
    int i = 0;
    for (; types[i].mix; i++)
        if (types[i].mix->type == fmt->ggml_id) return &types[i];
    ck_assert_int_lt(i + 1, LQ_ARRAY_LEN(types));
    types[i] = lq_mix_plain(fmt->ggml_id);
    types[i].embedding = types[i].output = LQ_TYPE_Q8_0;
    return &types[i];
}

lq_adapter_options fixture_options(lq_qat_mode mode, const lq_format *fmt) {
    lq_adapter_options o = {.r = 4, .alpha = 8, .seed = 42, .mode = mode};
    if (mode != LQ_QAT_NONE) o.types = fixture_types(fmt);
    return o;
}

void fixture_fill(lq_adapter *a) {
    test_fill(a->param, a->n_params, 99);
    for (int64_t i = 0; i < a->n_params; i++) a->param[i] = rintf(a->param[i] * 64) / 64;
}

static double low_rank(const lq_patch *p, int64_t cols, int64_t row, int64_t col) {
    double sum = 0;
    for (int r = 0; r < p->rank; r++)
        sum += (double)p->b[row * p->rank + r] * (double)p->a[r * cols + col];
    return (double)p->scale * sum;
}

void *fixture_effective(const lq_adapter *a, int i, const lq_format *fmt, bool with_adapter) {
    const lq_weight *w = &a->model->weight[i];
    const int64_t n = w->rows * w->cols;
    float *x = lq_alloc_array(n, sizeof *x);
    void *out = lq_alloc(lq_format_bytes(fmt, n));
    w->fmt->dequant(w->data, x, n);
    for (int64_t k = 0; with_adapter && a->patch[i].rank && k < n; k++)
        x[k] = (float)((double)x[k] + low_rank(&a->patch[i], w->cols, k / w->cols, k % w->cols));
    fmt->quant(x, out, n, NULL);
    lq_free(x);
    return out;
}

lq_adapter *fixture_filled(const lq_model *m, lq_adapter_options o) {
    lq_adapter *a = NULL;
    ck_ok(lq_adapter_new(&a, m, &o, false));
    fixture_fill(a);
    ck_ok(lq_adapter_rebuild(a));
    return a;
}

lq_gguf *fixture_gguf(const char *path) {
    lq_gguf *g = NULL;
    ck_ok(lq_gguf_open(&g, path));
    return g;
}

void fixture_expect_string(const lq_gguf *g, const char *key, const char *want) {
    char *value = NULL;
    ck_ok(lq_gguf_get_string(g, key, want != NULL, &value));
    if (want) ck_assert_str_eq(value, want);
    else ck_assert_msg(!value, "%s is '%s'", key, value);
    lq_free(value);
}
