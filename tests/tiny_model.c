/* See tiny_model.h. Matrices have variance 1 / row length and norms are near 1, so that activations
 * keep their size. */
#include "tiny_model.h"

#include "random.h"
#include "str.h"
#include "test_util.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { N_CONTROL = 5, N_BYTES = 256 };
enum { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, UNUSED = 5, BYTE = 6 };   /* GGUF token types */

static const char *const control[N_CONTROL] = {"<unk>", "<s>", "</s>", "<|im_start|>",
                                               "<|im_end|>"};

/* Each is a pair of earlier ones or of characters; the first has the highest score. */
#define SPACE "\xe2\x96\x81"
static const char *const merges[] = {
    SPACE "t", "he", SPACE "the", SPACE "a", "in", "er", SPACE "s", "on", "re", "nd", SPACE "and",
    "ll", "lo", SPACE "h",
};
static const char characters[] = "etaoinshrdlucmfwypvbgkjqxz0123456789.,'";

typedef struct vocabulary {
    int64_t n;
    lq_gguf_str *text;
    char (*store)[32];
    float *score;
    int32_t *type;
} vocabulary;

static void set_token(vocabulary *v, int64_t id, const char *text, int type, float score) {
    snprintf(v->store[id], sizeof v->store[id], "%s", text);
    v->text[id] = (lq_gguf_str){v->store[id], strlen(v->store[id])};
    v->type[id] = type;
    v->score[id] = score;
}

static void fill_vocabulary(vocabulary *v) {
    char text[32];
    int64_t id = 0;
    float score = 0;
    for (; id < N_CONTROL; id++) set_token(v, id, control[id], id ? CONTROL : UNKNOWN, 0);
    for (int b = 0; b < N_BYTES; b++) {
        snprintf(text, sizeof text, "<0x%02X>", b);
        set_token(v, id++, text, BYTE, 0);
    }
    for (int i = 0; i < LQ_ARRAY_LEN(merges); i++)
        set_token(v, id++, merges[i], NORMAL, score -= 1);
    set_token(v, id++, SPACE, NORMAL, score -= 1);
    for (const char *c = characters; *c; c++) {
        snprintf(text, sizeof text, "%c", *c);
        set_token(v, id++, text, NORMAL, score -= 1);
    }
    for (; id < v->n; id++) {
        snprintf(text, sizeof text, "[PAD%lld]", (long long)id);
        set_token(v, id, text, UNUSED, -10000);
    }
}

static lq_status write_vocabulary(lq_gguf_writer *w, const vocabulary *v) {
    LQ_TRY(lq_gguf_writer_set_string(w, "tokenizer.ggml.model", "llama"));
    LQ_TRY(lq_gguf_writer_set_string(w, "tokenizer.ggml.pre", "default"));
    LQ_TRY(lq_gguf_writer_set_strings(w, "tokenizer.ggml.tokens", v->text, (uint64_t)v->n));
    LQ_TRY(lq_gguf_writer_set_array(w, "tokenizer.ggml.scores", LQ_GGUF_F32, v->score,
                                    (uint64_t)v->n));
    LQ_TRY(lq_gguf_writer_set_array(w, "tokenizer.ggml.token_type", LQ_GGUF_I32, v->type,
                                    (uint64_t)v->n));
    LQ_TRY(lq_gguf_writer_set_u32(w, "tokenizer.ggml.unknown_token_id", 0));
    LQ_TRY(lq_gguf_writer_set_u32(w, "tokenizer.ggml.bos_token_id", 1));
    LQ_TRY(lq_gguf_writer_set_u32(w, "tokenizer.ggml.eos_token_id", 2));
    LQ_TRY(lq_gguf_writer_set_u32(w, "tokenizer.ggml.eot_token_id", 4));
    LQ_TRY(lq_gguf_writer_set_bool(w, "tokenizer.ggml.add_bos_token", true));
    return lq_gguf_writer_set_bool(w, "tokenizer.ggml.add_eos_token", false);
}

