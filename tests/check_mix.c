/* mix.c, mix_assign.c: every mix gives models of many shapes the types that llama.cpp gives them;
 * what a caller may say otherwise; what is refused. */
#include "mix.h"

#include "ggml_types.h"
#include "imatrix.h"
#include "mix_reference.h"
#include "test_util.h"

#include <stdio.h>
#include <string.h>

typedef struct mix_model mix_model;

/* ---- models without numbers ------------------------------------------------------------------ */

static void add(lq_gguf_writer *w, const char *name, int ndim, int64_t cols, int64_t rows,
                int64_t matrices) {
    static const float zeros[1 << 15];
    const int64_t ne[] = {cols, rows, matrices};
    const int64_t n = ndim == 1 ? cols : cols * rows * (ndim == 3 ? matrices : 1);
    ck_assert_int_le(n, LQ_ARRAY_LEN(zeros));
    ck_ok(lq_gguf_writer_add(w, name, LQ_TYPE_F32, ndim, ne, zeros, (uint64_t)n * sizeof *zeros));
}

static void add_in_block(lq_gguf_writer *w, int layer, const char *what, int ndim, int64_t cols) {
    char name[64];
    snprintf(name, sizeof name, "blk.%d.%s.weight", layer, what);
    add(w, name, ndim, cols, 2, 2);
}

static void add_block(lq_gguf_writer *w, const mix_model *m, int layer) {
    static const char *const attention[][4] = {{"attn_q", "attn_k", "attn_v", "attn_output"},
                                               {"attn_qkv", "attn_output"}};
    for (int i = 0; i < 4 && attention[m->fused][i]; i++)
        add_in_block(w, layer, attention[m->fused][i], 2, m->width);
    add_in_block(w, layer, "attn_norm", 1, m->width);
    add_in_block(w, layer, "attn_q_a", 2, m->width);
    if (m->experts) add_in_block(w, layer, "ffn_gate_inp", 2, m->width);
    const int ndim = m->experts ? 3 : 2;
    add_in_block(w, layer, m->experts ? "ffn_gate_exps" : "ffn_gate", ndim, m->width);
    add_in_block(w, layer, m->experts ? "ffn_up_exps" : "ffn_up", ndim, m->width);
    add_in_block(w, layer, m->experts ? "ffn_down_exps" : "ffn_down", ndim, m->ff);
}

static void set(lq_gguf_writer *w, const mix_model *m, const char *key, int value) {
    char name[64];
    snprintf(name, sizeof name, "%s.%s", m->arch, key);
    ck_ok(lq_gguf_writer_set_u32(w, name, (uint32_t)value));
}

static lq_gguf *make(const mix_model *m) {
    const char *path = test_path("model.gguf");
    lq_gguf_writer *w = NULL;
    lq_gguf *g = NULL;
    ck_ok(lq_gguf_writer_new(&w));
    ck_ok(lq_gguf_writer_set_string(w, "general.architecture", m->arch));
    set(w, m, "block_count", m->layers);
    set(w, m, "attention.head_count", m->heads);
    set(w, m, "attention.head_count_kv", m->kv_heads);
    if (m->experts) set(w, m, "expert_count", m->experts);
    add(w, "token_embd.weight", 2, m->width, 2, 1);
    if (!m->tied) add(w, "output.weight", 2, m->width, 2, 1);
    for (int i = 0; i < m->layers; i++) add_block(w, m, i);
    ck_ok(lq_gguf_writer_write(w, path));
    lq_gguf_writer_free(w);
    ck_ok(lq_gguf_open(&g, path));
    return g;
}

static int of(const lq_gguf *g, const lq_mix_type *types, const char *name) {
    const lq_gguf_tensor *t = lq_gguf_find_tensor(g, name);
    ck_assert_msg(t != NULL, "no tensor %s", name);
    return types[t - lq_gguf_tensor_at(g, 0)].type;
}

static lq_mix_request request(const char *mix) {
    lq_mix_request r = {.mixed = true, .embedding = LQ_TYPE_BY_RULE, .output = LQ_TYPE_BY_RULE};
    ck_ok(lq_mix_find(&r.mix, "TYPE", mix));
    return r;
}

/* ---- rules ----------------------------------------------------------------------------------- */

static uint64_t hash_of(const lq_mix_type *types, int64_t n) {
    uint64_t h = 0xcbf29ce484222325u;
    for (int64_t i = 0; i < n; i++) h = (h ^ (uint64_t)types[i].type) * 0x100000001b3u;
    return h;
}

