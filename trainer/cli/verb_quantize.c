/* quantize: a GGUF into another type; imatrix: which of its weights matter. */
#include "progress.h"
#include "verbs.h"

#include <stdio.h>

int verb_quantize(const arg_verb *verb, int argc, char **argv) {
    loquat_quantize_options o = {0};
    arg_list tensor_types = {0};
    const arg_option options[] = {
        {"imatrix", ARG_TEXT, (void *)&o.imatrix, "importance matrix, llama.cpp's file"},
        {"tensor-type", ARG_LIST, &tensor_types,
         "PATTERN=TYPE: tensors whose names match this regular expression; may be repeated"},
        {"token-embedding-type", ARG_TEXT, (void *)&o.token_embedding_type,
         "type of the token embedding"},
        {"output-tensor-type", ARG_TEXT, (void *)&o.output_tensor_type, "type of the output head"},
        {"leave-output-tensor", ARG_FLAG, &o.leave_output_tensor, "keep output.weight as it is"},
        {"allow-requantize", ARG_FLAG, &o.allow_requantize,
         "also round what is quantized already"},
        {"pure", ARG_FLAG, &o.pure, "every tensor in TYPE itself"},
        {0},
    };
    arg_result args;
    int exit_status;
    if (args_parse(verb, options, argc, argv, 3, 3, &args, &exit_status)) {
        char *text = NULL;
        cli_log_setup(&args.common);
        o.tensor_type = tensor_types.v;
        o.n_tensor_type = tensor_types.n;
        const char *const *file = args.positional.v;
        const loquat_status status = loquat_quantize(file[0], file[1], file[2], &o, &text);
        exit_status = args_print(status, text);
    }
    args_list_clear(&tensor_types);
    args_clear(&args);
    return exit_status;
}

int verb_imatrix(const arg_verb *verb, int argc, char **argv) {
    loquat_imatrix_options o = {0};
    const char *output = NULL;
    const arg_option options[] = {
        {"file", ARG_TEXT, (void *)&o.text, "the text that the model reads"},
        {"output", ARG_TEXT, (void *)&output, "the GGUF to write"},
        {"ctx-size", ARG_INT, &o.ctx_size, "tokens per chunk (512)"},
        {"chunks", ARG_INT, &o.chunks, "read only the first N chunks"},
        {"process-output", ARG_FLAG, &o.process_output, "statistics of the output head too"},
        {0},
    };
    arg_result args;
    int exit_status;
    if (args_parse(verb, options, argc, argv, 1, 1, &args, &exit_status)) {
        char *text = NULL;
        cli_log_setup(&args.common);
        if (!o.text || !output) {
            exit_status = args_misused(verb, "--file and --output are wanted");
        } else {
            const loquat_status status = loquat_imatrix(args.positional.v[0], output, &o, &text);
            exit_status = args_print(status, text);
        }
    }
    args_clear(&args);
    return exit_status;
}
