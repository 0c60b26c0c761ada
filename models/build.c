/* The decoder on a tape: embed, then per layer
 *   x += norm(o(attention(rope(q(norm x)), rope(k(norm x)), v(norm x))))
 *   x += norm(down(act(gate(norm x)) * up(norm x)))
 * then norm and head. What a model has decides what is recorded: a norm, bias or table of rope
 * factors that is not there is left out. How a weight takes part (frozen, in another format, with
 * an adapter, trained) is its patch's say. */
#include "arch.h"

#include <assert.h>

/* Linears with one input and one way of rounding it share the result. */
typedef struct shared_rounding {
    const lq_rounding *how;
    lq_tensor *x, *y;
} shared_rounding;

typedef struct builder {
    const lq_model *m;
    const lq_build_options *o;
    lq_tape *tape;
    lq_model_io *io;
    lq_tensor *rope_factors;   /* NULL: none */
    shared_rounding *last;
} builder;

static const lq_patch *patch_of(const builder *b, int i) {
    return b->o->patch ? &b->o->patch[i] : NULL;
}

/* The tensor of weight i as its patch wants it; NULL when i is -1. */
static lq_tensor *weight_tensor(const builder *b, int i) {
    if (i < 0) return NULL;
    const lq_weight *w = &b->m->weight[i];
    const lq_patch *p = patch_of(b, i);
    const int ndim = w->rows == 1 && w->role != LQ_ROLE_SHARED_ROUTER ? 1 : 2;
    const int64_t dim[2] = {w->rows, w->cols};
    const int64_t *sizes = ndim == 1 ? &dim[1] : dim;
    if (p && p->full && !lq_weight_is_constant(w))
        return lq_tape_param(b->tape, w->name, ndim, sizes, p->w, p->dw);
    if (p && p->fmt) return lq_tape_weight(b->tape, w->name, p->fmt, ndim, sizes, p->data);
    return lq_tape_weight(b->tape, w->name, w->fmt, ndim, sizes, w->data);
}

static lq_tensor *find_tensor(const builder *b, lq_role role, int layer) {
    return weight_tensor(b, lq_model_find(b->m, role, layer, false));
}

static lq_tensor *norm(const builder *b, lq_tensor *x, lq_role role, int layer) {
    const float eps = b->m->hp.norm_eps;
    lq_tensor *w = find_tensor(b, role, layer);
    if (!w) return x;
    if (!b->m->arch->layer_norm) return lq_rmsnorm(b->tape, x, w, (lq_rmsnorm_attr){eps});
    lq_tensor *bias = weight_tensor(b, lq_model_find(b->m, role, layer, true));
    return lq_layernorm(b->tape, x, w, bias, (lq_layernorm_attr){eps});
}

static const lq_runtime *runtime_of(const builder *b) {
    static const lq_runtime exact = {0};
    return b->o->exact ? &exact : &b->m->runtime;
}

static lq_tensor *rounded(const builder *b, lq_tensor *x, const lq_rounding *how) {
    return how ? lq_fakequant(b->tape, x, (lq_fakequant_attr){how}) : x;
}

/* x as it enters a product with w. */
static lq_tensor *entering(const builder *b, lq_tensor *x, const lq_tensor *w) {
    const lq_rounding *how = runtime_of(b)->activations ? lq_activation_rounding(w->fmt) : NULL;
    if (b->last->x != x || b->last->how != how) {
        b->last->y = rounded(b, x, how);
        b->last->x = x;
        b->last->how = how;
    }
    return b->last->y;
}

/* y without what an initialisation took from W, where W's data still has it. */
static lq_tensor *without_taken(const builder *b, lq_tensor *y, lq_tensor *x, const lq_patch *p) {
    if (!p->a0 || p->fmt) return y;
    const int64_t a_dim[2] = {p->rank, lq_cols(x)}, b_dim[2] = {lq_cols(y), p->rank};
    lq_tensor *down = lq_tape_weight(b->tape, "taken_a", &lq_f32, 2, a_dim, p->a0);
    lq_tensor *up = lq_tape_weight(b->tape, "taken_b", &lq_f32, 2, b_dim, p->b0);
    lq_tensor *low = lq_linear(b->tape, x, down, NULL);
    low = lq_scale_rows(b->tape, low, (lq_scale_attr){-p->scale});
    return lq_add(b->tape, y, lq_linear(b->tape, low, up, NULL));
}

