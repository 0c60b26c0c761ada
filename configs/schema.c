/* The table of keys: everything that a configuration can say. Defaults, reading, bounds, aliases,
 * the dump and the help are driven by these rows; a new key is a new row and a field in config.h.
 * Also finding a row by any spelling. */
#include "schema.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define AT(field) offsetof(lq_config, field)
#define ANY -INFINITY, INFINITY
#define KEEPS LQ_KEY_KEEPS_RESULT
#define NOT_YET LQ_KEY_NOT_YET
#define ABOVE LQ_KEY_ABOVE_MIN
#define SHARE LQ_KEY_SHARE

#define BOOL &lq_kind_bool
#define INT &lq_kind_int
#define REAL &lq_kind_real
#define TEXT &lq_kind_text
#define TEXTS &lq_kind_texts
#define INTS &lq_kind_ints
#define MAP &lq_kind_map
#define SETTINGS &lq_kind_settings
#define DATASETS &lq_kind_datasets

#define GGUF_TYPES                                                                                 \
    "q4_0 q4_1 q5_0 q5_1 q8_0 q2_k q3_k q4_k q5_k q6_k iq4_nl iq4_xs tq1_0 tq2_0 mxfp4 nvfp4 "     \
    "q1_0 q2_0 f16 bf16 f32"
/* A type in lower case is that type for every linear; a mix in upper case is llama-quantize's. */
#define FILE_MIXES                                                                                 \
    "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q2_K_S Q3_K_S Q3_K_M Q3_K_L Q4_K_S Q4_K_M Q5_K_S Q5_K_M Q6_K "  \
    "IQ4_NL IQ4_XS TQ1_0 TQ2_0 MXFP4_MOE NVFP4 Q1_0 Q2_0 F16 BF16 F32"
#define READ_ONLY " iq3_s iq3_xxs iq3_xs iq3_m iq2_s iq2_xs iq2_xxs iq2_m iq1_s iq1_m"

const lq_section lq_sections[LQ_N_SECTIONS] = {
    {"qat", AT(has_qat)},
    {"kd", AT(has_kd)},
    {"export", -1},
};

