/* hparams.c: defaults, patterns and scales of the families, from files that hold keys alone; what
 * contradicts itself is refused by key. */
#include "model_parts.h"

#include "test_util.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* A key of the architecture's own, as u32, f32 or text. */
typedef struct setting {
    const char *key;
    uint32_t u32;
    float f32;
    const char *text;
} setting;

enum { MAX_SETTINGS = 4 };

static lq_status write_setting(lq_gguf_writer *w, const char *arch, const setting *s) {
    char key[96];
    snprintf(key, sizeof key, "%s.%s", arch, s->key);
    if (s->text) return lq_gguf_writer_set_string(w, key, s->text);
    if (s->u32) return lq_gguf_writer_set_u32(w, key, s->u32);
    return lq_gguf_writer_set_f32(w, key, s->f32);
}

/* Sizes that fit every row, then the settings; flags: a sliding_window_pattern as a list. */
static lq_status read_keys(lq_hparams *hp, const char *arch, const setting *more, const bool *flags,
                           uint64_t n_flags) {
    static const setting sizes[] = {
        {.key = "context_length", .u32 = 512},
        {.key = "embedding_length", .u32 = 96},
        {.key = "block_count", .u32 = 7},
        {.key = "feed_forward_length", .u32 = 80},
        {.key = "attention.head_count", .u32 = 6},
        {.key = "attention.head_count_kv", .u32 = 2},
        {.key = "attention.layer_norm_rms_epsilon", .f32 = 1e-6F},
        {.key = "attention.layer_norm_epsilon", .f32 = 1e-5F},
    };
    const char *path = test_path("keys.gguf");
    const lq_arch *row = NULL;
    lq_gguf_writer *w = NULL;
    lq_gguf *file = NULL;
    char key[96];
    ck_ok(lq_arch_find(&row, arch));
    ck_ok(lq_gguf_writer_new(&w));
    for (int i = 0; i < LQ_ARRAY_LEN(sizes); i++) ck_ok(write_setting(w, arch, &sizes[i]));
    for (int i = 0; i < MAX_SETTINGS && more[i].key; i++) ck_ok(write_setting(w, arch, &more[i]));
    snprintf(key, sizeof key, "%s.attention.sliding_window_pattern", arch);
    if (flags) ck_ok(lq_gguf_writer_set_array(w, key, LQ_GGUF_BOOL, flags, n_flags));
    ck_ok(lq_gguf_writer_write(w, path));
    lq_gguf_writer_free(w);
    ck_ok(lq_gguf_open(&file, path));
    const lq_status status = lq_hparams_read(hp, file, row);
    lq_gguf_close(file);
    return status;
}

/* ---- what is read ---- */

#define OF(field) offsetof(lq_hparams, field)

