/* model.c, bind.c, hparams.c, finite.c, arch.c: every variant of tiny models loads; what does not
 * fit is named. */
#include "model.h"

#include "test_util.h"
#include "tiny_model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- loading ---- */

static const tiny_model variants[] = {
    {.seed = 1},
    {.tied = true},
    {.biases = true, .rope_freqs = true, .rope_factor = 2},
    {.fmt = &lq_f16, .no_tokenizer = true, .n_vocab = 33},
    {.fmt = &lq_bf16, .n_head_kv = 1, .head_dim = 8},
    {.fmt = &lq_q8_0, .tied = true},
    {.fmt = &lq_q4_0, .n_ff = 44},
    {.arch = "qwen2", .biases = false},
    {.arch = "qwen3", .qk_norms = true, .head_dim = 32},
    {.fmt = &lq_q8_0, .n_expert = 3},
};

static const char *write_variant(const tiny_model *o) {
    static char path[256];
    snprintf(path, sizeof path, "%s", test_path("variant.gguf"));
    ck_ok(tiny_model_write(path, o));
    return path;
}

START_TEST(variants_load) {
    const tiny_model *o = &variants[_i];
    lq_model *m = NULL;
    ck_ok(lq_model_open(&m, write_variant(o), true));
    ck_assert_int_eq(m->tied, o->tied);
    ck_assert_int_eq(m->tokenizer == NULL, o->no_tokenizer);
    ck_assert_int_eq(m->n_weights, lq_gguf_n_tensors(m->file));
    ck_assert_int_eq(lq_model_find(m, LQ_ROLE_ATTN_Q, 1, true) >= 0, o->biases);
    const int q = lq_model_find_name(m, "blk.1.attn_q.weight");
    ck_assert_int_eq(q, lq_model_find(m, LQ_ROLE_ATTN_Q, 1, false));
    ck_assert_str_eq(m->weight[q].module, "model.layers.1.self_attn.q_proj");
    ck_assert_ptr_eq(m->weight[q].fmt, o->fmt ? o->fmt : &lq_f32);
    ck_assert(lq_weight_is_linear(&m->weight[q]));
    lq_model_close(m);
}
END_TEST

/* ---- what does not fit ---- */

/* Copies the model of all defaults with one thing changed. */
typedef struct change {
    const char *what;
    const char *remove_key, *set_string, *set_u32, *set_f32;   /* keys */
    const char *text;
    uint32_t u32;
    float f32;
    const char *drop, *rename, *reshape, *retype, *poison;     /* tensors */
    lq_status status;
    const char *message;
} change;

