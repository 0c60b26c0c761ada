/* See hf_fixture.h. */
#include "hf_fixture.h"

#include "atomic_file.h"
#include "hash.h"
#include "safetensors.h"
#include "str.h"
#include "test_util.h"

#include <stdio.h>
#include <string.h>

enum { MAX_TENSORS = 32, MAX_ELEMENTS = 128 };

static const struct { const char *name; int rows, cols; } once[] = {
    {"model.embed_tokens.weight", HF_VOCAB, HF_EMBD},
    {"lm_head.weight", HF_VOCAB, HF_EMBD},
    {"model.norm.weight", HF_EMBD, 0},
}, each[] = {
    {"input_layernorm.weight", HF_EMBD, 0},
    {"post_attention_layernorm.weight", HF_EMBD, 0},
    {"self_attn.q_proj.weight", HF_EMBD, HF_EMBD},
    {"self_attn.k_proj.weight", HF_EMBD / HF_HEADS * HF_KV, HF_EMBD},
    {"self_attn.v_proj.weight", HF_EMBD / HF_HEADS * HF_KV, HF_EMBD},
    {"self_attn.o_proj.weight", HF_EMBD, HF_EMBD},
    {"mlp.gate_proj.weight", HF_FF, HF_EMBD},
    {"mlp.up_proj.weight", HF_FF, HF_EMBD},
    {"mlp.down_proj.weight", HF_EMBD, HF_FF},
};

static const char config[] =
    "{\"architectures\": [\"%s\"], \"hidden_size\": 8, \"num_hidden_layers\": 2,\n"
    " \"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"intermediate_size\": 10,\n"
    " \"vocab_size\": 12, \"max_position_embeddings\": 32, \"rms_norm_eps\": 1e-05,\n"
    " \"rope_theta\": 5000.0, \"hidden_act\": \"silu\", \"tie_word_embeddings\": false}\n";

float hf_fixture_value(const char *tensor, int64_t i) {
    const uint64_t key = lq_fnv1a(LQ_FNV_INIT, tensor, strlen(tensor));
    return (float)((int64_t)((key >> 7) + (uint64_t)i * 29) % 129 - 64) / 64;
}

typedef struct writer {
    const hf_change *c;
    lq_st_tensor t[MAX_TENSORS];
    char name[MAX_TENSORS][80];
    float data[MAX_TENSORS][MAX_ELEMENTS];   /* or what fits of another format */
    int n;
} writer;

static bool is(const char *name, const char *wanted) { return wanted && strcmp(name, wanted) == 0; }

static void add(writer *w, const char *name, int rows, int cols) {
    float x[MAX_ELEMENTS];
    if (is(name, w->c->drop)) return;
    if (is(name, w->c->narrow)) rows--;
    const int i = w->n++, n = rows * (cols ? cols : 1);
    const bool copied = w->c->same_head && is(name, "lm_head.weight");
    for (int k = 0; k < n; k++)
        x[k] = hf_fixture_value(copied ? "model.embed_tokens.weight" : name, k);
    const lq_format *fmt = w->c->fmt ? w->c->fmt : &lq_f32;
    fmt->quant(x, w->data[i], n, NULL);
    snprintf(w->name[i], sizeof w->name[i], "%s", is(name, w->c->rename) ? w->c->to : name);
    w->t[i] = (lq_st_tensor){.name = w->name[i], .fmt = fmt, .ndim = cols ? 2 : 1,
                             .dim = {rows, cols}, .data = w->data[i],
                             .bytes = lq_format_bytes(fmt, n)};
}

static void write_config(const char *dir, const hf_change *c) {
    char text[1024];
    lq_str out = LQ_STR_INIT;
    snprintf(text, sizeof text, config, c->class ? c->class : "LlamaForCausalLM");
    const char *at = c->replace ? strstr(text, c->replace) : NULL;
    ck_assert_msg(!c->replace || at, "config.json has no '%s'", c->replace);
    if (at) {
        lq_str_add(&out, text, (size_t)(at - text));
        lq_str_puts(&out, c->with);
        lq_str_puts(&out, at + strlen(c->replace));
    } else {
        lq_str_puts(&out, text);
    }
    char *path = lq_path_join(dir, "config.json");
    ck_ok(lq_write_file(path, out.s, out.n));
    lq_free(path);
    lq_str_clear(&out);
}

const char *hf_fixture(const char *name, const hf_change *change) {
    static const hf_change none = {0};
    const char *dir = test_path(name);
    writer *w = lq_alloc(sizeof *w);
    ck_assert_ptr_nonnull(w);
    w->c = change ? change : &none;
    for (int i = 0; i < LQ_ARRAY_LEN(once); i++) add(w, once[i].name, once[i].rows, once[i].cols);
    for (int layer = 0; layer < HF_LAYERS; layer++)
        for (int i = 0; i < LQ_ARRAY_LEN(each); i++) {
            char full[80];
            snprintf(full, sizeof full, "model.layers.%d.%s", layer, each[i].name);
            add(w, full, each[i].rows, each[i].cols);
        }
    ck_ok(lq_make_dirs(dir));
    write_config(dir, w->c);
    ck_ok(lq_safetensors_write_dir(dir, "model", w->t, w->n,
                                   w->c->shard_bytes ? w->c->shard_bytes : UINT64_MAX));
    lq_free(w);
    return dir;
}