static const struct {
    const char *arch;
    setting more[MAX_SETTINGS];
    size_t offset;
    double want;
    bool is_size;
} values[] = {
    {"gemma", {{0}}, OF(embed_scale), 9.797958971, false},
    {"gemma2", {{0}}, OF(sliding_window), 4096, true},
    {"gemma2", {{0}}, OF(attn_softcap), 50, false},
    {"gemma2", {{0}}, OF(final_softcap), 30, false},
    {"gemma2", {{.key = "attn_logit_softcapping", .f32 = 20}}, OF(attn_softcap), 20, false},
    {"gemma2", {{.key = "rope.freq_base", .f32 = 500}}, OF(local_freq_base), 500, false},
    {"gemma2", {{.key = "block_count", .u32 = 46}, {.key = "attention.key_length", .u32 = 4},
                {.key = "attention.value_length", .u32 = 4}}, OF(attn_scale), 0.25, false},
    {"gemma3", {{0}}, OF(sliding_window), 0, true},
    {"gemma3", {{0}}, OF(final_softcap), 0, false},
    {"gemma3", {{.key = "attention.key_length", .u32 = 4},
                {.key = "attention.value_length", .u32 = 4}}, OF(attn_scale), 0.5, false},
    {"gemma3", {{.key = "block_count", .u32 = 62}, {.key = "attention.key_length", .u32 = 4},
                {.key = "attention.value_length", .u32 = 4}}, OF(attn_scale), 0.25, false},
    {"gemma3", {{.key = "attention.sliding_window", .u32 = 8},
                {.key = "rope.freq_base", .f32 = 500}}, OF(local_freq_base), 10000, false},
    {"gemma3", {{.key = "attention.sliding_window", .u32 = 8},
                {.key = "rope.scaling.factor", .f32 = 8}}, OF(local_freq_scale), 1, false},
    {"gemma3", {{.key = "rope.scaling.factor", .f32 = 8}}, OF(rope_freq_scale), 0.125, false},
    {"phi3", {{0}}, OF(n_ctx_orig), 512, true},
    {"phi3", {{.key = "rope.scaling.original_context_length", .u32 = 64}}, OF(n_ctx_orig), 64,
     true},
    {"phi3", {{.key = "rope.dimension_count", .u32 = 12}}, OF(n_rot), 12, true},
    {"phi3", {{.key = "rope.scaling.type", .text = "longrope"}}, OF(rope_freq_scale), 1, false},
    {"phi3", {{.key = "attention.sliding_window", .u32 = 8}}, OF(sliding_window), 0, true},
    {"qwen2", {{.key = "rope.scaling.type", .text = "yarn"},
               {.key = "rope.scaling.factor", .f32 = 4}}, OF(rope_attn_factor), 1.138629436, false},
    {"qwen2", {{.key = "rope.scaling.type", .text = "yarn"},
               {.key = "rope.scaling.factor", .f32 = 4}}, OF(rope_freq_scale), 1, false},
    {"falcon", {{0}}, OF(norm_eps), 1e-5, false},
    {"mpt", {{.key = "attention.clamp_kqv", .f32 = 6}}, OF(clamp_qkv), 6, false},
    {"mpt", {{.key = "attention.max_alibi_bias", .f32 = 8}}, OF(alibi), 8, false},
    {"granite", {{.key = "logit_scale", .f32 = 8}}, OF(logit_scale), 8, false},
    {"granite", {{.key = "logit_scale", .f32 = 8}, {.key = "attention.scale", .f32 = 0.5F}},
     OF(attn_scale), 0.5, false},
    {"llama", {{.key = "logit_scale", .f32 = 8}}, OF(logit_scale), 1, false},
    {"llama", {{.key = "expert_count", .u32 = 4}, {.key = "expert_used_count", .u32 = 2}},
     OF(n_ff_expert), 80, true},
    {"qwen3moe", {{.key = "expert_count", .u32 = 4}, {.key = "expert_used_count", .u32 = 2},
                  {.key = "expert_feed_forward_length", .u32 = 24}}, OF(n_ff_expert), 24, true},
};

START_TEST(value_is_read) {
    lq_hparams hp;
    ck_ok(read_keys(&hp, values[_i].arch, values[_i].more, NULL, 0));
    const char *const at = (const char *)&hp + values[_i].offset;
    int64_t size = 0;
    float number = 0;
    if (values[_i].is_size) memcpy(&size, at, sizeof size);
    else memcpy(&number, at, sizeof number);
    const double got = values[_i].is_size ? (double)size : (double)number;
    ck_assert_msg(fabs(got - values[_i].want) <= 1e-6 * fabs(values[_i].want), "%s: got %g, not %g",
                  values[_i].arch, got, values[_i].want);
}
END_TEST

/* ---- which layers are local ---- */

static const bool every_other[] = {false, true, false, true, false, true, false};

static const struct {
    const char *arch;
    uint32_t window, period;
    const bool *flags;
    const char *want;   /* per layer: l local, g global */
} patterns[] = {
    {"gemma2", 0, 0, NULL, "lglglgl"},
    {"gemma3", 8, 0, NULL, "lllllgl"},
    {"gemma3", 0, 0, NULL, "ggggggg"},
    {"gemma3", 8, 3, NULL, "llgllgl"},
    {"gemma3", 8, 0, every_other, "glglglg"},
    {"olmo2", 8, 0, NULL, "lllglll"},
    {"olmo2", 0, 0, NULL, "ggggggg"},
    {"llama", 8, 2, NULL, "ggggggg"},
};

