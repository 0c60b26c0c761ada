/* hf*.c: a directory opens as the GGUF that it means (names, keys, layout, types), every mistake in
 * it has a message that names it, and what is written opens again. */
#include "hf.h"

#include "atomic_file.h"
#include "hf_fixture.h"
#include "safetensors.h"
#include "test_util.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- what a directory means ------------------------------------------------------------------ */

static const lq_weight *weight(const lq_model *m, const char *name) {
    const int i = lq_model_find_name(m, name);
    ck_assert_msg(i >= 0, "%s is not there", name);
    return &m->weight[i];
}

static void expect_rows(const lq_model *m, const char *name, const char *tensor, int64_t heads) {
    const lq_weight *w = weight(m, name);
    float *got = lq_alloc_array(w->rows * w->cols, sizeof *got);
    w->fmt->dequant(w->data, got, w->rows * w->cols);
    const int64_t d = heads ? w->rows / heads : w->rows;
    for (int64_t r = 0; r < w->rows; r++) {
        const int64_t i = r % d;   /* 2k is row k of the first half, 2k+1 of the second */
        const int64_t from = heads ? r - i + i / 2 + i % 2 * (d / 2) : r;
        for (int64_t c = 0; c < w->cols; c++)
            ck_assert_msg(got[r * w->cols + c] == hf_fixture_value(tensor, from * w->cols + c),
                          "%s (%lld,%lld) is %g", name, (long long)r, (long long)c,
                          (double)got[r * w->cols + c]);
    }
    lq_free(got);
}

static const hf_change formats[] = {{.fmt = NULL}, {.fmt = &lq_f16}, {.fmt = &lq_bf16},
                                    {.fmt = &lq_bf16, .shard_bytes = 300}};

START_TEST(opens) {
    lq_model *m = NULL;
    uint32_t n = 0;
    ck_ok(lq_model_open(&m, hf_fixture("good", &formats[_i]), true));
    ck_assert(m->hp.n_vocab == HF_VOCAB && m->hp.n_embd == HF_EMBD && m->hp.n_layer == HF_LAYERS);
    ck_assert(m->hp.n_head == HF_HEADS && m->hp.n_head_kv == HF_KV && m->hp.n_ff == HF_FF);
    ck_assert(m->hp.rope_freq_base == 5000 && m->hp.norm_eps == 1e-5f && !m->tied);
    ck_ok(lq_gguf_get_u32(m->file, "llama.rope.dimension_count", true, &n));
    ck_assert_uint_eq(n, 4);
    const lq_format *fmt = formats[_i].fmt ? formats[_i].fmt : &lq_f32;
    ck_assert_ptr_eq(weight(m, "blk.1.attn_q.weight")->fmt, fmt);
    ck_assert_ptr_eq(weight(m, "output_norm.weight")->fmt, &lq_f32);
    expect_rows(m, "token_embd.weight", "model.embed_tokens.weight", 0);
    expect_rows(m, "output.weight", "lm_head.weight", 0);
    expect_rows(m, "output_norm.weight", "model.norm.weight", 0);
    expect_rows(m, "blk.1.attn_q.weight", "model.layers.1.self_attn.q_proj.weight", HF_HEADS);
    expect_rows(m, "blk.0.attn_k.weight", "model.layers.0.self_attn.k_proj.weight", HF_KV);
    expect_rows(m, "blk.0.attn_v.weight", "model.layers.0.self_attn.v_proj.weight", 0);
    expect_rows(m, "blk.1.ffn_down.weight", "model.layers.1.mlp.down_proj.weight", 0);
    lq_model_close(m);
}
END_TEST

/* qwen2 rotates halves: its rows stay, and so does its memory. */
START_TEST(unpermuted_family) {
    const hf_change change = {.class = "Qwen2ForCausalLM"};
    lq_model *m = NULL;
    int n;
    ck_ok(lq_model_open(&m, hf_fixture("qwen2", &change), true));
    const lq_weight *q = weight(m, "blk.0.attn_q.weight");
    expect_rows(m, "blk.0.attn_q.weight", "model.layers.0.self_attn.q_proj.weight", 0);
    const lq_bytes *file = lq_gguf_regions(m->file, &n);
    ck_assert_int_eq(n, 2);   /* the weights, and the keys */
    ck_assert((const char *)q->data > (const char *)file[0].p &&
              (const char *)q->data < (const char *)file[0].p + file[0].n);
    lq_model_close(m);
}
END_TEST