static lq_status add_vocabulary(lq_gguf_writer *w, int64_t n) {
    const int64_t needed = N_CONTROL + N_BYTES + LQ_ARRAY_LEN(merges) + 1 +
                           (int64_t)strlen(characters);
    if (n < needed)
        return lq_fail(LQ_EVALUE, "n_vocab is %lld, the tokenizer needs %lld", (long long)n,
                       (long long)needed);
    vocabulary v = {.n = n};
    lq_status status = LQ_EMEM;
    v.text = lq_alloc_array(n, sizeof *v.text);
    v.store = lq_alloc_array(n, sizeof *v.store);
    v.score = lq_alloc_array(n, sizeof *v.score);
    v.type = lq_alloc_array(n, sizeof *v.type);
    if (v.text && v.store && v.score && v.type) {
        fill_vocabulary(&v);
        status = write_vocabulary(w, &v);
    }
    lq_free(v.text);
    lq_free(v.store);
    lq_free(v.score);
    lq_free(v.type);
    return status;
}

static lq_status set_u32(lq_gguf_writer *w, const tiny_model *o, const char *key, int64_t v) {
    char full[96];
    snprintf(full, sizeof full, "%s.%s", o->arch, key);
    return lq_gguf_writer_set_u32(w, full, (uint32_t)v);
}

static lq_status set_f32(lq_gguf_writer *w, const tiny_model *o, const char *key, float v) {
    char full[96];
    snprintf(full, sizeof full, "%s.%s", o->arch, key);
    return lq_gguf_writer_set_f32(w, full, v);
}

static lq_status add_metadata(lq_gguf_writer *w, const tiny_model *o) {
    char scaling[96];
    snprintf(scaling, sizeof scaling, "%s.rope.scaling.type", o->arch);
    LQ_TRY(lq_gguf_writer_set_string(w, "general.architecture", o->arch));
    LQ_TRY(lq_gguf_writer_set_string(w, "general.name", "tiny random model"));
    LQ_TRY(set_u32(w, o, "vocab_size", o->n_vocab));
    LQ_TRY(set_u32(w, o, "context_length", o->n_ctx));
    LQ_TRY(set_u32(w, o, "embedding_length", o->n_embd));
    LQ_TRY(set_u32(w, o, "block_count", o->n_layer));
    LQ_TRY(set_u32(w, o, "feed_forward_length", o->n_ff));
    LQ_TRY(set_u32(w, o, "attention.head_count", o->n_head));
    LQ_TRY(set_u32(w, o, "attention.head_count_kv", o->n_head_kv));
    LQ_TRY(set_u32(w, o, "attention.key_length", o->head_dim));
    LQ_TRY(set_u32(w, o, "attention.value_length", o->head_dim));
    LQ_TRY(set_u32(w, o, "rope.dimension_count", o->head_dim));
    LQ_TRY(set_f32(w, o, "attention.layer_norm_rms_epsilon", 1e-5F));
    LQ_TRY(set_f32(w, o, "rope.freq_base", o->rope_base));
    if (o->n_expert) {
        LQ_TRY(set_u32(w, o, "expert_count", o->n_expert));
        LQ_TRY(set_u32(w, o, "expert_used_count", 2));
    }
    if (o->rope_factor > 0) {
        LQ_TRY(lq_gguf_writer_set_string(w, scaling, "linear"));
        LQ_TRY(set_f32(w, o, "rope.scaling.factor", o->rope_factor));
    }
    LQ_TRY(o->no_tokenizer ? lq_gguf_writer_set_string(w, "tokenizer.ggml.model", "no_vocab")
                           : add_vocabulary(w, o->n_vocab));
    if (o->chat_template)
        LQ_TRY(lq_gguf_writer_set_string(w, "tokenizer.chat_template", o->chat_template));
    return LQ_OK;
}