/* x W^T + bias with W the tensor of weight i, plus its adapter. */
static lq_tensor *project(const builder *b, lq_tensor *x, int i, lq_tensor *w) {
    const lq_weight *weight = &b->m->weight[i];
    const lq_patch *p = patch_of(b, i);
    lq_tensor *bias = weight_tensor(b, lq_model_find(b->m, weight->role, weight->layer, true));
    lq_tensor *in = entering(b, x, w), *const for_w = p && !p->merged && in != x ? in : NULL;
    if (p && p->d) {
        const int64_t dim[2] = {weight->rows, weight->cols / w->fmt->block};
        return lq_scaled_linear(b->tape, in, w, bias,
                                lq_tape_param(b->tape, "scales", 2, dim, p->d, p->dd));
    }
    if (!p || !p->rank) return lq_linear(b->tape, in, w, bias);
    const int64_t a_dim[2] = {p->rank, weight->cols}, b_dim[2] = {weight->rows, p->rank};
    lq_tensor *down = lq_tape_param(b->tape, "lora_a", 2, a_dim, p->a, p->da);
    lq_tensor *up = lq_tape_param(b->tape, "lora_b", 2, b_dim, p->b, p->db);
    lq_tensor *m = NULL, *norm = NULL;
    if (p->m) {
        m = lq_tape_param(b->tape, "lora_magnitude", 1, &weight->rows, p->m, p->dm);
        norm = lq_tape_weight(b->tape, "norm", &lq_f32, 1, &weight->rows, p->norm);
    }
    lq_tensor *y = lq_dora_linear(b->tape, for_w ? x : in, for_w, w, bias, down, up, m, norm,
                                  (lq_lora_attr){p->scale, p->dropout, p->merged, p->clipped});
    return without_taken(b, y, x, p);
}

/* NULL if there is no such weight. */
static lq_tensor *linear(const builder *b, lq_tensor *x, lq_role role, int layer) {
    const int i = lq_model_find(b->m, role, layer, false);
    return i < 0 ? NULL : project(b, x, i, weight_tensor(b, i));
}

/* A projection of its own, or its columns of the fused one. */
static lq_tensor *part(const builder *b, lq_tensor *x, lq_role role, int layer, lq_tensor *fused,
                       int64_t first, int64_t n) {
    return fused ? lq_columns(b->tape, fused, (lq_columns_attr){first, n})
                 : linear(b, x, role, layer);
}

static lq_tensor *rope(const builder *b, lq_tensor *x, int layer) {
    const lq_hparams *hp = &b->m->hp;
    const int period = b->m->arch->rope_period;
    if (b->m->arch->no_rope || (period && (layer + 1) % period == 0)) return x;
    const bool local = hp->local[layer];
    const lq_rope_attr attr = {
        .head_dim = (int)hp->head_dim, .n_rot = (int)hp->n_rot, .neox = b->m->arch->neox,
        .freq_base = local ? hp->local_freq_base : hp->rope_freq_base,
        .freq_scale = local ? hp->local_freq_scale : hp->rope_freq_scale,
        .attn_factor = hp->rope_attn_factor};
    return lq_rope(b->tape, x, b->io->pos, b->rope_factors, attr);
}

static lq_tensor *cache_tensor(const builder *b, const char *name, float *const *cache, int layer) {
    const int64_t dim[2] = {b->o->n_ctx, b->m->hp.n_head_kv * b->m->hp.head_dim};
    return cache ? lq_tape_param(b->tape, name, 2, dim, cache[layer], NULL) : NULL;
}