START_TEST(tied_and_spelled_otherwise) {
    const hf_change tied = {.replace = "false", .with = "true", .drop = "lm_head.weight"};
    const hf_change bare = {.rename = "model.norm.weight", .to = "norm.weight"};
    const hf_change nested = {.rename = "model.norm.weight",
                              .to = "model.language_model.norm.weight"};
    const hf_change *const changes[] = {&tied, &bare, &nested};
    for (int i = 0; i < LQ_ARRAY_LEN(changes); i++) {
        lq_model *m = NULL;
        ck_ok(lq_model_open(&m, hf_fixture("spelled", changes[i]), true));
        ck_assert_int_eq(m->tied, i == 0);
        lq_model_close(m);
    }
}
END_TEST

static char tied_log[512];

static void keep_log(void *ctx, lq_log_level level, const char *line) {
    (void)ctx;
    snprintf(tied_log, sizeof tied_log, "%d: %s", (int)level, line);
}

/* A head that need not be there: said, and used where it is another matrix. */
static const struct {
    hf_change change;
    bool tied;
    lq_log_level level;
    const char *says;
} heads[] = {
    {{.replace = "false", .with = "true", .same_head = true}, false, LQ_LOG_INFO,
     "config.json: embedding and head are tied, and lm_head.weight is stored too: it is the same"},
    {{.replace = "false", .with = "true"}, false, LQ_LOG_WARN, "the stored head is used"},
    {{.class = "GemmaForCausalLM", .replace = "\"silu\", \"tie_word_embeddings\": false",
      .with = "\"gelu_pytorch_tanh\", \"head_dim\": 4"}, true, LQ_LOG_WARN,
     "lm_head.weight is another matrix than the embedding, and is not used: gemma has no head"},
};

START_TEST(stored_heads) {
    lq_model *m = NULL;
    lq_set_log(keep_log, NULL);
    ck_ok(lq_model_open(&m, hf_fixture("head", &heads[_i].change), true));
    lq_set_log(NULL, NULL);
    ck_assert_int_eq(m->tied, heads[_i].tied);
    ck_assert_int_eq(tied_log[0] - '0', heads[_i].level);
    ck_assert_msg(test_contains(tied_log, heads[_i].says), "%s", tied_log);
    if (!heads[_i].tied)
        expect_rows(m, "output.weight", heads[_i].change.same_head ? "model.embed_tokens.weight"
                                                                   : "lm_head.weight", 0);
    lq_model_close(m);
}
END_TEST

START_TEST(rope_scaling) {
    const hf_change linear = {.replace = "\"rope_theta\": 5000.0",
        .with = "\"rope_theta\": 5000.0, \"rope_scaling\": {\"type\": \"linear\", \"factor\": 4}"};
    const hf_change llama3 = {.replace = "\"rope_theta\": 5000.0",
        .with = "\"rope_parameters\": {\"rope_type\": \"llama3\", \"rope_theta\": 5000.0, "
                "\"factor\": 8.0, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, "
                "\"original_max_position_embeddings\": 32}"};
    const hf_change yarn = {.replace = "\"rope_theta\": 5000.0",
        .with = "\"rope_theta\": 5000.0, \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4, "
                "\"original_max_position_embeddings\": 16, \"beta_fast\": 8}"};
    lq_model *m = NULL;
    ck_ok(lq_model_open(&m, hf_fixture("yarn", &yarn), true));
    ck_assert(m->hp.yarn_factor == 4 && m->hp.yarn_beta_fast == 8 && m->hp.n_ctx_orig == 16);
    lq_model_close(m);
    ck_ok(lq_model_open(&m, hf_fixture("linear", &linear), true));
    ck_assert(m->hp.rope_freq_scale == 0.25f && m->hp.rope_freq_base == 5000);
    lq_model_close(m);
    ck_ok(lq_model_open(&m, hf_fixture("llama3", &llama3), true));
    const float *f = weight(m, "rope_freqs.weight")->data;
    ck_assert_float_eq(f[0], 1);   /* a wave of 2 pi positions */
    ck_assert_float_eq(f[1], 8);   /* of 444, longer than the 32 of the old context */
    lq_model_close(m);
}
END_TEST

