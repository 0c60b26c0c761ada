/* One training run: everything it holds, and the functions that move it. setup.c opens it,
 * step.c is one optimizer step, loop.c runs to the end, checkpoint.c saves and resumes,
 * artifacts.c exports. */
#ifndef LOQUAT_TRAINER_H
#define LOQUAT_TRAINER_H

#include "adapter.h"
#include "base_hash.h"
#include "config.h"
#include "loquat.h"
#include "net.h"
#include "optim.h"
#include "output_dir.h"
#include "prepare.h"
#include "scorer.h"
#include "teacher.h"
#include "types.h"

#include <jansson.h>
#include <stdio.h>

/* What a checkpoint restores besides the arrays: the run's position. Plain numbers only. */
typedef struct lq_position {
    int64_t step;              /* optimizer steps done (skipped ones count) */
    int64_t batches;           /* micro-batches consumed: the loader's position */
    int64_t tokens;            /* real tokens seen */
    int64_t skipped, skipped_in_a_row;   /* steps with a non-finite loss or gradient */
    int64_t above_threshold;   /* steps in a row with a loss above loss_watchdog_threshold */
    int64_t evals_without_gain;
    int64_t best_step;         /* -1: no evaluation yet */
    int64_t best_is_ema;       /* the best is the running average */
    double best_loss, best_kl;
    double start_loss, start_kl; /* validated before the first step; NaN: no validation data, no
                                    teacher */
    double last_loss, last_kl; /* of the last logged step */
    /* since the last log line */
    double logged_loss, logged_kl; int64_t logged_labels, logged_tokens;
    int64_t metrics_bytes;     /* length of metrics.jsonl */
    int64_t optim_step;        /* updates applied: the optimizer's own t */
    double seconds;            /* spent training, over all processes of the run */
} lq_position;

typedef struct lq_trainer {
    lq_config *config;
    lq_output output;
    char *checkpoint_dir;
    int64_t began;                     /* seconds since 1970, kept in output_dir/started */
    lq_dev *dev;                       /* where it computes; spans below are its memory */
    lq_model *model;
    lq_base_hash base_hash;
    lq_prepared data;
    lq_types types;                    /* of the file that QAT trains for; the adapter borrows it */
    lq_adapter *adapter;
    char start_key[LQ_SHA256_HEX];     /* of the parameters taken from lora_model_dir; "": none */
    lq_patch *plain_patch;             /* the adapter's patches without quantization: before
                                          fake_quant_after_n_steps; NULL when not needed */
    lq_loader *loader;
    lq_batch batch;
    lq_net net;
    bool net_is_quantized;             /* which of the patch lists the net was built with */
    lq_teacher *teacher;               /* NULL: labels only */
    bool best_by_kl;                   /* metric_for_best_model, decided */
    lq_scorer *scorer;                 /* NULL: no validation data */
    const lq_optim *rule;
    lq_optim_options optim;
    lq_optim_group groups[2]; int n_groups;
    const lq_schedule *schedule;
    float *state;                      /* rule->n_state * n_params */
    float *ema;                        /* n_params; NULL: off */
    float *best;                       /* n_params: the best validated; NULL: no evaluation yet */
    float *searched;                   /* n_params: those whose scales the effective weights have;
                                          NULL: every rebuild searches (requantize_every 1) */
    float *kept;                       /* n_params scratch while others are being validated */
    int64_t total_batches, total_steps, steps_per_epoch, warmup_steps, quant_from_step;
    int64_t eval_every, save_every;    /* steps; 0: never */
    lq_position at;
    FILE *metrics;
    const loquat_callbacks *callbacks;
    double started, seconds_started, tokens_started;    /* of this process: tokens/s, time left */
    void *norm_work; double *norm;     /* the device's and, pinned, the host's: see lq_optim_norm */
    double grad_norm, learning_rate;   /* of the last step, for reports */
    int64_t *expert_load;              /* of the last step; NULL: the model has no experts */
} lq_trainer;

/* Takes ownership of `config`. Resumes when resume_from_checkpoint says so. */
lq_status lq_trainer_open(lq_trainer **out, lq_config *config, const loquat_callbacks *callbacks);
void lq_trainer_close(lq_trainer *t);

