/* Which type each tensor of a file gets: what is never quantized, what the caller said, the mix's
 * rules, the rules common to all mixes, and what happens to rows that no block divides. Tensors are
 * visited in llama.cpp's order, because rules count them. See mix.h. */
#include "mix.h"

#include "ggml_types.h"
#include "name_regex.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What llama-quantize does for one architecture only. */
typedef struct exception {
    const char *arch;
    const char *const *kept;      /* fragments of further names that keep their type; NULL: none */
    const char *const *careful;   /* and of names that become Q8_0 */
    const char *stacked;          /* 3-D tensors are experts only with this in their name */
    bool falcon;                  /* as rules may ask */
} exception;

typedef struct assignment {
    const lq_mix_request *request;
    const char *arch;
    const exception *special;
    int64_t n_layer, n_head, n_head_kv, n_expert;
    bool tied;                /* the head is the token embedding */
    bool is_70b;
    int64_t n_attn_v;
    int64_t seen[LQ_PART_ANY];/* tensors of this part that rules have been asked about */
} assignment;

/* ---- what a tensor is ------------------------------------------------------------------------ */

static const struct { const char *in_name; lq_part part; } parts[] = {
    {"attn_qkv.weight", LQ_PART_ATTN_V},   {"attn_kv_b.weight", LQ_PART_ATTN_V},
    {"attn_v.weight", LQ_PART_ATTN_V},     {"attn_k.weight", LQ_PART_ATTN_K},
    {"attn_q.weight", LQ_PART_ATTN_Q},     {"attn_output.weight", LQ_PART_ATTN_OUTPUT},
    {"ffn_up", LQ_PART_OTHER},             {"ffn_gate", LQ_PART_OTHER},
    {"ffn_down", LQ_PART_FFN_DOWN},
};

static bool is_embedding(const char *name) {
    return strcmp(name, "token_embd.weight") == 0 ||
           strcmp(name, "per_layer_token_embd.weight") == 0;
}

static lq_part part_of(const char *name) {
    if (strcmp(name, "output.weight") == 0) return LQ_PART_HEAD;
    if (is_embedding(name)) return LQ_PART_EMBEDDING;
    for (int i = 0; i < LQ_ARRAY_LEN(parts); i++)
        if (strstr(name, parts[i].in_name)) return parts[i].part;
    return LQ_PART_OTHER;
}

/* Small or delicate matrices that keep their type: norms, routers, indexers, position and type
 * embeddings, convolutions, recurrent mixing, parts of image and sound encoders. */
static const char *const kept[] = {
    "_norm.weight", "ffn_gate_inp.weight", "ffn_gate_tid2eid.weight", "altup", "laurel",
    "per_layer_model_proj", "position_embd.weight", "token_types.weight", "ssm_conv1d",
    "shortconv.conv.weight", "indexer.k_proj.weight", "indexer.q_proj.weight",
    "time_mix_first.weight", "time_mix_w0.weight", "time_mix_w1.weight", "time_mix_w2.weight",
    "time_mix_v0.weight", "time_mix_v1.weight", "time_mix_v2.weight", "time_mix_a0.weight",
    "time_mix_a1.weight", "time_mix_a2.weight", "time_mix_g1.weight", "time_mix_g2.weight",
    "time_mix_decay_w1.weight", "time_mix_decay_w2.weight", "time_mix_lerp_fused.weight",
    "attn_rel_b.weight", ".position_embd", "sam.pos_embd", "sam.neck.", "sam.net_", ".rel_pos",
    ".patch_embd", ".patch_merger", "a.rvq.codebook", "mm.a.code_embd", NULL,
};
static const char *const kept_glm5[] = {
    "hc_", "indexer.attn_q_b", "indexer.attn_k", "indexer.proj", "indexer_compressor_gate",
    "indexer_compressor_ape", "ssm_f_a.weight", "ssm_f_b.weight", "ssm_g_a.weight",
    "ssm_g_b.weight", "ssm_beta.weight", "attn_kv_a_mqa.weight", "attn_k_b.weight",
    "attn_v_b.weight", NULL,
};
static const char *const careful_glm5[] = {"attn_q_a", "attn_q_b", "nextn.eh_proj", NULL};