/* ---- mistakes -------------------------------------------------------------------------------- */

static const struct {
    hf_change change;
    lq_status status;
    const char *message;
} bad[] = {
    {{.class = "MambaForCausalLM"}, LQ_EUNSUPPORTED,
     "architecture 'MambaForCausalLM' is not supported yet as a directory; supported: LlamaFor"},
    {{.replace = "architectures", .with = "x"}, LQ_EFORMAT, "architectures is missing"},
    {{.replace = "\"hidden_size\": 8,", .with = ""}, LQ_EFORMAT, "\nhidden_size is missing"},
    {{.replace = "\"num_hidden_layers\": 2", .with = "\"num_hidden_layers\": \"two\""}, LQ_EFORMAT,
     "\nnum_hidden_layers must be a whole number from 1 on"},
    {{.replace = "1e-05", .with = "\"small\""}, LQ_EFORMAT, "rms_norm_eps is a string, must be a"},
    {{.replace = "silu", .with = "relu"}, LQ_EUNSUPPORTED, "the activation is 'relu'"},
    {{.replace = "{", .with = "{\"quantization_config\": {\"quant_method\": \"gptq\"},"},
     LQ_EUNSUPPORTED, "the weights are quantized (quantization_config: gptq)"},
    {{.replace = "5000.0",
      .with = "5000.0, \"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 2}"},
     LQ_EUNSUPPORTED, "rope type 'dynamic' is not supported"},
    {{.replace = "5000.0", .with = "5000.0, \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 2}"},
     LQ_EFORMAT, "rope type yarn needs original_max_position_embeddings"},
    {{.replace = "5000.0", .with = "5000.0, \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 2, "
      "\"original_max_position_embeddings\": 16, \"attention_factor\": 1}"},
     LQ_EUNSUPPORTED, "attention_factor is 1, must be 0.1 ln(factor) + 1 = 1.06931"},
    {{.replace = "5000.0", .with = "5000.0, \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 2, "
      "\"original_max_position_embeddings\": 16, \"truncate\": false}"},
     LQ_EUNSUPPORTED, "truncate is false"},
    {{.replace = "{", .with = "{{"}, LQ_EFORMAT, "config.json:1: broken JSON"},
    {{.replace = "\"num_hidden_layers\": 2", .with = "\"num_hidden_layers\": 3"}, LQ_ESHAPE,
     "blk.2.attn_q.weight (model.layers.2.self_attn.q_proj.weight) is missing"},
    {{.replace = "\"num_hidden_layers\": 2", .with = "\"num_hidden_layers\": 1"}, LQ_ESHAPE,
     "blk.1.attn_q.weight is not a tensor of architecture llama"},
    {{.replace = "\"intermediate_size\": 10", .with = "\"intermediate_size\": 12"}, LQ_ESHAPE,
     "blk.0.ffn_up.weight is (8,10), must be (8,12)"},
    {{.replace = "\"vocab_size\": 12", .with = "\"vocab_size\": 13"}, LQ_ESHAPE,
     "token_embd.weight is (8,12), must be (8,13)"},
    {{.replace = "\"num_key_value_heads\": 1", .with = "\"num_key_value_heads\": 2"}, LQ_ESHAPE,
     "blk.0.attn_k.weight is (8,4), must be (8,8)"},
    {{.drop = "lm_head.weight"}, LQ_ESHAPE,
     "tie_word_embeddings is false, but lm_head.weight is missing"},
    {{.drop = "model.layers.1.mlp.up_proj.weight"}, LQ_ESHAPE,
     "(model.layers.1.mlp.up_proj.weight) is missing"},
    {{.rename = "model.layers.0.mlp.up_proj.weight", .to = "model.layers.0.mlp.extra.weight"},
     LQ_ESHAPE, "\nmodel.layers.0.mlp.extra.weight is not a tensor of architecture llama"},
    {{.narrow = "model.layers.0.self_attn.q_proj.weight"}, LQ_ESHAPE,
     "blk.0.attn_q.weight is (8,7), must be (8,8)"},
};

