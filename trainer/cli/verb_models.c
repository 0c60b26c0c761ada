/* evaluate, logits, merge, export, inspect: the verbs that open a model file and report. */
#include "progress.h"
#include "verbs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool lora_args_parse(lora_args *out, const arg_list *list) {
    *out = (lora_args){args_resize(NULL, list->n, sizeof *out->v), 0};
    for (size_t i = 0; i < list->n; i++) {
        char *path;
        float scale;
        if (!args_lora(list->v[i], &path, &scale)) return false;
        out->v[out->n++] = (loquat_lora){path, scale};
    }
    return true;
}

void lora_args_clear(lora_args *l) {
    for (size_t i = 0; i < l->n; i++) free((void *)l->v[i].path);
    free(l->v);
}

static loquat_status open_model(loquat_model **out, const char *path, const arg_list *list,
                                int *exit_status) {
    lora_args loras;
    *out = NULL;
    loquat_status status = LOQUAT_EVALUE;
    *exit_status = EXIT_USAGE;
    if (lora_args_parse(&loras, list)) {
        status = loquat_model_open(out, path, loras.v, loras.n);
        if (status != LOQUAT_OK) *exit_status = args_failed(status);
    }
    lora_args_clear(&loras);
    return status;
}

int verb_evaluate(const arg_verb *verb, int argc, char **argv) {
    loquat_evaluate_options o = {0};
    arg_list loras = {0};
    const arg_option options[] = {
        {"lora", ARG_LIST, &loras, "adapter FILE[=SCALE], applied on top; may be repeated"},
        {"perplexity", ARG_TEXT, (void *)&o.perplexity,
         "score this text file by llama-perplexity's protocol"},
        {"ctx-size", ARG_INT, &o.ctx_size, "tokens per chunk (512)"},
        {"chunks", ARG_INT, &o.chunks, "score only the first N chunks"},
        {"save-all-logits", ARG_TEXT, (void *)&o.save_all_logits,
         "write llama-perplexity's logits file"},
        {"kl-divergence-base", ARG_TEXT, (void *)&o.kl_divergence_base, "compare with such a file"},
        {"data", ARG_TEXT, (void *)&o.data, "masked loss and accuracy on a JSONL file"},
        {"exact-match", ARG_FLAG, &o.exact_match,
         "also generate the answers of --data and compare"},
        {"max-new-tokens", ARG_INT, &o.max_new_tokens, "longest answer of --exact-match (128)"},
        {"predictions", ARG_TEXT, (void *)&o.predictions,
         "write what --exact-match generated, as JSONL"},
        {"reference", ARG_TEXT, (void *)&o.reference,
         "compare with this model: KL divergence, same top token"},
        {"activation-dtype", ARG_TEXT, (void *)&o.activation_dtype,
         "runtime: round activations as llama.cpp does (off)"},
        {"cache-type-k", ARG_TEXT, (void *)&o.cache_type_k,
         "round keys as llama.cpp's cache of this type, which is f16 by default (f32)"},
        {"cache-type-v", ARG_TEXT, (void *)&o.cache_type_v, "the same for values (f32)"},
        {0},
    };
    arg_result args;
    int exit_status;
    if (args_parse(verb, options, argc, argv, 1, 1, &args, &exit_status)) {
        loquat_model *m;
        cli_log_setup(&args.common);
        o.json = args.common.json;
        if (open_model(&m, args.positional.v[0], &loras, &exit_status) == LOQUAT_OK) {
            char *text = NULL;
            const loquat_status status = loquat_evaluate(m, &o, &text);
            exit_status = args_print(status, text);
        }
        loquat_model_close(m);
    }
    args_list_clear(&loras);
    args_clear(&args);
    return exit_status;
}

/* ---- logits ---------------------------------------------------------------------------------- */

/* NumPy's .npy version 1.0: magic, header length, a Python dict padded to 64 bytes, the numbers. */
static bool write_npy(const char *path, const float *data, size_t rows, size_t cols) {
    char dict[118];
    const int n =
        snprintf(dict, sizeof dict,
                 "{'descr': '<f4', 'fortran_order': False, 'shape': (%zu, %zu), }", rows, cols);
    memset(dict + n, ' ', sizeof dict - (size_t)n);
    dict[sizeof dict - 1] = '\n';
    const unsigned char head[10] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, sizeof dict, 0};
    FILE *f = fopen(path, "wb");
    bool ok = f && fwrite(head, 1, sizeof head, f) == sizeof head &&
              fwrite(dict, 1, sizeof dict, f) == sizeof dict &&
              fwrite(data, sizeof *data, rows * cols, f) == rows * cols;
    if (f && fclose(f) != 0) ok = false;
    if (!ok) fprintf(stderr, "loquat: %s: %s\n", path, strerror(errno));
    return ok;
}