START_TEST(pattern_is_read) {
    setting more[MAX_SETTINGS] = {{.key = NULL}};
    lq_hparams hp;
    int n = 0;
    if (patterns[_i].window)
        more[n++] = (setting){.key = "attention.sliding_window", .u32 = patterns[_i].window};
    if (patterns[_i].period)
        more[n++] =
            (setting){.key = "attention.sliding_window_pattern", .u32 = patterns[_i].period};
    ck_ok(read_keys(&hp, patterns[_i].arch, more, patterns[_i].flags, 7));
    for (int i = 0; i < 7; i++)
        ck_assert_msg(hp.local[i] == (patterns[_i].want[i] == 'l'), "%s: layer %d",
                      patterns[_i].arch, i);
}
END_TEST

/* ---- what is refused ---- */

static const struct {
    const char *arch;
    setting more[MAX_SETTINGS];
    lq_status status;
    const char *message;
} refusals[] = {
    {"phi3", {{.key = "rope.dimension_count", .u32 = 18}}, LQ_EUNSUPPORTED, "must be up to the"},
    {"qwen3", {{.key = "rope.dimension_count", .u32 = 12}}, LQ_EUNSUPPORTED, "must be the head"},
    {"llama", {{.key = "rope.scaling.type", .text = "longrope"}}, LQ_EUNSUPPORTED, "'longrope'"},
    {"phi3", {{.key = "rope.scaling.type", .text = "yarn"}}, LQ_EUNSUPPORTED, "'yarn'"},
    {"gemma3", {{.key = "rope.scaling.type", .text = "yarn"},
                {.key = "rope.scaling.factor", .f32 = 4}}, LQ_EUNSUPPORTED, "in gemma3"},
    {"qwen2", {{.key = "rope.scaling.type", .text = "yarn"}}, LQ_EFORMAT, "factor is 0"},
    {"qwen2", {{.key = "rope.scaling.type", .text = "yarn"},
               {.key = "rope.scaling.factor", .f32 = 4},
               {.key = "rope.scaling.yarn_ext_factor", .f32 = 0.5F}}, LQ_EUNSUPPORTED, "extra"},
    {"granite", {{0}}, LQ_EFORMAT, "granite.logit_scale is missing"},
    {"granite", {{.key = "logit_scale", .f32 = -1}}, LQ_EFORMAT, "the scale of logits is -1"},
    {"gemma2", {{.key = "final_logit_softcapping", .f32 = -1}}, LQ_EFORMAT, "soft cap of logits"},
    {"gemma3", {{.key = "attention.sliding_window", .u32 = 1U << 30}}, LQ_EFORMAT, "up to"},
    {"qwen2", {{.key = "expert_count", .u32 = 4}}, LQ_EUNSUPPORTED, "qwen2 with experts"},
    {"qwen3moe", {{0}}, LQ_EFORMAT, "qwen3moe.expert_count is missing"},
    {"llama", {{.key = "expert_count", .u32 = 4}, {.key = "expert_used_count", .u32 = 5}},
     LQ_EFORMAT, "5 of 4 experts"},
    {"llama", {{.key = "expert_count", .u32 = 4}, {.key = "expert_gating_func", .u32 = 2}},
     LQ_EUNSUPPORTED, "another kind"},
};

START_TEST(contradiction_is_refused) {
    lq_hparams hp;
    ck_fails(read_keys(&hp, refusals[_i].arch, refusals[_i].more, NULL, 0), refusals[_i].status,
             refusals[_i].message);
}
END_TEST

START_TEST(pattern_of_wrong_length) {
    const setting window[MAX_SETTINGS] = {{.key = "attention.sliding_window", .u32 = 8}};
    lq_hparams hp;
    ck_fails(read_keys(&hp, "gemma3", window, every_other, 6), LQ_EFORMAT,
             "a flag for each of the 7 layers");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("hparams");
    TCase *tc = tcase_create("hparams");
    tcase_add_loop_test(tc, value_is_read, 0, LQ_ARRAY_LEN(values));
    tcase_add_loop_test(tc, pattern_is_read, 0, LQ_ARRAY_LEN(patterns));
    tcase_add_loop_test(tc, contradiction_is_refused, 0, LQ_ARRAY_LEN(refusals));
    tcase_add_test(tc, pattern_of_wrong_length);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