static const exception exceptions[] = {
    {.arch = "falcon", .falcon = true},
    {.arch = "glm5-next", .kept = kept_glm5, .careful = careful_glm5},
    {.arch = "bailingmoe3", .stacked = "ffn_"},
    {.arch = NULL}, /* all others */
};

static const exception *exception_of(const char *arch) {
    const exception *e = exceptions;
    while (e->arch && strcmp(e->arch, arch) != 0) e++;
    return e;
}

/* fragments NULL: none. */
static bool has_any(const char *name, const char *const *fragments) {
    for (; fragments && *fragments; fragments++)
        if (strstr(name, *fragments)) return true;
    return false;
}

/* As ggml counts: trailing sizes of 1 are no dimensions. */
static bool is_matrix(const lq_gguf_tensor *t) {
    return t->ne[1] > 1 || t->ne[2] > 1 || t->ne[3] > 1;
}

static bool may_change(const assignment *a, const lq_gguf_tensor *t) {
    static const char ending[] = "weight";
    const size_t n = strlen(t->name), tail = sizeof ending - 1;
    if (!is_matrix(t) || n < tail || strcmp(t->name + n - tail, ending) != 0) return false;
    if (a->request->leave_output && strcmp(t->name, "output.weight") == 0) return false;
    return !has_any(t->name, kept) && !has_any(t->name, a->special->kept);
}

/* ---- rules ----------------------------------------------------------------------------------- */

static bool divides(int type, const lq_gguf_tensor *t) {
    return t->ne[0] % lq_gguf_type_block(type) == 0;
}

/* -1: the name has none. */
static int layer_of(const char *name) {
    int layer = -1;
    return sscanf(name, "blk.%d.", &layer) == 1 ? layer : -1;
}

/* The head counts for every token, so it gets more bits than the rest. */
static int head_type(const assignment *a, const lq_gguf_tensor *t) {
    const lq_mix *mix = a->request->mix;
    if (a->request->output != LQ_TYPE_BY_RULE) return a->request->output;
    if (mix->type == LQ_TYPE_MXFP4 || mix->type == LQ_TYPE_Q8_0) return LQ_TYPE_Q8_0;
    return a->special->falcon || !divides(mix->type, t) ? LQ_TYPE_Q8_0 : LQ_TYPE_Q6_K;
}

/* Where t is among its kind; rules about ffn_down go by the layer where layers have several. */
static lq_status locate(lq_place *at, assignment *a, const lq_gguf_tensor *t, lq_part part) {
    *at = (lq_place){
        .i = a->seen[part]++,
        .n = part == LQ_PART_ATTN_V ? a->n_attn_v : a->n_layer,
        .gqa = a->n_head_kv ? a->n_head / a->n_head_kv : 0,
        .n_expert = a->n_expert,
        .falcon = a->special->falcon,
        .stacked = t->ne[2] > 1 && (!a->special->stacked || strstr(t->name, a->special->stacked)),
        .has_imatrix = a->request->imatrix != NULL,
    };
    if (part != LQ_PART_FFN_DOWN || a->n_expert <= 1) return LQ_OK;
    at->i = layer_of(t->name);
    if (at->i >= 0 && at->i < at->n) return LQ_OK;
    return lq_fail(LQ_EVALUE, "%s: its name has no layer from 0 to %lld", t->name,
                   (long long)at->n - 1);
}

static int by_rules(const lq_mix *mix, lq_part part, const lq_place *at) {
    for (const lq_mix_rule *r = mix->rule; r->when; r++)
        if ((r->part == part || r->part == LQ_PART_ANY) && r->when(at)) return r->type;
    return mix->type;
}

static lq_status mixed_type(int *type, assignment *a, const lq_gguf_tensor *t) {
    const lq_mix *mix = a->request->mix;
    const lq_part part = part_of(t->name);
    lq_place at;
    *type = LQ_TYPE_Q8_0;
    if (has_any(t->name, a->special->careful)) return LQ_OK;
    if (part == LQ_PART_HEAD || (part == LQ_PART_EMBEDDING && a->tied)) {
        *type = head_type(a, t);
        return LQ_OK;
    }
    *type = mix->type;
    if (part != LQ_PART_EMBEDDING && !a->request->mixed) return LQ_OK;
    LQ_TRY(locate(&at, a, t, part));
    *type = by_rules(mix, part, &at);
    /* few and small where many query heads share them */
    if (part == LQ_PART_ATTN_V && a->is_70b && (*type == LQ_TYPE_Q3_K || *type == LQ_TYPE_Q4_K))
        *type = LQ_TYPE_Q5_K;
    if ((part == LQ_PART_ATTN_V || part == LQ_PART_ATTN_K) && a->n_expert == 8)
        *type = LQ_TYPE_Q8_0;
    return LQ_OK;
}