/* group, name, aliases, kind, field, default, bounds, choices, supported now, flags, help */
const lq_key lq_keys[] = {
    {"model", "base_model", "model_name_or_path base_model_name_or_path model", TEXT,
     AT(base_model), NULL, ANY, NULL, NULL, KEEPS,
     "the frozen base: a GGUF file or a Hugging Face directory"},
    {"model", "adapter", "", TEXT, AT(adapter), "lora", ANY, "lora full scales", NULL,
     0,
     "what is trained: low-rank matrices beside the base, every weight, or the block scales of a "
     "Q4_0 or Q8_0 base"},
    {"model", "lora_model_dir", "adapter_path", TEXT, AT(lora_model_dir), NULL, ANY, NULL, NULL,
     KEEPS, "an adapter to start from instead of a fresh one"},
    {"model", "device", "", TEXT, AT(device), "auto", ANY, NULL, NULL, KEEPS,
     "where to compute: auto, cpu, cuda, or cuda:N; auto: on a GPU if there is one"},
    {"model", "threads", "", INT, AT(threads), "0", 0, 1024, NULL, NULL, KEEPS,
     "CPU threads; 0: all cores"},
    {"model", "bf16", "", TEXT, AT(bf16), "auto", ANY, "auto true=yes=on=1 false=no=off=0",
     NULL, 0, "activations in bfloat16; auto: where the device gains by it"},
    {"model", "base_quant", "", TEXT, AT(base_quant), NULL, ANY, GGUF_TYPES, NULL, 0,
     "keep the frozen base in memory in this GGUF type"},

    {"adapter", "lora_r", "r lora_rank", INT, AT(lora_r), "16", 1, 4096, NULL, NULL, 0,
     "rank of the adapter matrices"},
    {"adapter", "lora_alpha", "", REAL, AT(lora_alpha), "32", 0, 1e6, NULL, NULL, ABOVE,
     "the update is scaled by alpha / r"},
    {"adapter", "lora_dropout", "", REAL, AT(lora_dropout), "0", 0, 0.95, NULL, NULL, 0,
     "dropout on the adapter's input; not with qat.mode merged"},
    {"adapter", "lora_target_modules", "target_modules", TEXTS, AT(lora_target_modules),
     "all-linear", ANY, NULL, NULL, 0,
     "module names (q_proj, attn_q), globs, or all-linear (without experts)"},
    {"adapter", "lora_exclude_modules", "exclude_modules", TEXTS, AT(lora_exclude_modules), NULL,
     ANY, NULL, NULL, 0, "module names or globs to leave out"},
    {"adapter", "lora_layers_to_transform", "layers_to_transform", INTS,
     AT(lora_layers_to_transform), NULL, 0, 100000, NULL, NULL, 0,
     "only these layers, counted from 0"},
    {"adapter", "lora_rank_pattern", "rank_pattern", MAP, AT(lora_rank_pattern), NULL, 1, 4096,
     NULL, NULL, 0, "ranks of their own, {module: rank}"},
    {"adapter", "lora_alpha_pattern", "alpha_pattern", MAP, AT(lora_alpha_pattern), NULL, 0, 1e6,
     NULL, NULL, ABOVE, "alphas of their own, {module: alpha}"},
    {"adapter", "use_rslora", "peft_use_rslora", BOOL, AT(use_rslora), "false", ANY, NULL, NULL, 0,
     "scale by alpha / sqrt(r)"},
    {"adapter", "use_dora", "peft_use_dora", BOOL, AT(use_dora), "false", ANY, NULL, NULL, 0,
     "also train the lengths of the rows of W + sBA (DoRA); merged or for PEFT only"},
    {"adapter", "init_lora_weights", "peft_init_lora_weights", TEXT, AT(init_lora_weights),
     "default", ANY, "default=true gaussian loftq qera false pissa olora eva corda orthogonal",
     "default gaussian pissa loftq qera", 0,
     "how the adapter starts: adding nothing; as the largest part of W, taken from the base "
     "(pissa); or (qat.mode separate) as the correction of the quantization, weighted by "
     "qat.imatrix with qera"},
    {"adapter", "loraplus_lr_ratio", "", REAL, AT(loraplus_lr_ratio), "1", 0, 1000, NULL, NULL,
     ABOVE, "learning rate of B relative to A (LoRA+)"},

    {"data", "datasets", "", DATASETS, AT(datasets), NULL, ANY, "train", NULL, KEEPS,
     "JSONL files to train on: [{path, type, weight}]"},
    {"data", "test_datasets", "", DATASETS, AT(test_datasets), NULL, ANY,
     "train test valid validation", NULL, KEEPS,
     "JSONL files to validate on, instead of a share of datasets"},
    {"data", "data", "", TEXT, AT(data), NULL, ANY, NULL, NULL, KEEPS,
     "a JSONL file, or a directory with train.jsonl and valid.jsonl, instead of datasets"},
    {"data", "val_set_size", "", REAL, AT(val_set_size), "0.1", 0, 1e9, NULL, NULL, SHARE,
     "validation data split off: a share or a count; groups and duplicates stay on one side"},
    {"data", "sequence_len", "max_length max_seq_length cutoff_len", INT, AT(sequence_len), "1024",
     2, 1048576, NULL, NULL, 0, "longest example, in tokens"},
    {"data", "excess_length_strategy", "", TEXT, AT(excess_length_strategy), "drop", ANY,
     "drop truncate raise", NULL, 0, "what happens to longer ones"},
    {"data", "chat_template", "", TEXT, AT(chat_template), NULL, ANY, NULL, NULL, 0,
     "a built-in template's name; without it the model's own"},
    {"data", "chat_template_jinja", "", TEXT, AT(chat_template_jinja), NULL, ANY, NULL, NULL, 0,
     "a template file, or the template itself"},
    {"data", "train_on_inputs", "!mask_prompt !completion_only_loss", BOOL, AT(train_on_inputs),
     "false", ANY, NULL, NULL, 0, "also learn the prompts"},
    {"data", "roles_to_train", "", TEXTS, AT(roles_to_train), NULL, ANY, NULL, NULL, 0,
     "whose turns are learned; without it the assistant's"},
    {"data", "sample_packing", "packing", BOOL, AT(sample_packing), "false", ANY, NULL, NULL, 0,
     "fill each sequence with several examples, which do not see each other"},
    {"data", "dataset_prepared_path", "", TEXT, AT(dataset_prepared_path), NULL, ANY, NULL, NULL,
     KEEPS, "a directory for tokenized data, read again while nothing changed"},
    {"data", "data_order", "", TEXT, AT(data_order), "shuffled", ANY,
     "shuffled sequential bucketed", NULL, 0,
     "shuffled anew each epoch, as in the file, or shuffled among similar lengths"},

    {"training", "micro_batch_size", "per_device_train_batch_size batch_size", INT,
     AT(micro_batch_size), "4", 1, 65536, NULL, NULL, 0, "sequences computed at once"},
    {"training", "gradient_accumulation_steps", "grad_accumulation_steps", INT,
     AT(gradient_accumulation_steps), "2", 1, 65536, NULL, NULL, 0, "micro-batches per update"},
    {"training", "num_epochs", "num_train_epochs", REAL, AT(num_epochs), "3", 0, 100000, NULL, NULL,
     ABOVE, "passes over the training data"},
    {"training", "max_steps", "iters", INT, AT(max_steps), "0", 0, 1e12, NULL, NULL, 0,
     "updates, whatever num_epochs says; 0: off"},
    {"training", "learning_rate", "", REAL, AT(learning_rate), "2e-4", 0, 10, NULL, NULL, ABOVE,
     "the highest rate"},
    {"training", "lr_scheduler", "lr_scheduler_type", TEXT, AT(lr_scheduler), "cosine", ANY,
     "constant=constant_with_warmup linear cosine=cosine_with_min_lr", NULL, 0,
     "how the rate falls after the warm-up"},
    {"training", "cosine_min_lr_ratio", "", REAL, AT(cosine_min_lr_ratio), "0", 0, 1, NULL, NULL, 0,
     "cosine ends at this share of the rate"},
    {"training", "warmup_ratio", "", REAL, AT(warmup_ratio), "0.05", 0, 1, NULL, NULL, 0,
     "share of the updates spent warming up"},
    {"training", "warmup_steps", "", INT, AT(warmup_steps), "0", 0, 1e12, NULL, NULL, 0,
     "updates spent warming up, instead of warmup_ratio; 0: off"},
    {"training", "optimizer", "optim", TEXT, AT(optimizer), "adamw", ANY,
     "adamw=adamw_torch=adamw_torch_fused=adamw_hf sgd", NULL, 0, "update rule"},
    {"training", "adam_beta1", "", REAL, AT(adam_beta1), "0.9", 0, 0.99999, NULL, NULL, 0,
     "decay of the first moment; SGD's momentum"},
    {"training", "adam_beta2", "", REAL, AT(adam_beta2), "0.999", 0, 0.9999999, NULL, NULL, 0,
     "decay of the second moment"},
    {"training", "adam_epsilon", "", REAL, AT(adam_epsilon), "1e-8", 0, 1, NULL, NULL, ABOVE,
     "added to the root of the second moment"},
    {"training", "weight_decay", "", REAL, AT(weight_decay), "0", 0, 10, NULL, NULL, 0,
     "decoupled weight decay"},
    {"training", "max_grad_norm", "", REAL, AT(max_grad_norm), "1", 0, 1e9, NULL, NULL, 0,
     "gradients are clipped to this norm; 0: off"},
    {"training", "gradient_checkpointing", "grad_checkpoint", BOOL, AT(gradient_checkpointing),
     "false", ANY, NULL, NULL, KEEPS,
     "compute activations twice instead of keeping them: less memory, same result"},
    {"training", "neftune_noise_alpha", "", REAL, AT(neftune_noise_alpha), "0", 0, 1000, NULL, NULL,
     0, "noise on the embeddings; 0: off"},
    {"training", "ema_decay", "", REAL, AT(ema_decay), "0", 0, 0.999999, NULL, NULL, 0,
     "also validate a running average of the weights, keep the better; 0: off"},
    {"training", "seed", "", INT, AT(seed), "42", 0, INFINITY, NULL, NULL, 0,
     "of everything random"},

    {"run", "output_dir", "", TEXT, AT(output_dir), "out", ANY, NULL, NULL, KEEPS,
     "where results go"},
    {"run", "overwrite_output_dir", "", BOOL, AT(overwrite_output_dir), "false", ANY, NULL, NULL,
     KEEPS, "replace an earlier run in output_dir"},
    {"run", "logging_steps", "", INT, AT(logging_steps), "10", 1, 1e12, NULL, NULL, KEEPS,
     "updates between log lines"},
    {"run", "eval_steps", "", REAL, AT(eval_steps), "0", 0, 1e12, NULL, NULL, SHARE,
     "updates between validations, or a share of the run; 0: a twelfth of it"},
    {"run", "evals_per_epoch", "", INT, AT(evals_per_epoch), "0", 0, 1e6, NULL, NULL, 0,
     "instead of eval_steps; 0: off"},
    {"run", "save_steps", "", REAL, AT(save_steps), "0", 0, 1e12, NULL, NULL, KEEPS | SHARE,
     "updates between checkpoints, or a share of the run; 0: at every validation"},
    {"run", "saves_per_epoch", "", INT, AT(saves_per_epoch), "0", 0, 1e6, NULL, NULL, KEEPS,
     "instead of save_steps; 0: off"},
    {"run", "save_total_limit", "", INT, AT(save_total_limit), "3", 0, 1e6, NULL, NULL, KEEPS,
     "checkpoints kept, the best and the newest always among them; 0: all"},
    {"run", "load_best_model_at_end", "", BOOL, AT(load_best_model_at_end), "true", ANY, NULL, NULL,
     0, "export the best validated state, not the last"},
    {"run", "metric_for_best_model", "", TEXT, AT(metric_for_best_model), "auto", ANY,
     "auto eval_loss=loss eval_kl=kl", NULL, 0,
     "what the best state is best in; auto: eval_kl with kd.alpha 1, else eval_loss"},
    {"run", "early_stopping_patience", "", INT, AT(early_stopping_patience), "3", 0, 1e6, NULL,
     NULL, 0, "stop after so many validations without a gain; 0: never"},
    {"run", "resume_from_checkpoint", "", TEXT, AT(resume_from_checkpoint), NULL, ANY, NULL, NULL,
     KEEPS, "a checkpoint to continue, or auto: the newest in output_dir"},
    {"run", "report_to", "", TEXT, AT(report_to), "none", ANY, "none tensorboard", "none", KEEPS,
     "also log for"},
    {"run", "run_name", "", TEXT, AT(run_name), NULL, ANY, NULL, NULL, KEEPS,
     "name of the exported files; without it the base's"},
    {"run", "loss_watchdog_threshold", "", REAL, AT(loss_watchdog_threshold), "0", 0, 1e6, NULL,
     NULL, 0, "stop when the loss stays above this; 0: off"},
    {"run", "loss_watchdog_patience", "", INT, AT(loss_watchdog_patience), "3", 1, 1e6, NULL, NULL,
     0, "for so many updates, or so many with a loss that is not finite"},

    {"qat", "qat.weight_dtype", "", TEXT, AT(qat.weight_dtype), "q4_0", ANY,
     GGUF_TYPES " " FILE_MIXES READ_ONLY, NULL, 0,
     "GGUF type of the shipped weights, or a file mix such as Q4_K_M"},
    {"qat", "qat.mode", "", TEXT, AT(qat.mode), "merged", ANY, "merged separate", NULL, 0,
     "one model Q(W + sBA), or a frozen Q(W) and an adapter beside it"},
    {"qat", "qat.token_embedding_type", "", TEXT, AT(qat.token_embedding_type), NULL, ANY,
     GGUF_TYPES, NULL, 0, "of the embedding; without it as llama-quantize chooses"},
    {"qat", "qat.output_tensor_type", "", TEXT, AT(qat.output_tensor_type), NULL, ANY, GGUF_TYPES,
     NULL, 0, "of the output head; without it as llama-quantize chooses"},
    {"qat", "qat.tensor_type", "", TEXTS, AT(qat.tensor_type), NULL, ANY, NULL, NULL, 0,
     "types of single tensors, pattern=type"},
    {"qat", "qat.activation_dtype", "", TEXT, AT(qat.activation_dtype), "off", ANY,
     "off=false=no=none runtime", NULL, 0, "runtime: also round activations as llama.cpp does"},
    {"qat", "qat.imatrix", "", TEXT, AT(qat.imatrix), NULL, ANY, NULL, NULL, 0,
     "importance matrix for the quantizer: a file, or auto: collected from the training data"},
    {"qat", "qat.fake_quant_after_n_steps", "", REAL, AT(qat.fake_quant_after_n_steps), "0", 0,
     1e12, NULL, NULL, SHARE, "quantize only after so many updates, or that share of the run"},
    {"qat", "qat.requantize_every", "", INT, AT(qat.requantize_every), "1", 1, 1e6, NULL, NULL,
     0, "updates between searches for the scales of K-quants; between, only codes are rounded"},
    {"qat", "qat.ste", "", TEXT, AT(qat.ste), "identity", ANY, "identity clipped", NULL, 0,
     "gradient of the rounding: passed on everywhere, or not beyond the last code"},

    {"recipe", "recipe", "", TEXTS, AT(recipe), NULL, ANY, NULL, NULL, 0,
     "[lora, qad]: fine-tune in floating point, then train the quantized model after that one"},
    {"recipe", "lora", "", SETTINGS, AT(lora), NULL, ANY, NULL, NULL, 0,
     "values of the first phase, {num_epochs: 3}"},
    {"recipe", "qad", "", SETTINGS, AT(qad), NULL, ANY, NULL, NULL, 0,
     "values of the second phase, {learning_rate: 1.0e-4}"},

    {"kd", "kd.alpha", "", REAL, AT(kd.alpha), "0.5", 0, 1, NULL, NULL, 0,
     "weight of learning from the teacher; the labels have the rest"},
    {"kd", "kd.temperature", "", REAL, AT(kd.temperature), "1", 0, 100, NULL, NULL, ABOVE,
     "softens both distributions"},
    {"kd", "kd.teacher", "", TEXT, AT(kd.teacher), "self", ANY, NULL, NULL, KEEPS,
     "self: the unquantized base with the adapter of lora_model_dir; or a GGUF with the same "
     "vocabulary"},
    {"kd", "kd.top_k", "", INT, AT(kd.top_k), "0", 0, 1e7, NULL, NULL, 0,
     "so many of the teacher's most likely tokens, computed once and stored; 0: all, each time"},
    {"kd", "kd.divergence", "", TEXT, AT(kd.divergence), "forward_kl", ANY,
     "forward_kl reverse_kl", NULL, 0, "from the teacher to the model, or the other way round"},

    {"export", "export.output_dir", "", TEXT, AT(exports.output_dir), NULL, ANY, NULL, NULL, KEEPS,
     "where exported files go; without it output_dir"},
    {"export", "export.quantize", "", TEXTS, AT(exports.quantize), NULL, ANY,
     FILE_MIXES, NULL, KEEPS, "merged files of these types from a run without qat"},
    {"export", "export.lora", "", BOOL, AT(exports.lora), "false", ANY, NULL, NULL, KEEPS,
     "the adapter too, when export.quantize is given"},
    {"export", "export.outtype", "", TEXT, AT(exports.outtype), "f32", ANY, "f32 f16 bf16", NULL,
     KEEPS, "precision of the adapter file"},
    {"export", "export.peft", "", BOOL, AT(exports.peft), "false", ANY, NULL, NULL, KEEPS,
     "also a PEFT directory"},
    {"export", "export.merged_safetensors", "", BOOL, AT(exports.merged_safetensors), "false", ANY,
     NULL, NULL, KEEPS, "also a merged Hugging Face directory"},
};
const int lq_n_keys = LQ_ARRAY_LEN(lq_keys);
static_assert(sizeof lq_keys / sizeof lq_keys[0] <= LQ_MAX_KEYS, "a reader notes lines by key");