/* One optimizer step. LQ_EINTERRUPTED (nothing changed) when a stop was asked for. */
lq_status lq_train_step(lq_trainer *t);
/* Trains to the end, exports and writes run.json. *out_record may be NULL. */
lq_status lq_trainer_run(lq_trainer *t, char **out_record);

/* Copies a span of parameters; both are the device's memory. */
void lq_trainer_copy(lq_trainer *t, float *to, const float *from);
/* Puts `param` in the adapter's span and rebuilds the effective weights. */
lq_status lq_trainer_use(lq_trainer *t, const float *param);
/* The effective weights of the parameters after an update: searched for anew every
 * qat.requantize_every steps and before every validation, else with the scales that they have. */
lq_status lq_trainer_requantize(lq_trainer *t);
/* The same weights again after a resume. */
lq_status lq_trainer_restore_weights(lq_trainer *t);

/* ---- checkpoint.c ---- */
lq_status lq_checkpoint_save(lq_trainer *t);
/* path: a checkpoint, or "auto": the newest that can be read. LQ_OK with *resumed false: none
 * there. */
lq_status lq_checkpoint_resume(lq_trainer *t, const char *path, bool *resumed);
/* Removes every checkpoint: a new run starts here. */
lq_status lq_checkpoint_discard(const char *dir);
/* The best parameters of the newest checkpoint in `dir` into `a`'s span (export of a run). base: of
 * the model that they will stand beside; another than the run's is refused. */
lq_status lq_checkpoint_best(lq_adapter *a, const char *dir, lq_base_hash *base,
                             int64_t *out_step);

/* ---- metrics.c: metrics.jsonl ---- */
lq_status lq_metrics_open(lq_trainer *t);   /* cuts the file to at.metrics_bytes first */
lq_status lq_metrics_step(lq_trainer *t, double tokens_per_second);
/* ema: of the running average; written only where there is one. */
lq_status lq_metrics_eval(lq_trainer *t, const lq_loss *loss, const lq_loss *ema);
lq_status lq_metrics_sync(lq_trainer *t);

/* ---- run_imatrix.c: with qat.imatrix, puts the run's importance matrix into output_dir ---- */
lq_status lq_run_imatrix(const lq_trainer *t);

/* ---- artifacts.c ---- */
typedef struct lq_artifact {
    const char *kind, *type;
    char *path;
    char sha256[LQ_SHA256_HEX];
    uint64_t bytes;
} lq_artifact;
typedef struct lq_artifacts { lq_artifact *a; int64_t n, cap; } lq_artifacts;
void lq_artifacts_clear(lq_artifacts *l);
/* Writes what the configuration asks for from the adapter's present state. chat_template: that the
 * run renders with, or NULL. types NULL: config->exports.quantize. */
lq_status lq_export_run(const lq_adapter *a, const lq_config *c, const char *chat_template,
                        const char *dir, const char *const *types, int n_types, lq_artifacts *out);
/* artifacts_hf.c: the directories that the configuration asks for, named after `name`. */
lq_status lq_export_run_hf(const lq_adapter *a, const lq_config *c, const char *chat_template,
                           const char *dir, const char *name, lq_artifacts *out);

/* ---- record.c: run.json ---- */
json_t *lq_artifacts_json(const lq_artifacts *l);
/* The entry of that kind in the artifacts of a record, borrowed; NULL: none. */
const json_t *lq_record_artifact(const json_t *record, const char *kind);
/* final: of the parameters that were exported; no labels: not validated. */
lq_status lq_record_write(lq_trainer *t, const lq_artifacts *artifacts, const lq_loss *final,
                          char **out_json);

/* ---- shared by setup and export: the adapter that a configuration means; it borrows `types` -- */
lq_status lq_adapter_from_config(lq_adapter **out, const lq_model *m, const lq_config *c,
                                 const lq_types *types, bool plan_only);

/* ---- run_device.c ---- */
/* The device that a configuration means; close it. */
lq_status lq_dev_from_config(lq_dev **out, const lq_config *c);
void lq_dev_say(lq_dev *dev);   /* which one, and its free memory, to the log; not of the CPU */
lq_status lq_trainer_span(const lq_trainer *t, float **out, int64_t n);   /* undefined contents */
void lq_trainer_close_device(lq_trainer *t);   /* all spans, and the device */
/* Says what to change where a device's memory is too small; returns status. */
lq_status lq_trainer_explain(const lq_trainer *t, lq_status status);

#endif