/* ---- rows that no block divides -------------------------------------------------------------- */

static const struct { int from, to; } fallbacks[] = {
    {LQ_TYPE_Q2_K, LQ_TYPE_Q4_0},  {LQ_TYPE_Q3_K, LQ_TYPE_Q4_0},   {LQ_TYPE_Q4_K, LQ_TYPE_Q5_0},
    {LQ_TYPE_Q5_K, LQ_TYPE_Q5_1},  {LQ_TYPE_Q6_K, LQ_TYPE_Q8_0},   {LQ_TYPE_IQ4_XS, LQ_TYPE_IQ4_NL},
    {LQ_TYPE_TQ1_0, LQ_TYPE_Q4_0}, {LQ_TYPE_TQ2_0, LQ_TYPE_Q4_0},  {LQ_TYPE_Q2_0, LQ_TYPE_Q4_0},
};

static int fitting_type(int type, const lq_gguf_tensor *t) {
    if (divides(type, t)) return type;
    for (int i = 0; i < LQ_ARRAY_LEN(fallbacks); i++)
        if (fallbacks[i].from == type)
            return divides(fallbacks[i].to, t) ? fallbacks[i].to : LQ_TYPE_F16;
    return lq_gguf_type_block(type) <= 32 ? LQ_TYPE_F16 : type; /* nothing else stands in for it */
}

/* ---- what the caller said -------------------------------------------------------------------- */

static lq_status find_override(const lq_type_override **out, const lq_mix_request *r,
                               const char *name) {
    *out = NULL;
    for (int i = 0; i < r->n_overrides && !*out; i++) {
        bool found;
        LQ_TRY(lq_regex_found(r->override[i].regex, name, &found));
        if (found) *out = &r->override[i];
    }
    return LQ_OK;
}

/* *fits: the type to take where *type does not fit; -1: there is none. */
static lq_status wanted_type(int *type, int *fits, assignment *a, const lq_gguf_tensor *t) {
    const lq_mix_request *r = a->request;
    const lq_type_override *override;
    LQ_TRY(find_override(&override, r, t->name));
    const bool per_layer = strcmp(t->name, "per_layer_token_embd.weight") == 0;
    const bool named = per_layer && override;
    *fits = -1;
    *type = r->embedding;
    if (is_embedding(t->name) && r->embedding != LQ_TYPE_BY_RULE && !named) return LQ_OK;
    *type = r->output;
    if (part_of(t->name) == LQ_PART_HEAD && r->output != LQ_TYPE_BY_RULE) return LQ_OK;
    *type = r->mix->type;
    if (lq_gguf_type_block(r->mix->type) == 1) return LQ_OK;
    if (override) *type = override->type;
    else if (!r->pure) LQ_TRY(mixed_type(type, a, t));
    *fits = fitting_type(*type, t);
    return LQ_OK;
}

/* The file would be useless: two bits without knowing which weights matter. */
static bool needs_imatrix(const lq_mix_request *r, const char *name, int type) {
    return strcmp(r->mix->name, "Q2_K_S") == 0 && r->mixed && type == LQ_TYPE_Q2_K &&
           !r->imatrix && !is_embedding(name) && part_of(name) != LQ_PART_HEAD;
}