/* ---- finding a row --------------------------------------------------------------------------- */

/* The first n bytes of `word` are `name`, '-' being '_'. */
static bool same_name(const char *word, size_t n, const char *name) {
    if (strlen(name) != n) return false;
    for (size_t i = 0; i < n; i++)
        if ((name[i] == '-' ? '_' : name[i]) != word[i]) return false;
    return true;
}

/* The next word of a list separated by spaces, NULL at its end. */
static const char *next_word(const char **list, size_t *n) {
    *list += strspn(*list, " ");
    const char *word = *list;
    *n = strcspn(word, " ");
    *list += *n;
    return *n ? word : NULL;
}

int lq_key_find(const char *name, bool *inverted) {
    for (int i = 0; i < lq_n_keys; i++) {
        const char *list = lq_keys[i].aliases;
        size_t n;
        *inverted = false;
        if (same_name(lq_keys[i].name, strlen(lq_keys[i].name), name)) return i;
        for (const char *word; (word = next_word(&list, &n)) != NULL;) {
            *inverted = *word == '!';
            if (same_name(word + *inverted, n - *inverted, name)) return i;
        }
    }
    return -1;
}

int lq_section_find(const char *name) {
    for (int i = 0; i < LQ_N_SECTIONS; i++)
        if (strcmp(lq_sections[i].name, name) == 0) return i;
    return -1;
}