START_TEST(mistakes) {
    lq_model *m = NULL;
    const char *dir = hf_fixture("bad", &bad[_i].change);
    ck_fails(lq_model_open(&m, dir, true), bad[_i].status, bad[_i].message);
    ck_assert_msg(test_contains(lq_error(), dir), "no path: %s", lq_error());
}
END_TEST

START_TEST(no_weights) {
    lq_model *m = NULL;
    const char *dir = hf_fixture("empty", NULL);
    char *weights = lq_path_join(dir, "model.safetensors");
    char *pickled = lq_path_join(dir, "pytorch_model.bin");
    ck_assert_int_eq(unlink(weights), 0);
    ck_fails(lq_model_open(&m, dir, true), LQ_EIO, "has no model.safetensors");
    ck_ok(lq_write_file(pickled, "x", 1));
    ck_fails(lq_model_open(&m, dir, true), LQ_EUNSUPPORTED, "has pytorch_model.bin; wanted");
    lq_free(weights);
    lq_free(pickled);
}
END_TEST

START_TEST(unreadable_type) {
    static const char header[] =
        "{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[1],\"data_offsets\":[0,1]}}";
    const uint64_t n = sizeof header - 1;
    char bytes[8 + sizeof header];
    lq_model *m = NULL;
    const char *dir = hf_fixture("typed", NULL);
    char *path = lq_path_join(dir, "model.safetensors");
    memcpy(bytes, &n, 8);
    memcpy(bytes + 8, header, n);
    bytes[8 + n] = 0;
    ck_ok(lq_write_file(path, bytes, sizeof bytes));
    ck_fails(lq_model_open(&m, dir, true), LQ_EUNSUPPORTED, "a is F8_E4M3 in 1 dimensions");
    lq_free(path);
}
END_TEST

/* ---- written again --------------------------------------------------------------------------- */

START_TEST(config_is_carried) {
    lq_model *m = NULL, *again = NULL;
    const char *dir = hf_fixture("carried", NULL), *out = test_path("carried_out");
    char *from = lq_path_join(dir, "model.safetensors");
    char *to = lq_path_join(out, "model.safetensors");
    ck_ok(lq_make_dirs(out));
    ck_ok(lq_model_open(&m, dir, true));
    ck_ok(lq_hf_write_files(m, &lq_f32, out));
    ck_assert_int_eq(link(from, to), 0);
    ck_ok(lq_model_open(&again, out, true));
    ck_assert(memcmp(&m->hp, &again->hp, sizeof m->hp) == 0);
    lq_model_close(again);
    lq_model_close(m);
    lq_free(from);
    lq_free(to);
}
END_TEST

static lq_status open_and_close(void *ctx) {
    lq_model *m = NULL;
    LQ_TRY(lq_model_open(&m, ctx, true));
    lq_model_close(m);
    return LQ_OK;
}

START_TEST(failing_allocations) {
    test_alloc_failures(open_and_close, (void *)hf_fixture("alloc", NULL));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("hf");
    TCase *t = tcase_create("all");
    tcase_add_loop_test(t, opens, 0, LQ_ARRAY_LEN(formats));
    tcase_add_test(t, unpermuted_family);
    tcase_add_test(t, tied_and_spelled_otherwise);
    tcase_add_loop_test(t, stored_heads, 0, LQ_ARRAY_LEN(heads));
    tcase_add_test(t, rope_scaling);
    tcase_add_loop_test(t, mistakes, 0, LQ_ARRAY_LEN(bad));
    tcase_add_test(t, no_weights);
    tcase_add_test(t, unreadable_type);
    tcase_add_test(t, config_is_carried);
    tcase_add_test(t, failing_allocations);
    suite_add_tcase(suite, t);
    return test_run(suite);
}