/* The tensors' memory, which must outlive the writing. */
typedef struct maker {
    const tiny_model *o;
    lq_gguf_writer *w;
    void **block;
    int64_t n, cap;
    lq_status status;   /* the first failure */
} maker;

static void *keep(maker *k, void *p) {
    if (!p) k->status = LQ_EMEM;
    if (k->status == LQ_OK)
        k->status = lq_reserve((void **)&k->block, &k->cap, k->n + 1, sizeof *k->block);
    if (k->status == LQ_OK) return k->block[k->n++] = p;
    lq_free(p);
    return NULL;
}

/* Uniform: large models are made with this, and normal numbers take ten times as long. */
static float *random_numbers(const maker *k, int64_t n, float mean, float deviation) {
    float *x = lq_alloc_array(n, sizeof *x);
    const uint64_t key = lq_random_key(k->o->seed + 1, (uint64_t)k->n);
    const float width = sqrtf(12) * deviation;
    for (int64_t i = 0; x && i < n; i++)
        x[i] = mean + width * (lq_random_uniform(key, (uint64_t)i) - 0.5F);
    return x;
}

static void *quantized(const float *x, int64_t rows, int64_t cols, const lq_format *fmt) {
    char *out = lq_alloc(lq_format_bytes(fmt, rows * cols));
    if (out) fmt->quant(x, out, rows * cols, NULL);
    return out;
}

/* n_mats 1: a plain matrix; else a stack of them. */
static void add_matrices(maker *k, const char *name, int64_t rows, int64_t cols, int64_t n_mats) {
    const lq_format *fmt = k->o->fmt;
    if (cols % fmt->block) fmt = &lq_f16;
    if (k->status != LQ_OK) return;
    void *x = random_numbers(k, n_mats * rows * cols, 0, 1 / sqrtf((float)cols));
    if (x && fmt != &lq_f32) {
        void *packed = quantized(x, n_mats * rows, cols, fmt);
        lq_free(x);
        x = packed;
    }
    x = keep(k, x);
    const int64_t ne[3] = {cols, rows, n_mats};
    if (x)
        k->status = lq_gguf_writer_add(k->w, name, fmt->ggml_id, n_mats > 1 ? 3 : 2, ne, x,
                                       lq_format_bytes(fmt, n_mats * rows * cols));
}

static void add_matrix(maker *k, const char *name, int64_t rows, int64_t cols) {
    add_matrices(k, name, rows, cols, 1);
}

static void add_vector(maker *k, const char *name, int64_t n, float mean) {
    if (k->status != LQ_OK) return;
    float *x = keep(k, random_numbers(k, n, mean, 0.1F));
    if (x)
        k->status = lq_gguf_writer_add(k->w, name, lq_f32.ggml_id, 1, &n, x,
                                       (uint64_t)n * sizeof *x);
}

static const char *block_name(char name[64], int64_t layer, const char *stem, const char *end) {
    snprintf(name, 64, "blk.%lld.%s.%s", (long long)layer, stem, end);
    return name;
}

static void add_linear(maker *k, int64_t layer, const char *stem, int64_t rows, int64_t cols) {
    char name[64];
    add_matrix(k, block_name(name, layer, stem, "weight"), rows, cols);
    if (k->o->biases) add_vector(k, block_name(name, layer, stem, "bias"), rows, 0);
}