static const change changes[] = {
    {"unknown architecture", .set_string = "general.architecture", .text = "mamba",
     .status = LQ_EUNSUPPORTED,
     .message = "'mamba' is not supported yet; it would need state-space layers (Mamba); "
                "supported: llama, qwen2, qwen3"},
    {"unknown tensors", .set_string = "general.architecture", .text = "new",
     .rename = "blk.0.ffn_up.weight", .status = LQ_EUNSUPPORTED,
     .message = "; tensors that no supported architecture has: stray"},
    {"experts of another kind", .set_u32 = "llama.expert_count", .u32 = 8,
     .set_f32 = "llama.expert_weights_scale", .f32 = 2, .status = LQ_EUNSUPPORTED,
     .message = "a mixture of experts of another kind"},
    {"no architecture", .remove_key = "general.architecture", .status = LQ_EFORMAT,
     .message = "key general.architecture is missing"},
    {"an adapter", .set_string = "general.type", .text = "adapter", .status = LQ_EVALUE,
     .message = "is an adapter"},
    {"no context", .remove_key = "llama.context_length", .status = LQ_EFORMAT,
     .message = "key llama.context_length is missing"},
    {"no epsilon", .remove_key = "llama.attention.layer_norm_rms_epsilon", .status = LQ_EFORMAT,
     .message = "layer_norm_rms_epsilon is missing"},
    {"wrong type", .set_f32 = "llama.block_count", .f32 = 2, .status = LQ_EFORMAT,
     .message = "key llama.block_count is of type f32, must be u32"},
    {"no layers", .set_u32 = "llama.block_count", .u32 = 0, .status = LQ_EFORMAT,
     .message = "block_count is 0"},
    {"many layers", .set_u32 = "llama.block_count", .u32 = 513, .status = LQ_EFORMAT,
     .message = "from 1 to 512"},
    {"heads", .set_u32 = "llama.attention.head_count_kv", .u32 = 3, .status = LQ_EFORMAT,
     .message = "4 attention heads cannot share 3"},
    {"value size", .set_u32 = "llama.attention.value_length", .u32 = 8, .status = LQ_EUNSUPPORTED,
     .message = "they must be equal"},
    {"partial rotary", .set_u32 = "llama.rope.dimension_count", .u32 = 8, .status = LQ_EUNSUPPORTED,
     .message = "rope.dimension_count is 8, must be the head size 16"},
    {"scaling", .set_string = "llama.rope.scaling.type", .text = "su", .status = LQ_EUNSUPPORTED,
     .message = "is 'su', which is not supported yet"},
    {"experts", .set_u32 = "llama.expert_count", .u32 = 8, .status = LQ_EFORMAT,
     .message = "key llama.expert_used_count is missing"},
    {"tokenizer kind", .set_string = "tokenizer.ggml.model", .text = "bert",
     .status = LQ_EUNSUPPORTED, .message = "bert"},
    {"missing tensor", .drop = "blk.1.attn_k.weight", .status = LQ_ESHAPE,
     .message = "blk.1.attn_k.weight (model.layers.1.self_attn.k_proj.weight) is missing"},
    {"unknown tensor", .rename = "blk.0.ffn_up.weight", .status = LQ_ESHAPE,
     .message =
         "blk.0.ffn_up.weight (model.layers.0.mlp.up_proj.weight) is missing\nstray.weight is not "
         "a tensor of architecture llama"},
    {"wrong shape", .reshape = "blk.0.ffn_down.weight", .status = LQ_ESHAPE,
     .message = "blk.0.ffn_down.weight is (6144), must be (96,64)"},
    {"vocabulary", .reshape = "token_embd.weight", .status = LQ_ESHAPE,
     .message = "token_embd.weight is (20480), must be (64,320)"},
    {"norm's type", .retype = "blk.0.attn_norm.weight", .status = LQ_ESHAPE,
     .message = "must be F32 as norms and biases are"},
    {"unreadable type", .retype = "blk.0.attn_q.weight", .status = LQ_ESHAPE,
     .message = "blk.0.attn_q.weight is I8, which Loquat cannot read yet"},
    {"NaN", .poison = "blk.1.ffn_gate.weight", .status = LQ_ENONFINITE,
     .message = "blk.1.ffn_gate.weight has a NaN at row 1, column 6"},
};

static bool is(const char *name, const char *wanted) { return wanted && strcmp(name, wanted) == 0; }

static void add_changed(lq_gguf_writer *w, const change *c, const lq_gguf_tensor *t,
                        float **poisoned) {
    const int64_t n = t->ne[0] * t->ne[1], whole = 256;
    if (is(t->name, c->drop)) return;
    if (is(t->name, c->reshape)) {
        ck_ok(lq_gguf_writer_add(w, t->name, t->ggml_type, 1, &n, t->data, t->bytes));
    } else if (is(t->name, c->retype)) {   /* I8 (24) for a matrix, F16 for a vector */
        const bool vector = t->ndim == 1;
        ck_ok(lq_gguf_writer_add(w, t->name, vector ? 1 : 24, 1, vector ? t->ne : &whole, t->data,
                                 vector ? (uint64_t)t->ne[0] * 2 : 256));
    } else if (is(t->name, c->poison)) {
        *poisoned = lq_alloc(t->bytes);
        memcpy(*poisoned, t->data, t->bytes);
        (*poisoned)[70] = NAN;
        ck_ok(lq_gguf_writer_add(w, t->name, t->ggml_type, t->ndim, t->ne, *poisoned, t->bytes));
    } else {
        ck_ok(lq_gguf_writer_add(w, is(t->name, c->rename) ? "stray.weight" : t->name, t->ggml_type,
                                 t->ndim, t->ne, t->data, t->bytes));
    }
}