static const lq_mix *mix_of_file_type(int file_type) {
    for (const lq_mix *m = lq_mixes; m->name; m++)
        if (m->file_type == file_type) return m;
    return NULL;
}

START_TEST(types_are_llama_cpps) {
    static lq_mix_type types[2000];
    static const lq_imatrix statistics;
    const mix_model *m = &mix_models[_i];
    lq_gguf *g = make(m);
    int compared = 0;
    ck_assert_int_le(lq_gguf_n_tensors(g), LQ_ARRAY_LEN(types));
    for (int i = 0; i < LQ_ARRAY_LEN(mix_hashes); i++) {
        if (mix_hashes[i].model != _i) continue;
        lq_mix_request r = request(mix_of_file_type(mix_hashes[i].file_type)->name);
        if (strcmp(r.mix->name, "Q2_K_S") == 0) r.imatrix = &statistics; /* it cannot do without */
        ck_ok(lq_mix_assign(types, &r, g));
        ck_assert_msg(hash_of(types, lq_gguf_n_tensors(g)) == mix_hashes[i].hash, "%s of %s, %d",
                      r.mix->name, m->arch, _i);
        compared++;
    }
    ck_assert_int_ge(compared, 24);
    lq_gguf_close(g);
}
END_TEST

/* ---- what the caller says -------------------------------------------------------------------- */

static const mix_model plain_model = {"llama", 16, 8, 2, 0, 0, 0, 256, 512};
static const mix_model tied_model = {"llama", 16, 8, 2, 0, 1, 0, 256, 512};

START_TEST(callers_have_the_last_word) {
    static lq_mix_type t[256];
    static const lq_imatrix statistics;
    const lq_type_override override[] = {{"blk\\.1\\.attn_(q|k)", LQ_TYPE_Q8_0},
                                         {"attn_v", LQ_TYPE_F16}};
    lq_gguf *g = make(&plain_model), *tied = make(&tied_model);
    lq_mix_request r = request("q4_k_m");
    r.embedding = LQ_TYPE_Q8_0;
    r.output = LQ_TYPE_F16;
    r.override = override;
    r.n_overrides = 2;
    ck_ok(lq_mix_assign(t, &r, g));
    ck_assert_int_eq(of(g, t, "token_embd.weight"), LQ_TYPE_Q8_0);
    ck_assert_int_eq(of(g, t, "output.weight"), LQ_TYPE_F16);
    ck_assert_int_eq(of(g, t, "blk.1.attn_q.weight"), LQ_TYPE_Q8_0);
    ck_assert_int_eq(of(g, t, "blk.10.attn_q.weight"), LQ_TYPE_Q4_K);
    ck_assert_int_eq(of(g, t, "blk.0.attn_v.weight"), LQ_TYPE_F16);
    ck_assert_int_eq(of(g, t, "blk.0.ffn_down.weight"), LQ_TYPE_Q6_K);
    r.embedding = LQ_TYPE_BY_RULE;
    ck_ok(lq_mix_assign(t, &r, tied)); /* the embedding is the head */
    ck_assert_int_eq(of(tied, t, "token_embd.weight"), LQ_TYPE_F16);
    r = request("Q4_K");
    r.leave_output = true;
    ck_ok(lq_mix_assign(t, &r, g));
    ck_assert_int_eq(of(g, t, "output.weight"), LQ_TYPE_F32);
    r.pure = true;
    r.leave_output = false;
    ck_ok(lq_mix_assign(t, &r, g));
    ck_assert_int_eq(of(g, t, "output.weight"), LQ_TYPE_Q4_K);
    ck_assert_int_eq(of(g, t, "blk.0.attn_v.weight"), LQ_TYPE_Q4_K);
    r = request("Q4_0");
    r.imatrix = &statistics; /* guards the first ffn_down */
    ck_ok(lq_mix_assign(t, &r, g));
    ck_assert_int_eq(of(g, t, "blk.1.ffn_down.weight"), LQ_TYPE_Q4_1);
    ck_assert_int_eq(of(g, t, "blk.2.ffn_down.weight"), LQ_TYPE_Q4_0);
    lq_gguf_close(g);
    lq_gguf_close(tied);
}
END_TEST