static lq_tensor *attention(const builder *b, lq_tensor *x, int layer) {
    const lq_hparams *hp = &b->m->hp;
    const int64_t d = hp->head_dim, q_cols = hp->n_head * d, kv_cols = hp->n_head_kv * d;
    lq_tensor *fused = linear(b, x, LQ_ROLE_ATTN_QKV, layer);
    if (fused && hp->clamp_qkv > 0)
        fused = lq_clamp(b->tape, fused, (lq_clamp_attr){hp->clamp_qkv});
    lq_tensor *q = part(b, x, LQ_ROLE_ATTN_Q, layer, fused, 0, q_cols);
    lq_tensor *k = part(b, x, LQ_ROLE_ATTN_K, layer, fused, q_cols, kv_cols);
    lq_tensor *v = part(b, x, LQ_ROLE_ATTN_V, layer, fused, q_cols + kv_cols, kv_cols);
    q = rope(b, norm(b, q, LQ_ROLE_ATTN_Q_NORM, layer), layer);
    k = rope(b, norm(b, k, LQ_ROLE_ATTN_K_NORM, layer), layer);
    const lq_attention_attr attr = {
        .n_head = (int)hp->n_head, .n_head_kv = (int)hp->n_head_kv,
        .head_dim = (int)hp->head_dim, .scale = hp->attn_scale,
        .window = hp->local[layer] ? (int)hp->sliding_window : 0, .softcap = hp->attn_softcap,
        .alibi = hp->alibi};
    q = rounded(b, q, runtime_of(b)->queries);
    k = rounded(b, k, runtime_of(b)->keys);
    v = rounded(b, v, runtime_of(b)->values);
    lq_tensor *k_cache = cache_tensor(b, "k_cache", b->o->k_cache, layer);
    lq_tensor *v_cache = cache_tensor(b, "v_cache", b->o->v_cache, layer);
    lq_tensor *mixed = lq_attention(b->tape, q, k, v, b->io->starts, k_cache, v_cache, attr);
    return linear(b, mixed, LQ_ROLE_ATTN_OUTPUT, layer);
}

/* ---- experts --------------------------------------------------------------------------------- */

static lq_expert_part expert_part(const builder *b, lq_role role, int layer) {
    const int i = lq_model_find(b->m, role, layer, false);
    const lq_weight *w = &b->m->weight[i];
    const lq_patch *p = patch_of(b, i);
    lq_expert_part part = {.w = weight_tensor(b, i)};
    if (runtime_of(b)->activations) part.how = lq_activation_rounding(part.w->fmt);
    if (!p || !p->rank) return part;
    if (p->dropout > 0)
        lq_tape_fail(b->tape, LQ_EUNSUPPORTED,
                     "lora_dropout is %g: not supported on %s, an adapter per expert; set it to 0 "
                     "or take the experts out of lora_target_modules", (double)p->dropout, w->name);
    const int64_t a_dim[2] = {w->n_mats * p->rank, w->cols}, b_dim[2] = {w->rows, p->rank};
    part.a = lq_tape_param(b->tape, "lora_a", 2, a_dim, p->a, p->da);
    part.b = lq_tape_param(b->tape, "lora_b", 2, b_dim, p->b, p->db);
    part.lora = (lq_lora_attr){.scale = p->scale, .merged = p->merged};
    return part;
}

/* The expert that every token uses, times a factor of the token's own where the model has one. */
static lq_tensor *shared_expert(const builder *b, lq_tensor *x, int layer) {
    lq_tensor *gate = linear(b, x, LQ_ROLE_SHARED_GATE, layer);
    if (!gate) return NULL;
    lq_tensor *up = linear(b, x, LQ_ROLE_SHARED_UP, layer);
    lq_tensor *hidden = lq_glu(b->tape, gate, up, (lq_glu_attr){b->m->arch->act});
    lq_tensor *out = linear(b, hidden, LQ_ROLE_SHARED_DOWN, layer);
    const int i = lq_model_find(b->m, LQ_ROLE_SHARED_ROUTER, layer, false);
    return i < 0 ? out : lq_row_gate(b->tape, out, linear(b, x, LQ_ROLE_SHARED_ROUTER, layer));
}

static lq_tensor *mixture(const builder *b, lq_tensor *x, int layer) {
    const lq_route_attr attr = {.n_used = (int)b->m->hp.n_expert_used,
                                .normalise = b->m->arch->normalises_shares, .scale = 1};
    const lq_expert_part parts[LQ_EXPERT_PARTS] = {
        [LQ_EXPERT_GATE] = expert_part(b, LQ_ROLE_EXPERTS_GATE, layer),
        [LQ_EXPERT_UP] = expert_part(b, LQ_ROLE_EXPERTS_UP, layer),
        [LQ_EXPERT_DOWN] = expert_part(b, LQ_ROLE_EXPERTS_DOWN, layer),
    };
    lq_tensor *shares = lq_route(b->tape, linear(b, x, LQ_ROLE_ROUTER, layer), attr);
    lq_tensor *out = lq_experts(b->tape, x, shares, parts, b->m->arch->act);
    lq_tensor *shared = shared_expert(b, x, layer);
    b->io->shares[layer] = shares;
    lq_tape_output(b->tape, shares);
    return shared ? lq_add(b->tape, out, shared) : out;
}

/* ---- the block ------------------------------------------------------------------------------- */