static void add_block(maker *k, int64_t layer) {
    const tiny_model *o = k->o;
    const int64_t D = o->n_embd, Q = o->n_head * o->head_dim, KV = o->n_head_kv * o->head_dim;
    char name[64];
    add_vector(k, block_name(name, layer, "attn_norm", "weight"), D, 1);
    add_linear(k, layer, "attn_q", Q, D);
    add_linear(k, layer, "attn_k", KV, D);
    add_linear(k, layer, "attn_v", KV, D);
    if (o->qk_norms)
        add_vector(k, block_name(name, layer, "attn_q_norm", "weight"), o->head_dim, 1);
    if (o->qk_norms)
        add_vector(k, block_name(name, layer, "attn_k_norm", "weight"), o->head_dim, 1);
    add_linear(k, layer, "attn_output", D, Q);
    add_vector(k, block_name(name, layer, "ffn_norm", "weight"), D, 1);
    if (!o->n_expert) {
        add_linear(k, layer, "ffn_gate", o->n_ff, D);
        add_linear(k, layer, "ffn_up", o->n_ff, D);
        add_linear(k, layer, "ffn_down", D, o->n_ff);
        return;
    }
    add_matrix(k, block_name(name, layer, "ffn_gate_inp", "weight"), o->n_expert, D);
    add_matrices(k, block_name(name, layer, "ffn_gate_exps", "weight"), o->n_ff, D, o->n_expert);
    add_matrices(k, block_name(name, layer, "ffn_up_exps", "weight"), o->n_ff, D, o->n_expert);
    add_matrices(k, block_name(name, layer, "ffn_down_exps", "weight"), D, o->n_ff, o->n_expert);
}

/* As llama.cpp's converter orders them; rope_freqs from 1 to 8, as in Llama 3.1. */
static void add_tensors(maker *k) {
    const tiny_model *o = k->o;
    const int64_t half = o->head_dim / 2;
    if (!o->tied) add_matrix(k, "output.weight", o->n_vocab, o->n_embd);
    add_matrix(k, "token_embd.weight", o->n_vocab, o->n_embd);
    float *freqs = o->rope_freqs ? keep(k, lq_alloc_array(half, sizeof *freqs)) : NULL;
    for (int64_t i = 0; freqs && i < half; i++) freqs[i] = 1 + 7 * (float)i / (float)half;
    if (freqs)
        k->status = lq_gguf_writer_add(k->w, "rope_freqs.weight", 0, 1, &half, freqs,
                                       (uint64_t)half * sizeof *freqs);
    for (int64_t layer = 0; layer < o->n_layer; layer++) add_block(k, layer);
    add_vector(k, "output_norm.weight", o->n_embd, 1);
}

static int64_t or_default(int64_t v, int64_t fallback) { return v ? v : fallback; }

static tiny_model with_defaults(tiny_model o) {
    if (!o.arch) o.arch = "llama";
    if (!o.fmt) o.fmt = &lq_f32;
    if (!(o.rope_base > 0)) o.rope_base = 10000;
    o.n_vocab = or_default(o.n_vocab, 320);
    o.n_embd = or_default(o.n_embd, 64);
    o.n_layer = or_default(o.n_layer, 2);
    o.n_head = or_default(o.n_head, 4);
    o.n_head_kv = or_default(o.n_head_kv, 2);
    o.head_dim = or_default(o.head_dim, o.n_embd / o.n_head);
    o.n_ff = or_default(o.n_ff, 96);
    o.n_ctx = or_default(o.n_ctx, 256);
    return o;
}

lq_status tiny_model_write(const char *path, const tiny_model *options) {
    const tiny_model o = with_defaults(*options);
    maker k = {.o = &o, .status = LQ_OK};
    lq_status status;
    LQ_GOTO(status, lq_gguf_writer_new(&k.w));
    LQ_GOTO(status, add_metadata(k.w, &o));
    add_tensors(&k);
    LQ_GOTO(status, k.status);
    status = lq_gguf_writer_write(k.w, path);
done:
    for (int64_t i = 0; i < k.n; i++) lq_free(k.block[i]);
    lq_free(k.block);
    lq_gguf_writer_free(k.w);
    return status;
}

const char *test_tiny_model(void) {
    static const char chatml[] =
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + "
        "message['content'] + '<|im_end|>\\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
    static char path[256];
    const tiny_model options = {.chat_template = chatml};
    snprintf(path, sizeof path, "%s", test_path("tiny-model.gguf"));
    ck_ok(tiny_model_write(path, &options));
    return path;
}
