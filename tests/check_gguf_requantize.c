/* gguf_requantize.c: matrices in another format, everything else as it was. */
#include "gguf_requantize.h"

#include "test_util.h"
#include "tiny_model.h"

#include <string.h>

static const struct { const char *tensor; const lq_format *q4, *q8, *f16; } wanted[] = {
    {"blk.0.attn_q.weight", &lq_q4_0, &lq_q8_0, &lq_f16},
    {"blk.1.ffn_up.weight", &lq_q4_0, &lq_q8_0, &lq_f16},
    {"blk.1.ffn_down.weight", &lq_f16, &lq_f16, &lq_f16},   /* rows of 44: no block divides them */
    {"token_embd.weight", &lq_q8_0, &lq_q8_0, &lq_f16},
    {"output.weight", &lq_q8_0, &lq_q8_0, &lq_f16},
    {"blk.0.attn_norm.weight", &lq_f32, &lq_f32, &lq_f32},
    {"blk.0.attn_q.bias", &lq_f32, &lq_f32, &lq_f32},
};

static lq_gguf *open_base(const lq_format *fmt) {
    const tiny_model options = {.n_ff = 44, .biases = true, .fmt = fmt, .no_tokenizer = true};
    const char *path = test_path("base.gguf");
    lq_gguf *base = NULL;
    ck_ok(tiny_model_write(path, &options));
    ck_ok(lq_gguf_open(&base, path));
    return base;
}

static const lq_format *format_of(int i, int type) {
    return type == 0 ? wanted[i].q4 : type == 1 ? wanted[i].q8 : wanted[i].f16;
}

START_TEST(types_and_bytes) {
    const lq_format *const types[] = {&lq_q4_0, &lq_q8_0, &lq_f16};
    lq_gguf *base = open_base(&lq_f32), *source = open_base(&lq_f32), *g = NULL;
    uint64_t bytes = 0, file_type = 0;
    const uint64_t said = lq_gguf_requantized_bytes(base, types[_i]);
    ck_ok(lq_gguf_requantize(&g, base, types[_i]));
    for (int i = 0; i < LQ_ARRAY_LEN(wanted); i++) {
        const lq_gguf_tensor *t = lq_gguf_find_tensor(g, wanted[i].tensor);
        const lq_gguf_tensor *from = lq_gguf_find_tensor(source, wanted[i].tensor);
        ck_assert_msg(t && t->fmt == format_of(i, _i), "%s is %s", wanted[i].tensor, t->fmt->label);
        char *want = lq_alloc(t->bytes);
        t->fmt->quant(from->data, want, t->ne[0] * t->ne[1], NULL);
        ck_assert_mem_eq(t->data, want, t->bytes);
        lq_free(want);
    }
    for (int64_t i = 0; i < lq_gguf_n_tensors(g); i++) bytes += lq_gguf_tensor_at(g, i)->bytes;
    ck_assert_uint_eq(bytes, said);
    ck_ok(lq_gguf_get_u32(g, "general.file_type", true, (uint32_t *)&file_type));
    ck_assert_uint_eq(file_type, (uint64_t)types[_i]->file_type);
    lq_gguf_close(source);
    lq_gguf_close(g);
}
END_TEST

/* Nothing grows: a Q4_0 base asked for in Q8_0 stays as it is. */
START_TEST(smaller_ones_stay) {
    lq_gguf *g = NULL;
    ck_ok(lq_gguf_requantize(&g, open_base(&lq_q4_0), &lq_q8_0));
    ck_assert_ptr_eq(lq_gguf_find_tensor(g, "blk.0.attn_q.weight")->fmt, &lq_q4_0);
    lq_gguf_close(g);
}
END_TEST

static lq_status open_and_requantize(void *ctx) {
    lq_gguf *base = NULL, *g = NULL;
    LQ_TRY(lq_gguf_open(&base, ctx));
    const lq_status status = lq_gguf_requantize(&g, base, &lq_q4_0);
    lq_gguf_close(status == LQ_OK ? g : base);
    return status;
}

START_TEST(failing_allocations) {
    lq_gguf_close(open_base(&lq_f32));
    test_alloc_failures(open_and_requantize, (void *)test_path("base.gguf"));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("gguf_requantize");
    TCase *t = tcase_create("all");
    tcase_add_loop_test(t, types_and_bytes, 0, 3);
    tcase_add_test(t, smaller_ones_stay);
    tcase_add_test(t, failing_allocations);
    suite_add_tcase(suite, t);
    return test_run(suite);
}