static lq_tensor *feed_forward(const builder *b, lq_tensor *x, int layer) {
    const int64_t n_ff = b->m->hp.n_ff;
    if (b->m->hp.n_expert) return mixture(b, x, layer);
    const lq_glu_attr attr = {b->m->arch->act};
    lq_tensor *fused = linear(b, x, LQ_ROLE_FFN_GATE_UP, layer);
    lq_tensor *gate = part(b, x, LQ_ROLE_FFN_GATE, layer, fused, 0, n_ff);
    lq_tensor *up = part(b, x, LQ_ROLE_FFN_UP, layer, fused, n_ff, n_ff);
    lq_tensor *hidden = gate ? lq_glu(b->tape, gate, up, attr) : lq_glu(b->tape, up, NULL, attr);
    return linear(b, hidden, LQ_ROLE_FFN_DOWN, layer);
}

static lq_tensor *add(const builder *b, lq_tensor *x, lq_tensor *more) {
    const float by = b->m->hp.residual_scale;
    return lq_add(b->tape, x, by != 1 ? lq_scale_rows(b->tape, more, (lq_scale_attr){by}) : more);
}

static bool has(const builder *b, lq_role role, int layer) {
    return lq_model_find(b->m, role, layer, false) >= 0;
}

/* Without a norm of its own before or after it, the feed-forward reads what attention reads. */
static bool is_parallel(const builder *b, int layer) {
    return !has(b, LQ_ROLE_FFN_NORM, layer) && !has(b, LQ_ROLE_FFN_POST_NORM, layer);
}

static lq_tensor *block(const builder *b, lq_tensor *x, int layer) {
    lq_tensor *read = norm(b, x, LQ_ROLE_ATTN_NORM, layer);
    lq_tensor *own = has(b, LQ_ROLE_ATTN_NORM_2, layer) ? norm(b, x, LQ_ROLE_ATTN_NORM_2, layer)
                                                        : read;
    lq_tensor *mixed = attention(b, own, layer);
    x = add(b, x, norm(b, mixed, LQ_ROLE_ATTN_POST_NORM, layer));
    if (!is_parallel(b, layer)) read = norm(b, x, LQ_ROLE_FFN_NORM, layer);
    lq_tensor *out = feed_forward(b, read, layer);
    return add(b, x, norm(b, out, LQ_ROLE_FFN_POST_NORM, layer));
}

/* ---- embedding and head ---------------------------------------------------------------------- */

static int64_t context(const builder *b) { return b->o->n_ctx ? b->o->n_ctx : b->m->n_ctx; }

/* Learned positions end where the model's context does. */
static lq_tensor *add_positions(const builder *b, lq_tensor *x) {
    lq_tensor *w = find_tensor(b, LQ_ROLE_POSITION_EMBD, -1);
    if (!w) return x;
    if (context(b) > b->m->hp.n_ctx_train)
        return lq_tape_fail(b->tape, LQ_EVALUE,
                            "%lld tokens in a row, the model has learned %lld positions",
                            (long long)context(b), (long long)b->m->hp.n_ctx_train);
    return lq_add(b->tape, x, lq_embed(b->tape, b->io->pos, w, NULL, (lq_embed_attr){.scale = 1}));
}

static lq_tensor *embed(const builder *b, lq_tensor *w) {
    const lq_embed_attr attr = {.scale = b->m->hp.embed_scale, .noise_alpha = b->o->noise_alpha};
    return add_positions(b, lq_embed(b->tape, b->io->ids, w,
                                     attr.noise_alpha > 0 ? b->io->starts : NULL, attr));
}

/* What the head's weight is multiplied with, so that products are logits. */
static lq_tensor *into_head(const builder *b, lq_tensor *x) {
    const float divisor = b->m->hp.logit_scale;
    return divisor != 1 ? lq_scale_rows(b->tape, x, (lq_scale_attr){1 / divisor}) : x;
}

/* The head of an unquantized model, as it is in its file. */
static lq_tensor *teacher_head(const builder *b, const lq_model *teacher) {
    const lq_weight *w = &teacher->weight[lq_model_head(teacher)];
    const int64_t dim[2] = {w->rows, w->cols};
    return lq_tape_weight(b->tape, w->name, w->fmt, 2, dim, w->data);
}

