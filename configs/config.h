/* One run's configuration. One schema table (schema.c) drives defaults, YAML reading, aliases,
 * bounds, command-line overrides, help and the dump: the fields below are what its rows point at.
 * Strings and lists are owned by the config. Text that was not given is NULL; 0 is "off" or "choose
 * for me" where the help says so. */
#ifndef LOQUAT_CONFIG_H
#define LOQUAT_CONFIG_H

#include "base.h"
#include "str.h"

typedef struct lq_strings { char **s; int n; } lq_strings;          /* s[n] is NULL */
typedef struct lq_map_entry { char *key; double value; } lq_map_entry;
typedef struct lq_map { lq_map_entry *e; int n; } lq_map;
typedef struct lq_setting_entry { char *key, *value; } lq_setting_entry;
typedef struct lq_settings { lq_setting_entry *e; int n; } lq_settings;
typedef struct lq_ints { int64_t *v; int n; } lq_ints;
typedef struct lq_dataset_entry { char *path, *type, *split; double weight; } lq_dataset_entry;
typedef struct lq_dataset_entries { lq_dataset_entry *e; int n; } lq_dataset_entries;

typedef struct lq_config {
    /* model */
    char *base_model, *adapter /* "lora" "full" */, *lora_model_dir, *device, *bf16, *base_quant;
    int64_t threads;                         /* 0: all cores */
    /* adapter */
    int64_t lora_r; double lora_alpha, lora_dropout;
    lq_strings lora_target_modules, lora_exclude_modules; lq_ints lora_layers_to_transform;
    lq_map lora_rank_pattern, lora_alpha_pattern;
    bool use_rslora, use_dora; char *init_lora_weights; double loraplus_lr_ratio;
    /* data */
    lq_dataset_entries datasets, test_datasets; char *data;
    double val_set_size; int64_t sequence_len;
    char *excess_length_strategy, *chat_template, *chat_template_jinja; bool train_on_inputs;
    lq_strings roles_to_train; bool sample_packing; char *dataset_prepared_path, *data_order;
    /* training */
    int64_t micro_batch_size, gradient_accumulation_steps; double num_epochs; int64_t max_steps;
    double learning_rate; char *lr_scheduler;
    double cosine_min_lr_ratio, warmup_ratio; int64_t warmup_steps;
    char *optimizer; double adam_beta1, adam_beta2, adam_epsilon, weight_decay, max_grad_norm;
    bool gradient_checkpointing; double neftune_noise_alpha, ema_decay; int64_t seed;
    /* run */
    char *output_dir; bool overwrite_output_dir; int64_t logging_steps;
    double eval_steps; int64_t evals_per_epoch; double save_steps; int64_t saves_per_epoch;
    int64_t save_total_limit; bool load_best_model_at_end; char *metric_for_best_model;
    int64_t early_stopping_patience; char *resume_from_checkpoint, *report_to, *run_name;
    double loss_watchdog_threshold; int64_t loss_watchdog_patience;
    /* recipe: phases in this order, each with keys of its own */
    lq_strings recipe; lq_settings lora, qad;
    /* qat: present when the section is given */
    bool has_qat;
    struct {
        char *weight_dtype, *mode, *token_embedding_type, *output_tensor_type;
        lq_strings tensor_type; char *activation_dtype, *imatrix;
        double fake_quant_after_n_steps; int64_t requantize_every; char *ste;
    } qat;
    bool has_kd;
    struct { double alpha, temperature; char *teacher; int64_t top_k; char *divergence; } kd;
    struct {
        char *output_dir; lq_strings quantize; bool lora; char *outtype;
        bool peft, merged_safetensors;
    } exports;
} lq_config;

/* A mistake list: every problem of a file and of the overrides, reported together. */
/* The key with or without leading dashes. */
typedef struct lq_override { const char *key, *value; } lq_override;

/* Defaults, then the YAML file (path NULL: none), then the overrides, then the checks between keys.
 * LQ_ECONFIG: lq_error() holds one line per mistake, "FILE:LINE: key: found ..., wanted ..." or
 * "--key: ..."; an unknown key comes with the nearest known one. Options that this build cannot
 * honour yet are mistakes too, by name; none is ever silently ignored. */
lq_status lq_config_load(lq_config **out, const char *path, const lq_override *overrides,
                         int n_overrides);
/* The same from YAML text, without overrides; `name` stands for the file in messages. */
lq_status lq_config_parse(lq_config **out, const char *yaml, const char *name);
void lq_config_free(lq_config *c);

/* What a phase of a recipe starts from and where it writes; "null" for the default. */
typedef struct lq_phase_paths { const char *output_dir, *export_dir, *adapter; } lq_phase_paths;
/* The configuration of one phase of c->recipe: "lora", without quantization and teacher, or "qad",
 * quantized and with a teacher, starting from paths->adapter. */
lq_status lq_config_phase(lq_config **out, const lq_config *c, const char *phase,
                          const lq_phase_paths *paths);

/* The resolved config as YAML: parsing it again gives the same config. */
lq_status lq_config_dump(const lq_config *c, lq_str *out);
/* Names of the keys whose values differ, comma-separated ("" if none). `result_only` leaves out
 * keys that do not change the result of a run (logging, saving, output, export, threads), and the
 * paths of model and data, whose contents a run fingerprints. */
lq_status lq_config_diff(const lq_config *a, const lq_config *b, bool result_only, lq_str *out);
/* One paragraph per group: key, aliases, type, default, bounds, help. */
lq_status lq_config_help(lq_str *out);
/* For the command line: is `--name` a config key (any spelling)? *takes_value false for booleans
 * that may stand alone. */
bool lq_config_is_key(const char *name, bool *takes_value);

#endif