/* A plain type: every linear of the blocks, with its mix's embedding and head. */
START_TEST(plain_types) {
    static lq_mix_type t[256];
    static const lq_imatrix statistics;
    lq_gguf *g = make(&plain_model);
    lq_mix_request r = lq_mix_plain(LQ_TYPE_Q4_K);
    ck_assert_str_eq(r.mix->name, "Q4_K_S");
    ck_ok(lq_mix_assign(t, &r, g));
    ck_assert_int_eq(of(g, t, "output.weight"), LQ_TYPE_Q6_K);
    ck_assert_int_eq(of(g, t, "token_embd.weight"), LQ_TYPE_Q4_K);
    ck_assert_int_eq(of(g, t, "blk.0.attn_v.weight"), LQ_TYPE_Q4_K);
    r = lq_mix_plain(LQ_TYPE_Q4_0);
    r.imatrix = &statistics;
    ck_ok(lq_mix_assign(t, &r, g));
    ck_assert_int_eq(of(g, t, "blk.0.ffn_down.weight"), LQ_TYPE_Q4_0);
    r = lq_mix_plain(LQ_TYPE_TQ2_0);
    ck_ok(lq_mix_assign(t, &r, g));
    ck_assert_int_eq(of(g, t, "token_embd.weight"), LQ_TYPE_Q4_K);
    lq_gguf_close(g);
}
END_TEST

START_TEST(fallbacks_are_marked) {
    static lq_mix_type t[256];
    lq_gguf *g = make(&(mix_model){"llama", 2, 4, 4, 0, 0, 0, 96, 40});
    const lq_mix_request r = request("Q4_K_S");
    ck_ok(lq_mix_assign(t, &r, g));
    ck_assert_int_eq(of(g, t, "blk.0.attn_q.weight"), LQ_TYPE_Q5_0);
    ck_assert_int_eq(of(g, t, "blk.0.ffn_down.weight"), LQ_TYPE_F16);
    ck_assert_int_eq(of(g, t, "output.weight"), LQ_TYPE_Q8_0);
    const lq_gguf_tensor *q = lq_gguf_find_tensor(g, "blk.0.attn_q.weight");
    ck_assert(t[q - lq_gguf_tensor_at(g, 0)].fell_back);
    ck_assert(!t[lq_gguf_find_tensor(g, "output.weight") - lq_gguf_tensor_at(g, 0)].fell_back);
    lq_gguf_close(g);
}
END_TEST

START_TEST(refusals) {
    static lq_mix_type t[256];
    const lq_mix *mix;
    const lq_type_override bad[] = {{"blk.(1", LQ_TYPE_Q8_0}}, wide[] = {{"attn_q", LQ_TYPE_NVFP4}};
    lq_gguf *g = make(&plain_model), *odd = make(&(mix_model){"llama", 2, 4, 4, 0, 0, 0, 96, 40});
    ck_fails(lq_mix_find(&mix, "--type", "Q9_K"), LQ_ECONFIG,
             "--type: found 'Q9_K', wanted one of");
    ck_fails(lq_mix_find(&mix, "--type", "iq3_m"), LQ_EUNSUPPORTED,
             "the nearest type that is: Q3_K_M");
    lq_mix_request r = request("Q2_K_S");
    ck_fails(lq_mix_assign(t, &r, g), LQ_EVALUE, "blk.0.attn_k.weight: becomes Q2_K in a Q2_K_S");
    r = request("Q4_K_M");
    r.override = bad;
    r.n_overrides = 1;
    ck_fails(lq_mix_assign(t, &r, g), LQ_EVALUE, "pattern 'blk.(1'");
    r.override = wide;
    ck_fails(lq_mix_assign(t, &r, odd), LQ_ESHAPE, "blk.0.attn_q.weight: its rows of 96");
    r.n_overrides = 0;
    r.embedding = LQ_TYPE_Q4_K; /* said outright, so nothing stands in */
    ck_fails(lq_mix_assign(t, &r, odd), LQ_ESHAPE, "token_embd.weight: its rows of 96");
    lq_gguf_close(g);
    lq_gguf_close(odd);
}
END_TEST

static lq_status assign_once(void *ctx) {
    static lq_mix_type t[256];
    const lq_mix_request r = request("Q4_K_M");
    return lq_mix_assign(t, &r, ctx);
}

START_TEST(allocation_failures) {
    lq_gguf *g = make(&plain_model);
    test_alloc_failures(assign_once, g);
    lq_gguf_close(g);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("mix");
    TCase *tc = tcase_create("mix");
    tcase_add_loop_test(tc, types_are_llama_cpps, 0, LQ_ARRAY_LEN(mix_models));
    tcase_add_test(tc, callers_have_the_last_word);
    tcase_add_test(tc, plain_types);
    tcase_add_test(tc, fallbacks_are_marked);
    tcase_add_test(tc, refusals);
    tcase_add_test(tc, allocation_failures);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
