/* Loquat's public interface: train low-rank adapters with the GGUF quantizer in the forward pass,
 * evaluate, generate and export. This header stands alone (C11 and C++).
 *
 * Every function that can fail returns a loquat_status (0 is success) and leaves a message for
 * loquat_error() in the calling thread. Text and arrays that come back through `**out_...` are the
 * caller's to loquat_free. The library never prints and never exits; loquat_set_log has its log. */
#ifndef LOQUAT_H
#define LOQUAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum loquat_status {
    LOQUAT_OK,
    LOQUAT_EMEM,         /* out of memory */
    LOQUAT_EIO,          /* a file could not be read or written */
    LOQUAT_EFORMAT,      /* a file's content is malformed */
    LOQUAT_ESHAPE,       /* tensors do not fit together */
    LOQUAT_EVALUE,       /* an argument or a datum is invalid */
    LOQUAT_ECONFIG,      /* the configuration or the options are wrong; all mistakes are listed */
    LOQUAT_EUNSUPPORTED, /* valid, but not supported by this version */
    LOQUAT_ENONFINITE,   /* NaN or infinity */
    LOQUAT_EINTERRUPTED, /* stopped on request; a checkpoint is saved */
    LOQUAT_EBUSY,        /* another process uses the output directory */
    LOQUAT_EDEVICE
} loquat_status;

const char *loquat_version(void);
const char *loquat_error(void);            /* borrowed until the next failure in this thread */
void loquat_free(void *out);

typedef enum loquat_log_level {
    LOQUAT_LOG_DEBUG,
    LOQUAT_LOG_INFO,
    LOQUAT_LOG_WARN
} loquat_log_level;
void loquat_set_log(void (*fn)(void *ctx, loquat_log_level level, const char *line), void *ctx);
/* CPU threads of this process; 0: all cores. */
void loquat_set_threads(int n);
/* Where models opened from now on run: "cpu" (the default), "cuda", "cuda:1", "auto". Training has
 * the configuration's `device`. LOQUAT_EDEVICE: there is none. */
loquat_status loquat_set_device(const char *name);

/* ---- training ---------------------------------------------------------------------------------
 * A configuration is a YAML file (may be NULL) plus settings, each overriding one key; keys are
 * documented by loquat_config_help. */
typedef struct loquat_setting { const char *key, *value; } loquat_setting;

typedef struct loquat_progress {
    int64_t step, total_steps;
    double epoch;
    double loss;               /* mean per trained token since the last report; NaN: none yet */
    double kl;                 /* the same of the divergence from the teacher; NaN: there is none */
    double eval_loss;          /* NaN unless this report is an evaluation's */
    double eval_kl, eval_loss_ema;      /* with it: NaN without a teacher, a running average */
    double learning_rate, grad_norm;
    double tokens_per_second;
    double seconds_left;
    bool logged;               /* a `logging_steps` line, as in metrics.jsonl */
} loquat_progress;

typedef struct loquat_callbacks {
    void *ctx;
    /* After every step and evaluation; may be NULL. */
    void (*progress)(void *ctx, const loquat_progress *p);
    /* Asked between micro-batches; true: save a checkpoint and stop. May be NULL. */
    bool (*stop)(void *ctx);
} loquat_callbacks;

/* Runs the configuration and exports. *out_record: the run record (run.json) as JSON text; may
 * be NULL. */
loquat_status loquat_train(const char *config_path, const loquat_setting *settings,
                           size_t n_settings, const loquat_callbacks *callbacks, char **out_record);
/* Tokenizes and caches the data. *out_text: counts, lengths, duplicates, leaks; with n_show > 0
 * also that many examples decoded with the trained part marked (in colour if `color`). */
loquat_status loquat_preprocess(const char *config_path, const loquat_setting *settings,
                                size_t n_settings, int n_show, bool color, char **out_text);
/* Memory and steps of a run, without loading weights, and which settings would make it fit into
 * `memory` ("4G"; NULL: what the machine has). */
