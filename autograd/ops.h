/* The constructors of the operations, with their formulas. Letters: N token rows of a run, D width,
 * F feed-forward width, H query heads, K key/value heads, d head size, V vocabulary, R rank, O rows
 * of a weight (its outputs). Weights are (O, D) row-major in any format; activations are F32. */
#ifndef LOQUAT_OPS_H
#define LOQUAT_OPS_H

#include "rounding.h"
#include "tape.h"

#ifdef __cplusplus
extern "C" {
#endif

/* out (N,D) = scale * W[ids]. When training, noise_alpha > 0 adds NEFTune noise U(-1,1) *
 * noise_alpha / sqrt(L * D), L the length of the row's segment (arXiv 2310.05914). ids (N) i32;
 * starts (N) i32 as in attention, needed only for noise, else NULL. W (V,D). */
typedef struct lq_embed_attr { float scale, noise_alpha; } lq_embed_attr;
lq_tensor *lq_embed(lq_tape *tape, lq_tensor *ids, lq_tensor *w, lq_tensor *starts,
                    lq_embed_attr attr);

/* out (N,D) = x / sqrt(mean(x^2) + eps) * w, for each run of len(w) columns: w (D) is the usual
 * norm, w (d) on (N, H*d) is a norm per head (Qwen3, Gemma 3). Mean of squares in double. */
typedef struct lq_rmsnorm_attr { float eps; } lq_rmsnorm_attr;
lq_tensor *lq_rmsnorm(lq_tape *tape, lq_tensor *x, lq_tensor *w, lq_rmsnorm_attr attr);

/* out (N,D) = (x - mean) / sqrt(mean((x - mean)^2) + eps) * w + bias, of each row. w (D), bias (D)
 * or NULL. */
typedef struct lq_layernorm_attr { float eps; } lq_layernorm_attr;
lq_tensor *lq_layernorm(lq_tape *tape, lq_tensor *x, lq_tensor *w, lq_tensor *bias,
                        lq_layernorm_attr attr);

/* out (N,O) = x W^T + bias. x (N,D), W (O,D) frozen in any format or a trained F32 parameter, bias
 * (O) or NULL. */
lq_tensor *lq_linear(lq_tape *tape, lq_tensor *x, lq_tensor *w, lq_tensor *bias);

/* A linear with a low-rank adapter A (R,D), B (O,R), both F32 parameters.
 * separate (and plain LoRA): out = x W^T + bias + scale * (drop(x) A^T) B^T.
 * merged: W is already the effective weight Q(W + scale * B A); out = x W^T + bias, and backward is
 * the identity straight-through estimator. Both: dB += scale * dY^T (x A^T), dA += scale * (dY B)^T
 * x, dx += dY W (+ scale * (dY B) A when not merged). No (O,D) gradient is ever formed.
 * rounded (N,D): what is multiplied with W in place of x, whose place in A's product it does not
 * take; NULL: x. Not when merged: there W and the adapter are one, and so is their input. */
typedef struct lq_lora_attr {
    float scale;
    float dropout;   /* probability of zeroing an element of x on the A path; 0 when merged */
    bool merged;
    /* Bit j % 32 of clipped[o * D/32 + j/32]: W[o][j] is clipped by its quantizer; it then adds
     * nothing to dA and dB (the clipped estimator). NULL: none. Only merged; read in backward. */
    const uint32_t *clipped;
} lq_lora_attr;
lq_tensor *lq_lora_linear(lq_tape *tape, lq_tensor *x, lq_tensor *rounded, lq_tensor *w,
                          lq_tensor *bias, lq_tensor *a, lq_tensor *b, lq_lora_attr attr);
/* The same with DoRA's magnitudes m (O), a parameter: row o of W + scale * B A is multiplied by
 * m[o] / norm[o], norm (O) being the lengths of these rows, which get no gradient. merged: W holds
 * that already. Both NULL: lora_linear. No dropout, no clipping. */
lq_tensor *lq_dora_linear(lq_tape *tape, lq_tensor *x, lq_tensor *rounded, lq_tensor *w,
                          lq_tensor *bias, lq_tensor *a, lq_tensor *b, lq_tensor *m,
                          lq_tensor *norm, lq_lora_attr attr);

/* out (N,O) = x W^T + bias, W (O,D) packed in Q4_0 or Q8_0, whose codes are frozen; scales
 * (O,D/32), a parameter: its block scales, which W's bytes hold rounded to F16. */
lq_tensor *lq_scaled_linear(lq_tape *tape, lq_tensor *x, lq_tensor *w, lq_tensor *bias,
                            lq_tensor *scales);

/* Rotary embedding of the first n_rot elements of every head of x (N, heads * d) at positions pos
 * (N) i32. theta_i = pos * freq_scale * freq_base^(-2i/n_rot) / factors[i]; cos and sin times
 * attn_factor. neox false: pairs (2i, 2i+1) (GGUF `llama`); true: pairs (i, i + n_rot/2). factors
 * (n_rot/2) F32 or NULL. */
typedef struct lq_rope_attr {
    int head_dim, n_rot;
    bool neox;
    float freq_base, freq_scale, attn_factor;
} lq_rope_attr;
lq_tensor *lq_rope(lq_tape *tape, lq_tensor *x, lq_tensor *pos, lq_tensor *factors,
                   lq_rope_attr attr);

/* Causal grouped-query attention, blocked (memory linear in N): row t attends to rows
 * max(starts[t], t - window + 1) .. t, so packed examples never see each other. q (N, H*d), k, v
 * (N, K*d), starts (N) i32: first row of t's segment; saved: log-sum-exp (N,H).
 * With caches (C, K*d), for generation: k and v are first stored at rows n_past.., and t is row
 * n_past + t; starts then count cache rows. No backward with caches. */
typedef struct lq_attention_attr {
    int n_head, n_head_kv, head_dim;
    float scale;        /* of q.k, usually 1/sqrt(head_dim) */
    int window;         /* 0: unlimited */
    float softcap;      /* cap * tanh(score / cap); 0: none */
    float alibi;        /* the largest ALiBi exponent: head h adds 2^(-alibi (h+1) / H) (key -
                         * query) to its scores, and where H is no power of 2 what llama.cpp does.
                         * 0: none. Not together with softcap */
} lq_attention_attr;
lq_tensor *lq_attention(lq_tape *tape, lq_tensor *q, lq_tensor *k, lq_tensor *v, lq_tensor *starts,
                        lq_tensor *k_cache, lq_tensor *v_cache, lq_attention_attr attr);

/* out (N,F) = act(gate) * up; up NULL: act(gate). LQ_GELU is the exact one. */
typedef enum lq_act { LQ_SILU, LQ_GELU_TANH, LQ_GELU } lq_act;
typedef struct lq_glu_attr { lq_act act; } lq_glu_attr;
lq_tensor *lq_glu(lq_tape *tape, lq_tensor *gate, lq_tensor *up, lq_glu_attr attr);

lq_tensor *lq_add(lq_tape *tape, lq_tensor *a, lq_tensor *b);       /* (N,D) each */

/* out = x as a runtime rounds it, by rows; dx += dy (straight through). Rows are whole blocks. */
typedef struct lq_fakequant_attr { const lq_rounding *how; } lq_fakequant_attr;
lq_tensor *lq_fakequant(lq_tape *tape, lq_tensor *x, lq_fakequant_attr attr);

typedef struct lq_scale_attr { float factor; } lq_scale_attr;
lq_tensor *lq_scale_rows(lq_tape *tape, lq_tensor *x, lq_scale_attr attr);   /* factor * x */

/* out = min(max(x, -most), most) */
typedef struct lq_clamp_attr { float most; } lq_clamp_attr;
lq_tensor *lq_clamp(lq_tape *tape, lq_tensor *x, lq_clamp_attr attr);

/* out (N,n) = columns [first, first + n) of x (N,D): one part of a fused projection. */
typedef struct lq_columns_attr { int64_t first, n; } lq_columns_attr;
lq_tensor *lq_columns(lq_tape *tape, lq_tensor *x, lq_columns_attr attr);

/* out = cap * tanh(x / cap) */
typedef struct lq_softcap_attr { float cap; } lq_softcap_attr;
lq_tensor *lq_softcap(lq_tape *tape, lq_tensor *x, lq_softcap_attr attr);

/* out (N,D) = x * sigmoid(gate), gate (N,1): a factor per row. */
lq_tensor *lq_row_gate(lq_tape *tape, lq_tensor *x, lq_tensor *gate);

/* Routing of a mixture of experts: out (N,E) are the shares of each row's n_used best experts by
 * scores (N,E), 0 for the others: softmax over all experts, of the chosen divided by their sum if
 * `normalise`, times `scale`. */
typedef struct lq_route_attr { int n_used; bool normalise; float scale; } lq_route_attr;
lq_tensor *lq_route(lq_tape *tape, lq_tensor *scores, lq_route_attr attr);

/* The feed-forward of E experts: out (N,D) = sum over experts with a share of
 * share * down(act(gate(x)) * up(x)). x (N,D), shares (N,E); the experts' matrices are stacked:
 * gate and up (E*F,D), down (E*D,F), in any format. An adapter of a part has A (E*R, cols) and B
 * (E*rows, R), or is NULL; `lora` is as in lora_linear, without dropout. */
enum { LQ_EXPERT_GATE, LQ_EXPERT_UP, LQ_EXPERT_DOWN, LQ_EXPERT_PARTS };
typedef struct lq_expert_part {
    lq_tensor *w, *a, *b;
    lq_lora_attr lora;
    const lq_rounding *how;   /* rounds what is multiplied with w, as fakequant; NULL: nothing */
} lq_expert_part;
typedef struct lq_experts_attr {
    lq_act act;
    lq_lora_attr lora[LQ_EXPERT_PARTS];
    const lq_rounding *how[LQ_EXPERT_PARTS];
} lq_experts_attr;
lq_tensor *lq_experts(lq_tape *tape, lq_tensor *x, lq_tensor *shares,
                      const lq_expert_part parts[LQ_EXPERT_PARTS], lq_act act);
/* Of a node of lq_experts whose kernel just ran (lq_tape_observe): for each expert that has tokens,
 * and each of its products, the rows x (n,cols) that are multiplied with the stacked weight w.
 * Another op's node has none. */
typedef void (*lq_experts_fn)(void *ctx, const lq_tensor *w, int64_t expert, const float *x,
                              int64_t n);
lq_status lq_experts_inputs(const lq_node *node, lq_experts_fn fn, void *ctx);

/* The head fused with cross-entropy, in chunks of rows: logits (N,V) never exist, and rows whose
 * label is negative are never computed. h (N,D), W (V,D), labels (N) i32, out (N,2): column 0 the
 * negative log-likelihood in nats (0 for masked rows), column 1 whether the label was the top token
 * (1 or 0). softcap > 0: logits are capped first (Gemma 2). The gradient is that of sum over rows
 * of column 0. */
typedef struct lq_ce_head_attr { float softcap; } lq_ce_head_attr;
lq_tensor *lq_ce_head(lq_tape *tape, lq_tensor *h, lq_tensor *w, lq_tensor *labels,
                      lq_ce_head_attr attr);

/* The same mixed with distillation (arXiv 1503.02531), out (N,4): the loss
 *   (1 - alpha) nll + alpha T^2 KL,   KL of softmax(teacher / T) and softmax(logits / T),
 * whether the label was the top token, nll, KL. reverse: KL(model | teacher), else KL(teacher |
 * model). teacher and teacher_w: with top_k 0 its final hidden states (N,Dt) and its head (V,Dt),
 * whose logits are recomputed; else the ids (N,K) i32 of its most likely tokens and their
 * log-probabilities at T (N,K+1), the last that of all other tokens, which are one bucket. They get
 * no gradient. */
enum { LQ_KD_COLS = 4 };
typedef struct lq_kd_head_attr {
    float softcap, teacher_softcap;
    float alpha, temperature;
    bool reverse;
    int64_t top_k;
} lq_kd_head_attr;
lq_tensor *lq_kd_head(lq_tape *tape, lq_tensor *h, lq_tensor *w, lq_tensor *labels,
                      lq_tensor *teacher, lq_tensor *teacher_w, lq_kd_head_attr attr);

#ifdef __cplusplus
}
#endif
#endif
