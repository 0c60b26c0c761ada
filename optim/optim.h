/* Update rules over one flat F32 span, schedules, clipping, EMA. One row per rule (AdamW, SGD).
 * AdamW: Loshchilov & Hutter 2019 as in PyTorch: p -= lr*wd*p; m,v moments, bias-corrected. */
#ifndef LOQUAT_OPTIM_H
#define LOQUAT_OPTIM_H

#include "span.h"

/* In double: in float, 1 - beta2 would be right to five digits only. */
typedef struct lq_optim_options {
    double beta1, beta2, epsilon, weight_decay;
    double momentum;         /* sgd */
} lq_optim_options;

/* A run of parameters with a learning-rate factor of its own (LoRA+: B matrices). */
typedef struct lq_optim_group { int64_t first, n; float lr_scale; } lq_optim_group;

typedef struct lq_optim {
    const char *name;        /* "adamw", "sgd": the config's spelling */
    int n_state;             /* floats of state per parameter (AdamW 2, SGD 1) */
    /* One update of n parameters at step t = 1, 2, ... state: n_state arrays `stride` apart. */
    void (*update)(const lq_optim_options *o, float lr, int64_t t, int64_t n, float *param,
                   const float *grad, float *state, int64_t stride);
    /* The same with a device's kernels. */
    void (*update_on)(lq_dev *dev, const lq_optim_options *o, float lr, int64_t t, int64_t n,
                      float *param, const float *grad, float *state, int64_t stride);
} lq_optim;

extern const lq_optim *const lq_optims[];             /* NULL-terminated */
/* Accepts adamw_torch and the like as aliases; NULL if unknown. */
const lq_optim *lq_optim_by_name(const char *name);

/* Applies the rule to all groups (n_groups 0: the whole span at lr), threads over chunks; results
 * do not depend on the thread count. */
void lq_optim_step(const lq_optim *rule, const lq_optim_options *o, const lq_optim_group *groups,
                   int n_groups, float lr, int64_t t, int64_t n, float *param, const float *grad,
                   float *state);

/* Euclidean norm in double, fixed summation tree; NaN or infinity passes through. */
double lq_grad_norm(const float *grad, int64_t n);
void lq_scale(float *x, int64_t n, float factor);
/* ema = decay * ema + (1 - decay) * param */
void lq_ema_update(float *ema, const float *param, int64_t n, float decay);

/* ---- the same on a device's queue: spans and work are its memory, out is pinned ---- */
void lq_optim_step_on(lq_dev *dev, const lq_optim *rule, const lq_optim_options *o,
                      const lq_optim_group *groups, int n_groups, float lr, int64_t t, int64_t n,
                      float *param, const float *grad, float *state);
size_t lq_optim_work_bytes(void);
void lq_optim_norm(lq_dev *dev, void *work, const float *grad, int64_t n, double *out);
void lq_optim_scale(lq_dev *dev, float *x, int64_t n, float factor);
void lq_optim_ema(lq_dev *dev, float *ema, const float *param, int64_t n, float decay);

typedef struct lq_schedule lq_schedule;
struct lq_schedule {
    const char *name;        /* "constant", "linear", "cosine" */
    /* Share of the peak; progress 0..1 after the warm-up; min_ratio: cosine's floor. */
    double (*factor)(double progress, double min_ratio);
};
extern const lq_schedule *const lq_schedules[];
const lq_schedule *lq_schedule_by_name(const char *name);
/* Learning rate of 0-based step: linear warm-up peak*(step+1)/warmup over `warmup` steps (the first
 * step already learns), then the rule over the steps left, as Hugging Face's
 * get_*_schedule_with_warmup. */
double lq_learning_rate(const lq_schedule *s, double peak, double min_ratio, int64_t step,
                        int64_t warmup, int64_t total);

#endif