static lq_tensor *distilling_head(const builder *b, lq_tensor *x, lq_tensor *w) {
    const lq_distil *d = b->o->distil;
    const lq_kd_head_attr attr = {
        .softcap = b->m->hp.final_softcap,
        .teacher_softcap = d->teacher ? d->teacher->hp.final_softcap : 0,
        .alpha = d->alpha, .temperature = d->temperature, .reverse = d->reverse,
        .top_k = d->top_k};
    lq_tensor *with = d->top_k ? b->io->teacher_log_p : teacher_head(b, d->teacher);
    return lq_kd_head(b->tape, x, w, b->io->labels, b->io->teacher, with, attr);
}

/* The cross-entropy head computes no product of its own with an adapter: one that is not part of
 * the weight's data already, or that is to be trained, cannot sit on it. */
static lq_tensor *head(const builder *b, lq_tensor *x, lq_tensor *embd) {
    const float softcap = b->m->hp.final_softcap;
    const int i = lq_model_head(b->m);
    lq_tensor *w = b->m->tied ? embd : weight_tensor(b, i);
    const lq_patch *p = patch_of(b, i);
    if (b->o->loss && p && (p->dd || (p->rank && !(p->merged && !p->da))))
        return lq_tape_fail(b->tape, LQ_EUNSUPPORTED,
                            "an adapter on %s cannot be trained yet; take the head out of "
                            "lora_target_modules",
                            b->m->weight[i].name);
    if (b->o->distil) return distilling_head(b, entering(b, x, w), w);
    if (b->o->loss)
        return lq_ce_head(b->tape, entering(b, x, w), w, b->io->labels, (lq_ce_head_attr){softcap});
    lq_tensor *logits = project(b, x, i, w);
    return softcap > 0 ? lq_softcap(b->tape, logits, (lq_softcap_attr){softcap}) : logits;
}

static void add_teacher_inputs(const builder *b) {
    const lq_distil *d = b->o->distil;
    if (!d) return;
    if (d->top_k) {
        b->io->teacher = lq_tape_input(b->tape, "teacher_ids", &lq_i32, d->top_k);
        b->io->teacher_log_p = lq_tape_input(b->tape, "teacher_log_p", &lq_f32, d->top_k + 1);
    } else {
        b->io->teacher = lq_tape_input(b->tape, "teacher", lq_tape_activation(b->tape),
                                       d->teacher->hp.n_embd);
    }
}

static lq_tensor *rope_factors(const builder *b) {
    const lq_role role = context(b) > b->m->hp.n_ctx_orig ? LQ_ROLE_ROPE_LONG : LQ_ROLE_ROPE_SHORT;
    lq_tensor *only = find_tensor(b, LQ_ROLE_ROPE_FREQS, -1);
    const int64_t pairs = b->m->hp.n_rot / 2;
    if (b->m->yarn) return lq_tape_weight(b->tape, "yarn", &lq_f32, 1, &pairs, b->m->yarn);
    return only ? only : find_tensor(b, role, -1);
}

static void add_inputs(const builder *b) {
    *b->io = (lq_model_io){
        .ids = lq_tape_input(b->tape, "ids", &lq_i32, 0),
        .pos = lq_tape_input(b->tape, "pos", &lq_i32, 0),
        .starts = lq_tape_input(b->tape, "starts", &lq_i32, 0),
        .labels = b->o->loss ? lq_tape_input(b->tape, "labels", &lq_i32, 0) : NULL,
    };
    add_teacher_inputs(b);
}

lq_status lq_model_build(const lq_model *m, const lq_build_options *options, lq_tape *tape,
                         lq_model_io *io) {
    shared_rounding last = {0};
    builder b = {.m = m, .o = options, .tape = tape, .io = io, .last = &last};
    assert(!options->k_cache == !options->v_cache && !(options->loss && options->k_cache));
    assert(!options->distil || (options->loss && !options->hidden));
    add_inputs(&b);
    b.rope_factors = rope_factors(&b);
    lq_tensor *embd = find_tensor(&b, LQ_ROLE_TOKEN_EMBD, -1);
    lq_tensor *x = embed(&b, embd);
    for (int layer = 0; layer < m->hp.n_layer; layer++) {
        lq_tape_segment(tape, layer);
        x = block(&b, x, layer);
    }
    lq_tape_segment(tape, -1);
    x = into_head(&b, norm(&b, x, LQ_ROLE_OUTPUT_NORM, -1));
    io->out = options->hidden ? x : head(&b, x, embd);
    lq_tape_output(tape, io->out);
    return LQ_OK;
}
