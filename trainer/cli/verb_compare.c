/* compare: one table over runs. */
#include "progress.h"
#include "verbs.h"

#include <stdio.h>

int verb_compare(const arg_verb *verb, int argc, char **argv) {
    loquat_compare_options o = {0};
    arg_list types = {0};
    bool csv = false, markdown = false;
    const arg_option options[] = {
        {"data", ARG_TEXT, (void *)&o.data, "JSONL of examples that no run was trained on"},
        {"quantize", ARG_LIST, &types,
         "also round the plain runs to this type afterwards; may be repeated"},
        {"imatrix", ARG_TEXT, (void *)&o.imatrix,
         "and once more with this importance matrix"},
        {"reference", ARG_TEXT, (void *)&o.reference,
         "KL divergence from this model (the plain run of the same seed, not rounded)"},
        {"baseline", ARG_TEXT, (void *)&o.baseline,
         "row that the others' loss is compared with (the first)"},
        {"exact-match", ARG_FLAG, &o.exact_match, "also generate the answers and compare"},
        {"max-new-tokens", ARG_INT, &o.max_new_tokens, "longest answer of --exact-match (128)"},
        {"csv", ARG_FLAG, &csv, "comma-separated values"},
        {"markdown", ARG_FLAG, &markdown, "a Markdown table"},
        {0},
    };
    arg_result args;
    int exit_status;
    if (args_parse(verb, options, argc, argv, 1, SIZE_MAX, &args, &exit_status)) {
        char *text = NULL;
        cli_log_setup(&args.common);
        o.runs = args.positional.v;
        o.n_runs = args.positional.n;
        o.types = types.v;
        o.n_types = types.n;
        o.format = args.common.json ? LOQUAT_TABLE_JSON
                   : csv            ? LOQUAT_TABLE_CSV
                   : markdown       ? LOQUAT_TABLE_MARKDOWN
                                    : LOQUAT_TABLE_TEXT;
        if (args.common.json + csv + markdown > 1) {
            fprintf(stderr, "loquat: --csv, --markdown, --json: give one of them\n");
            exit_status = EXIT_USAGE;
        } else {
            const loquat_status status = loquat_compare(&o, &text);
            exit_status = args_print(status, text);
        }
    }
    args_list_clear(&types);
    args_clear(&args);
    return exit_status;
}
