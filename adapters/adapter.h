/* Trainable state on a frozen model: LoRA on any linear, or every weight (`adapter: full`), in one
 * flat F32 span; and the effective (fake-quantized) weights that go with it.
 *
 * merged:   W_hat = Q(W + s B A), rebuilt once per step, kept packed; the exporter writes it.
 * separate: W_hat = Q(W), quantized once.
 * plain:    no QAT, W as it is.
 * An initialisation that takes s B0 A0 from W: all three with W - s B0 A0 for W. */
#ifndef LOQUAT_ADAPTER_H
#define LOQUAT_ADAPTER_H

#include "model.h"
#include "watch.h"

typedef enum lq_qat_mode { LQ_QAT_NONE, LQ_QAT_MERGED, LQ_QAT_SEPARATE } lq_qat_mode;

/* A row of rank_pattern or alpha_pattern. */
typedef struct lq_pattern { const char *key; double value; } lq_pattern;

typedef struct lq_adapter_options {
    bool full;                           /* train every weight; no A and B */
    bool scales;                         /* train the block scales of the targets; no A and B */
    int r;
    double alpha;
    float dropout;
    bool use_rslora;                     /* scale alpha / sqrt(r) */
    bool use_dora;                       /* magnitudes too, as PEFT's: see magnitude.h */
    const char *init;                    /* "default" (A Kaiming-uniform, B 0), "gaussian"; "pissa",
                                            "loftq", "qera": see init_svd.c */
    /* NULL-terminated lists of module names (q_proj, attn_q), suffix paths or globs; targets
     * NULL or {"all-linear"}: every linear of the blocks. A name that matches nothing is an
     * error. */
    const char *const *targets, *const *exclude;
    const int *layers;                   /* layers_to_transform; n_layers 0: all */
    int n_layers;
    const lq_pattern *rank_pattern; int n_rank_pattern;
    const lq_pattern *alpha_pattern; int n_alpha_pattern;
    uint64_t seed;                       /* of the initialisation */
    lq_qat_mode mode;
    bool clipped;                        /* merged: clipped values pass no gradient */
    const struct lq_mix_request *types;  /* of the file that QAT trains for; borrowed for the
                                            adapter's life, its imatrix too */
} lq_adapter_options;

typedef struct lq_adapted {              /* one trained weight */
    int weight;                          /* index in the model */
    int rank;                            /* 0: full, or scales */
    float scale;                         /* s */
    bool dora;                           /* has magnitudes */
    int64_t a, b, m;                     /* offsets in the span; full: a is W's, scales:
                                            theirs; others unused */
} lq_adapted;

typedef struct lq_adapter {
    const lq_model *model;               /* borrowed */
    lq_adapter_options options;          /* pointers inside are the adapter's copies */
    lq_adapted *item; int n_items;
    int64_t n_params;
    float *param;                        /* flat span (n_params): all A, all B, all m */
    float *grad;                         /* the same span; NULL until lq_adapter_train */
    float *taken;                        /* the same span: A0, B0; NULL: nothing taken from W */
    lq_patch *patch;                     /* model->n_weights: what lq_model_build takes */
    void *packed;                        /* effective weights, owned; patches point into it */
    size_t packed_bytes;
    float *norm; int64_t n_norms;        /* lengths of rows that have magnitudes, owned; or NULL */
    uint32_t *clipped; int64_t n_clip_words; /* masks of the merged weights; NULL: not asked */
    lq_watch_sums *watched;              /* n_weights, under QAT: see lq_adapter_watch */
    struct lq_adapter_device *device;    /* NULL: on the CPU (adapter_device.c) */
    struct lq_merge *merge;              /* merged, or magnitudes: what a rebuild runs; or NULL */
} lq_adapter;

/* Matches targets, lays out the span, initialises, packs, and reports (log) what is quantized to
 * what: rows that no block divides keep F16, as llama-quantize does. plan_only: computes counts
 * and patches with NULL data; its spans are never touched, so they cost addresses, not memory. */
lq_status lq_adapter_new(lq_adapter **out, const lq_model *m, const lq_adapter_options *options,
                         bool plan_only);
void lq_adapter_free(lq_adapter *a);
/* Where something was taken from W: this instead (n_params), as a checkpoint kept it. Another
 * machine's decomposition may differ in its last bits, and then the quantized base would, too. */
lq_status lq_adapter_take(lq_adapter *a, const float *taken);
/* Allocates gradients and hangs them into the patches. */
lq_status lq_adapter_train(lq_adapter *a);
/* Copies A and B from a saved adapter (GGUF, PEFT) into the span; targets, ranks and shapes must
 * match, all mismatches listed. Its scale is folded so that s B A is unchanged. With use_dora
 * magnitudes come too, or where it has none start as the rows' lengths. */
lq_status lq_adapter_init_from(lq_adapter *a, const char *path);
/* merged: rebuilds every effective weight from the current span (row tile by row tile, in
 * parallel). With magnitudes: the rows' lengths. Call after the span changed and before the next
 * forward; else a no-op. Fails on NaN. */
lq_status lq_adapter_rebuild(lq_adapter *a);
/* The same, but K-quants keep the scales of the last rebuild and only round their codes anew. */
lq_status lq_adapter_reround(lq_adapter *a);
/* While on, a rebuild also fills `watched` of the weights it makes; switching on sets theirs to
 * zero. Those of weights that are quantized once stay. Costs about a rebuild of Q4_0. */
void lq_adapter_watch(lq_adapter *a, bool on);
size_t lq_adapter_packed_bytes(const lq_adapter *a);

/* ---- where it is (adapter_device.c) ----
 * Moves it to a device, after everything that makes or reads it and before tapes are built: span,
 * gradients and effective weights are then its memory, where training and rebuilds happen. On the
 * CPU a no-op, like the four below; what they return is then the adapter's own. */
lq_status lq_adapter_on(lq_adapter *a, lq_dev *dev);
float *lq_adapter_param(const lq_adapter *a);             /* the span, and */
float *lq_adapter_grad(const lq_adapter *a);              /* its gradients, where tapes run */
const lq_patch *lq_adapter_patch(const lq_adapter *a);    /* what lq_model_build takes */
/* To the device, queued: `param`, and what lq_adapter_take changes. Rebuild after it. */
void lq_adapter_send(const lq_adapter *a);
/* Brings `param`, `packed` and `norm` up to date, before files are written of them; fails if the
 * last rebuild did. */
lq_status lq_adapter_fetch(lq_adapter *a);
/* Waits for queued rebuilds and returns what they came to. */
lq_status lq_adapter_settle(const lq_adapter *a);

/* Adapters for inference: files (adapter GGUF) with user scales, stacked into one patch list. */
typedef struct lq_lora_file { const char *path; float scale; } lq_lora_file;
lq_status lq_adapter_load(lq_adapter **out, const lq_model *m, const lq_lora_file *files, int n);

#endif
