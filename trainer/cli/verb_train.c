/* train, preprocess, plan: the verbs that read a configuration. */
#include "progress.h"
#include "verbs.h"

#include <limits.h>
#include <stdio.h>
#include <unistd.h>

static const char *config_path(const arg_result *args) {
    return args->positional.n ? args->positional.v[0] : NULL;
}

int verb_train(const arg_verb *verb, int argc, char **argv) {
    const arg_option options[] = {{0}};
    const loquat_callbacks callbacks = {.progress = cli_progress, .stop = cli_stop_asked};
    arg_result args;
    int exit_status;
    char *record = NULL;
    if (args_parse(verb, options, argc, argv, 0, 1, &args, &exit_status)) {
        cli_log_setup(&args.common);
        cli_catch_interrupts();
        const loquat_status status =
            loquat_train(config_path(&args), args.settings, args.n_settings, &callbacks, &record);
        cli_progress_end();
        exit_status = status == LOQUAT_OK ? EXIT_DONE : args_failed(status);
        if (status == LOQUAT_OK && args.common.json) printf("%s\n", record);
    }
    loquat_free(record);
    args_clear(&args);
    return exit_status;
}

int verb_preprocess(const arg_verb *verb, int argc, char **argv) {
    bool debug = false;
    int64_t show = 5;
    const arg_option options[] = {
        {"debug", ARG_FLAG, &debug, "show examples decoded, with the trained part marked"},
        {"show", ARG_INT, &show, "how many examples --debug shows (default 5)"},
        {0},
    };
    arg_result args;
    int exit_status;
    if (args_parse(verb, options, argc, argv, 0, 1, &args, &exit_status)) {
        cli_log_setup(&args.common);
        char *text = NULL;
        const int n_show = !debug ? 0 : show > INT_MAX ? INT_MAX : (int)show;
        const loquat_status status =
            loquat_preprocess(config_path(&args), args.settings, args.n_settings, n_show,
                              isatty(STDOUT_FILENO), &text);
        exit_status = args_print(status, text);
    }
    args_clear(&args);
    return exit_status;
}

int verb_plan(const arg_verb *verb, int argc, char **argv) {
    const char *memory = NULL;
    const arg_option options[] = {
        {"memory", ARG_TEXT, (void *)&memory, "fit into this much, as 4G (the machine's)"},
        {0},
    };
    arg_result args;
    int exit_status;
    if (args_parse(verb, options, argc, argv, 0, 1, &args, &exit_status)) {
        cli_log_setup(&args.common);
        char *text = NULL;
        const loquat_status status = loquat_plan(config_path(&args), args.settings, args.n_settings,
                                                 memory, args.common.json, &text);
        exit_status = args_print(status, text);
    }
    args_clear(&args);
    return exit_status;
}