int lq_section_of(const char *key_name) {
    const char *dot = strchr(key_name, '.');
    for (int i = 0; dot && i < LQ_N_SECTIONS; i++)
        if (strncmp(lq_sections[i].name, key_name, (size_t)(dot - key_name)) == 0 &&
            !lq_sections[i].name[dot - key_name])
            return i;
    return -1;
}

static const char *leaf(const char *name) {
    const char *dot = strrchr(name, '.');
    return dot ? dot + 1 : name;
}

/* Distance of the whole names, or of their last parts when only the section differs. A name that
 * is part of a known one ("epochs") is near it. */
static int distance(const char *name, const char *known) {
    const int whole = lq_edit_distance(name, known);
    const int last = lq_edit_distance(leaf(name), leaf(known)) + 1;
    const int least = whole < last ? whole : last;
    return least > 2 && strlen(name) > 3 && strstr(known, name) ? 2 : least;
}

static void consider(char nearest[LQ_NAME_BYTES], int *best, const char *name, const char *word,
                     size_t n) {
    char candidate[LQ_NAME_BYTES];
    snprintf(candidate, sizeof candidate, "%.*s", (int)n, word);
    const int d = distance(name, candidate);
    if (d >= *best) return;
    *best = d;
    memcpy(nearest, candidate, sizeof candidate);
}

void lq_key_nearest(char nearest[LQ_NAME_BYTES], const char *name) {
    char spelled[LQ_NAME_BYTES];
    snprintf(spelled, sizeof spelled, "%s", name);
    for (char *p = spelled; *p; p++)
        if (*p == '-') *p = '_';
    const int length = (int)strlen(leaf(spelled)), far = length / 3 > 2 ? length / 3 : 2;
    int best = (far < length - 2 ? far : length - 2) + 1; /* what is farther is no help */
    nearest[0] = 0;
    for (int i = 0; i < lq_n_keys; i++) {
        const char *list = lq_keys[i].aliases;
        size_t n;
        consider(nearest, &best, spelled, lq_keys[i].name, strlen(lq_keys[i].name));
        for (const char *word; (word = next_word(&list, &n)) != NULL;)
            consider(nearest, &best, spelled, word + (*word == '!'), n - (*word == '!'));
    }
    for (int i = 0; i < LQ_N_SECTIONS; i++)
        consider(nearest, &best, spelled, lq_sections[i].name, strlen(lq_sections[i].name));
}