static lq_status assign_one(lq_mix_type *out, assignment *a, const lq_gguf_tensor *t) {
    int wanted, fits;
    *out = (lq_mix_type){t->ggml_type, false};
    if (!may_change(a, t)) return LQ_OK;
    LQ_TRY(wanted_type(&wanted, &fits, a, t));
    *out = (lq_mix_type){fits >= 0 ? fits : wanted, fits >= 0 && fits != wanted};
    if (!divides(out->type, t))
        return lq_fail(LQ_ESHAPE, "%s: its rows of %lld do not divide into %s's blocks of %d",
                       t->name, (long long)t->ne[0], lq_ggml_type_name(out->type),
                       lq_gguf_type_block(out->type));
    if (needs_imatrix(a->request, t->name, out->type))
        return lq_fail(LQ_EVALUE, "%s: becomes Q2_K in a Q2_K_S file, which needs an importance "
                       "matrix; none was given", t->name);
    return LQ_OK;
}

/* ---- the model ------------------------------------------------------------------------------- */

/* Numbers of attention heads may be one for all layers, or one per layer: then the first. */
static int64_t number(const lq_gguf *g, const char *arch, const char *key, int64_t otherwise) {
    char name[128];
    int32_t value;
    snprintf(name, sizeof name, "%s.%s", arch, key);
    const lq_gguf_kv *kv = lq_gguf_find(g, name);
    if (!kv || kv->n == 0 || (kv->elem != LQ_GGUF_U32 && kv->elem != LQ_GGUF_I32)) return otherwise;
    memcpy(&value, kv->data, sizeof value);
    return value;
}

/* llama.cpp knows a model of this size by its layers. */
static bool is_70b(const assignment *a) {
    static const struct { const char *arch; int64_t n_layer; bool grouped; } rows[] = {
        {"llama", 80, true}, {"qwen2", 80, false}, {"deci", 80, false}, {"olmo", 80, false},
        {"jais2", 68, false},
    };
    for (int i = 0; i < LQ_ARRAY_LEN(rows); i++)
        if (strcmp(a->arch, rows[i].arch) == 0 && a->n_layer == rows[i].n_layer)
            return !rows[i].grouped || (a->n_head != a->n_head_kv && a->n_expert != 8);
    return false;
}

static void look_at_model(assignment *a, const lq_gguf *g, const char *arch) {
    a->arch = arch;
    a->special = exception_of(arch);
    a->n_layer = number(g, arch, "block_count", 0);
    a->n_head = number(g, arch, "attention.head_count", 0);
    a->n_head_kv = number(g, arch, "attention.head_count_kv", a->n_head);
    a->n_expert = number(g, arch, "expert_count", 0);
    a->is_70b = is_70b(a);
    a->tied = !lq_gguf_find_tensor(g, "output.weight");
    for (int64_t i = 0; i < lq_gguf_n_tensors(g); i++)
        a->n_attn_v += part_of(lq_gguf_tensor_at(g, i)->name) == LQ_PART_ATTN_V;
}

static _Thread_local const lq_gguf *sorted_file; /* qsort has no context */

static int by_layer_and_name(const void *x, const void *y) {
    const char *a = lq_gguf_tensor_at(sorted_file, *(const int64_t *)x)->name;
    const char *b = lq_gguf_tensor_at(sorted_file, *(const int64_t *)y)->name;
    const int la = layer_of(a), lb = layer_of(b);
    return la != lb ? (la > lb) - (la < lb) : strcmp(a, b);
}

void lq_mix_order(int64_t *order, const lq_gguf *g) {
    const int64_t n = lq_gguf_n_tensors(g);
    for (int64_t i = 0; i < n; i++) order[i] = i;
    sorted_file = g;
    qsort(order, (size_t)n, sizeof *order, by_layer_and_name);
}

lq_status lq_mix_assign(lq_mix_type *out, const lq_mix_request *request, const lq_gguf *g) {
    assignment a = {.request = request};
    char *arch = NULL;
    lq_status status = LQ_OK;
    int64_t *order = lq_alloc_array(lq_gguf_n_tensors(g), sizeof *order);
    LQ_GOTO(status, order ? LQ_OK : LQ_EMEM);
    LQ_GOTO(status, lq_gguf_get_string(g, "general.architecture", true, &arch));
    look_at_model(&a, g, arch);
    lq_mix_order(order, g);
    for (int64_t i = 0; i < lq_gguf_n_tensors(g); i++)
        LQ_GOTO(status, assign_one(&out[order[i]], &a, lq_gguf_tensor_at(g, order[i])));
done:
    lq_free(order);
    lq_free(arch);
    return status;
}