static int run_logits(loquat_model *m, const char *ids_text, const char *output) {
    int32_t *ids;
    size_t n;
    int exit_status;
    if (!args_ids(ids_text, &ids, &n)) return EXIT_USAGE;
    const size_t V = (size_t)loquat_model_vocabulary(m);
    float *logits = args_resize(NULL, n, V * sizeof *logits);
    const loquat_status status = loquat_logits(m, ids, n, logits);
    if (status != LOQUAT_OK) exit_status = args_failed(status);
    else exit_status = write_npy(output, logits, n, V) ? EXIT_DONE : EXIT_FAILED;
    free(ids);
    free(logits);
    return exit_status;
}

int verb_logits(const arg_verb *verb, int argc, char **argv) {
    arg_list loras = {0};
    const char *ids = NULL, *output = NULL;
    const arg_option options[] = {
        {"lora", ARG_LIST, &loras, "adapter FILE[=SCALE]; may be repeated"},
        {"ids", ARG_TEXT, (void *)&ids, "token ids, \"1 2 3\""},
        {"output", ARG_TEXT, (void *)&output, "the .npy file: float32 (tokens, vocabulary)"},
        {0},
    };
    arg_result args;
    int exit_status;
    if (args_parse(verb, options, argc, argv, 1, 1, &args, &exit_status)) {
        loquat_model *m = NULL;
        cli_log_setup(&args.common);
        if (!ids || !output) {
            exit_status = args_misused(verb, "--ids and --output are wanted");
        } else if (open_model(&m, args.positional.v[0], &loras, &exit_status) == LOQUAT_OK) {
            exit_status = run_logits(m, ids, output);
        }
        loquat_model_close(m);
    }
    args_list_clear(&loras);
    args_clear(&args);
    return exit_status;
}

/* ---- merge, export, inspect ------------------------------------------------------------------ */

int verb_merge(const arg_verb *verb, int argc, char **argv) {
    arg_list list = {0};
    const char *output = NULL, *type = "F16";
    const arg_option options[] = {
        {"lora", ARG_LIST, &list, "adapter FILE[=SCALE]; may be repeated"},
        {"output", ARG_TEXT, (void *)&output, "the GGUF to write"},
        {"type", ARG_TEXT, (void *)&type, "a file type such as F16 (default) or Q4_K_M"},
        {0},
    };
    arg_result args;
    int exit_status;
    lora_args loras = {0};
    if (args_parse(verb, options, argc, argv, 1, 1, &args, &exit_status)) {
        cli_log_setup(&args.common);
        exit_status = EXIT_USAGE;
        if (!output) {
            args_misused(verb, "--output is wanted");
        } else if (lora_args_parse(&loras, &list)) {
            const loquat_status status =
                loquat_merge(args.positional.v[0], loras.v, loras.n, output, type);
            exit_status = status == LOQUAT_OK ? EXIT_DONE : args_failed(status);
        }
    }
    lora_args_clear(&loras);
    args_list_clear(&list);
    args_clear(&args);
    return exit_status;
}

int verb_export(const arg_verb *verb, int argc, char **argv) {
    arg_list types = {0};
    loquat_export_options o = {0};
    const arg_option options[] = {
        {"quantize", ARG_LIST, &types,
         "merge and quantize a plain run to this type; may be repeated"},
        {"peft", ARG_FLAG, &o.peft, "also the adapter as a PEFT directory"},
        {"merged-safetensors", ARG_FLAG, &o.merged_safetensors,
         "also the merged model as a Hugging Face directory"},
        {0},
    };
    arg_result args;
    int exit_status;
    if (args_parse(verb, options, argc, argv, 1, 1, &args, &exit_status)) {
        cli_log_setup(&args.common);
        char *text = NULL;
        o.types = types.v;
        o.n_types = types.n;
        const loquat_status status = loquat_export(args.positional.v[0], &o, &text);
        exit_status = args_print(status, text);
    }
    args_list_clear(&types);
    args_clear(&args);
    return exit_status;
}

int verb_inspect(const arg_verb *verb, int argc, char **argv) {
    const arg_option options[] = {{0}};
    arg_result args;
    int exit_status;
    if (args_parse(verb, options, argc, argv, 1, 2, &args, &exit_status)) {
        char *text = NULL;
        const char *const *file = args.positional.v;
        cli_log_setup(&args.common);
        const loquat_status status =
            args.positional.n == 2 ? loquat_inspect_two(file[0], file[1], args.common.json, &text)
                                   : loquat_inspect(file[0], args.common.json, &text);
        exit_status = args_print(status, text);
    }
    args_clear(&args);
    return exit_status;
}