loquat_status loquat_plan(const char *config_path, const loquat_setting *settings,
                          size_t n_settings, const char *memory, bool json, char **out_text);
typedef struct loquat_export_options {
    const char *const *types;  /* GGUF types to quantize a plain run to */
    size_t n_types;
    bool peft;                 /* also the adapter as a PEFT directory */
    bool merged_safetensors;   /* also the merged model as a Hugging Face directory */
} loquat_export_options;
/* A finished (or stopped) run's artefacts again, from its best checkpoint. options may be NULL.
 * *out_text: JSON list of artefacts. */
loquat_status loquat_export(const char *run_dir, const loquat_export_options *options,
                            char **out_text);
loquat_status loquat_config_help(char **out_text);
/* Is `name` a configuration key, in any spelling? */
bool loquat_config_is_key(const char *name, bool *takes_value);

/* ---- models ---------------------------------------------------------------------------------- */
typedef struct loquat_model loquat_model;
typedef struct loquat_lora { const char *path; float scale; } loquat_lora;

/* Opens a GGUF, a Hugging Face directory, or a run's output directory (then: as it would be
 * deployed), with adapters: GGUF files or PEFT directories. */
loquat_status loquat_model_open(loquat_model **out, const char *path, const loquat_lora *loras,
                                size_t n_loras);
void loquat_model_close(loquat_model *m);
int64_t loquat_model_vocabulary(const loquat_model *m);

enum { LOQUAT_TOKENIZE_NO_BOS = 1, LOQUAT_TOKENIZE_SPECIAL = 2 };
loquat_status loquat_tokenize(const loquat_model *m, const char *text, size_t n, unsigned flags,
                              int32_t **out_ids, size_t *out_n);
loquat_status loquat_detokenize(const loquat_model *m, const int32_t *ids, size_t n,
                                char **out_text, size_t *out_n);
/* One training record (a JSON object: messages, prompt/completion, alpaca, text, ...) as
 * training sees it: *out_json = {"text", "ids", "mask"}. chat_template: Jinja source or NULL for
 * the model's own. */
loquat_status loquat_encode_record(const loquat_model *m, const char *record_json,
                                   const char *chat_template, bool add_generation_prompt,
                                   char **out_json);
/* The same record as text only. */
loquat_status loquat_render_record(const loquat_model *m, const char *record_json,
                                   const char *chat_template, bool add_generation_prompt,
                                   char **out_text);

/* logits (n, vocabulary), row-major; the caller's buffer. */
loquat_status loquat_logits(loquat_model *m, const int32_t *ids, size_t n, float *logits);

typedef struct loquat_generate_options {
    double temperature;        /* 0: greedy */
    double top_p;              /* 0 or 1: off */
    uint64_t seed;
    int64_t max_new_tokens;
    /* Called with every piece of whole UTF-8 characters; returning false stops. May be NULL. */
    bool (*piece)(void *ctx, const char *text, size_t n);
    void *ctx;
} loquat_generate_options;
/* Continues a conversation, JSON [{"role", "content"}...], through the chat template, or, when
 * `messages_json` is NULL, the plain text `prompt`. *out_text: the new text, where bytes that are
 * not UTF-8 have become U+FFFD (`piece` gets them as they are). */
loquat_status loquat_generate(loquat_model *m, const char *messages_json, const char *prompt,
                              const loquat_generate_options *options, char **out_text);
/* True if the model has a chat template. */
bool loquat_model_chats(const loquat_model *m);