static const char *write_changed(const change *c) {
    static char path[256];
    lq_gguf *g = NULL;
    lq_gguf_writer *w = NULL;
    float *poisoned = NULL;
    snprintf(path, sizeof path, "%s", test_path("changed.gguf"));
    ck_ok(lq_gguf_open(&g, test_tiny_model()));
    ck_ok(lq_gguf_writer_new(&w));
    ck_ok(lq_gguf_writer_copy_kv(w, g));
    if (c->remove_key) lq_gguf_writer_remove(w, c->remove_key);
    if (c->set_string) ck_ok(lq_gguf_writer_set_string(w, c->set_string, c->text));
    if (c->set_u32) ck_ok(lq_gguf_writer_set_u32(w, c->set_u32, c->u32));
    if (c->set_f32) ck_ok(lq_gguf_writer_set_f32(w, c->set_f32, c->f32));
    for (int64_t i = 0; i < lq_gguf_n_tensors(g); i++)
        add_changed(w, c, lq_gguf_tensor_at(g, i), &poisoned);
    ck_ok(lq_gguf_writer_write(w, path));
    lq_gguf_writer_free(w);
    lq_gguf_close(g);
    lq_free(poisoned);
    return path;
}

START_TEST(misfits_are_named) {
    lq_model *m = NULL;
    const char *path = write_changed(&changes[_i]);
    ck_fails(lq_model_open(&m, path, true), changes[_i].status, changes[_i].message);
    ck_assert_msg(strncmp(lq_error(), path, strlen(path)) == 0, "%s: '%s'", changes[_i].what,
                  lq_error());
    ck_assert_ptr_null(m);
}
END_TEST

START_TEST(harmless_keys_are_taken) {
    const uint32_t heads[2] = {4, 4}, mixed[2] = {4, 2};
    lq_gguf *g = NULL;
    lq_gguf_writer *w = NULL;
    lq_model *m = NULL;
    const char *path = test_path("lists.gguf");
    ck_ok(lq_gguf_open(&g, test_tiny_model()));
    ck_ok(lq_gguf_writer_new(&w));
    ck_ok(lq_gguf_writer_copy_kv(w, g));
    ck_ok(lq_gguf_writer_set_array(w, "llama.attention.head_count", LQ_GGUF_U32, heads, 2));
    ck_ok(lq_gguf_writer_set_u32(w, "llama.attention.sliding_window",
                                 4)); /* llama.cpp ignores it for llama */
    ck_ok(lq_gguf_writer_set_string(w, "llama.rope.scaling.type", "none"));
    ck_ok(lq_gguf_writer_set_f32(w, "llama.rope.scaling.factor", 4));
    for (int64_t i = 0; i < lq_gguf_n_tensors(g); i++) {
        const lq_gguf_tensor *t = lq_gguf_tensor_at(g, i);
        ck_ok(lq_gguf_writer_add(w, t->name, t->ggml_type, t->ndim, t->ne, t->data, t->bytes));
    }
    ck_ok(lq_gguf_writer_write(w, path));
    ck_ok(lq_model_open(&m, path, true));
    ck_assert_int_eq(m->hp.n_head, 4);
    ck_assert_int_eq(m->hp.sliding_window, 0);
    ck_assert(m->hp.rope_freq_scale == 1);
    lq_model_close(m);
    m = NULL;
    ck_ok(lq_gguf_writer_set_array(w, "llama.attention.head_count", LQ_GGUF_U32, mixed, 2));
    ck_ok(lq_gguf_writer_write(w, path));
    ck_fails(lq_model_open(&m, path, true), LQ_EUNSUPPORTED, "differs between layers");
    lq_gguf_writer_free(w);
    lq_gguf_close(g);
}
END_TEST

static lq_status open_model(void *ctx) {
    lq_model *m = NULL;
    LQ_TRY(lq_model_open(&m, ctx, true));
    lq_model_close(m);
    return LQ_OK;
}

START_TEST(failed_allocations_are_clean) {
    test_alloc_failures(open_model,
                        (void *)write_variant(&(tiny_model){.n_layer = 1, .biases = true}));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("model");
    TCase *tc = tcase_create("model");
    tcase_add_loop_test(tc, variants_load, 0, LQ_ARRAY_LEN(variants));
    tcase_add_loop_test(tc, misfits_are_named, 0, LQ_ARRAY_LEN(changes));
    tcase_add_test(tc, harmless_keys_are_taken);
    tcase_add_test(tc, failed_allocations_are_clean);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