typedef struct loquat_evaluate_options {
    const char *perplexity;        /* a text, scored by llama-perplexity's protocol; NULL: not */
    int64_t ctx_size, chunks;      /* 0: 512; all */
    const char *save_all_logits;   /* write llama-perplexity's logits file; NULL: not */
    const char *kl_divergence_base;/* compare with such a file; NULL: not */
    const char *reference;         /* compare with this model, on the text or the data; NULL: not */
    const char *data;              /* JSONL: masked loss and accuracy; NULL: not */
    bool exact_match;              /* generate greedily, compare with the last trained turn */
    int64_t max_new_tokens;        /* 0: 128 */
    const char *predictions;       /* write {"prompt","expected","got"} lines here; NULL: not */
    const char *activation_dtype;  /* "runtime": rounded as llama.cpp does; NULL, "off": not */
    const char *cache_type_k, *cache_type_v;  /* rounded as in its cache of that type; NULL: F32 */
    bool json;                     /* *out_text: one JSON object, else a line per value */
} loquat_evaluate_options;
/* *out_text has the keys that apply: perplexity, perplexity_error, nll, tokens, loss, accuracy,
 * exact_match, examples, kl_divergence (mean, nats), _error, _median, _90, _99, _99_9, _max,
 * same_top, mean_delta_p, rms_delta_p, ln_ppl_ratio, ln_ppl_ratio_error. */
loquat_status loquat_evaluate(loquat_model *m, const loquat_evaluate_options *options,
                              char **out_text);

typedef enum loquat_table_format {
    LOQUAT_TABLE_TEXT, LOQUAT_TABLE_CSV, LOQUAT_TABLE_MARKDOWN, LOQUAT_TABLE_JSON
} loquat_table_format;
typedef struct loquat_compare_options {
    const char *const *runs; size_t n_runs;     /* run directories or models, or NAME=PATH */
    const char *data;                           /* held-out examples, JSONL */
    const char *const *types; size_t n_types;   /* also round plain runs to these */
    const char *imatrix;                        /* and once more with importance; NULL */
    const char *reference;     /* divergence from it; NULL: from the plain run of the same seed */
    const char *baseline;      /* name of the row that others are compared with; NULL: the first */
    bool exact_match;
    int64_t max_new_tokens;    /* 0: 128 */
    loquat_table_format format;
} loquat_compare_options;
/* One table over runs; those that differ only in seed (or bear the same NAME) are one row. */
loquat_status loquat_compare(const loquat_compare_options *options, char **out_text);

/* Base + adapters (none: a conversion) into one GGUF of a file type ("F16", "Q4_K_M", ...). */
loquat_status loquat_merge(const char *model, const loquat_lora *loras, size_t n_loras,
                           const char *output, const char *type);
typedef struct loquat_quantize_options {
    const char *imatrix;                       /* llama.cpp's importance matrix; NULL: none */
    const char *const *tensor_type;            /* "REGEX=TYPE": types of single tensors */
    size_t n_tensor_type;
    const char *token_embedding_type, *output_tensor_type;   /* NULL: by rule */
    bool leave_output_tensor;
    bool allow_requantize;                     /* tensors that are quantized already */
    bool pure;                                 /* every tensor in the mix's type */
} loquat_quantize_options;
/* A GGUF of any architecture into a file type ("Q4_K_M"), with llama-quantize's choice of types and
 * its bytes. options may be NULL. *out_text: one line about sizes. */
loquat_status loquat_quantize(const char *input, const char *output, const char *type,
                              const loquat_quantize_options *options, char **out_text);

typedef struct loquat_imatrix_options {
    const char *text;              /* the file to read */
    int64_t ctx_size, chunks;      /* 0: 512; all */
    bool process_output;           /* statistics of the head too */
} loquat_imatrix_options;
/* An importance matrix of a model reading a text, in llama.cpp's format. *out_text: one line. */
loquat_status loquat_imatrix(const char *model, const char *output,
                             const loquat_imatrix_options *options, char **out_text);

/* What a file really is: architecture, tokenizer, tuning, quantization, lineage; of a run's output
 * directory: its record and every file that it exported. */
loquat_status loquat_inspect(const char *path, bool json, char **out_text);
/* Which tensors and metadata keys of two GGUFs differ, and by how much. */
loquat_status loquat_inspect_two(const char *a, const char *b, bool json, char **out_text);

#ifdef __cplusplus
}
#endif
#endif
