/* What people see of a training run on stderr: a bar on a terminal, plain lines otherwise. */
#ifndef LOQUAT_CLI_PROGRESS_H
#define LOQUAT_CLI_PROGRESS_H

#include "args.h"

void cli_log_setup(const arg_common *common);   /* log lines to stderr, by --quiet and --verbose */
void cli_progress(void *ctx, const loquat_progress *p);
void cli_progress_end(void);                    /* leaves the bar's line */
/* Ctrl-C: the first asks for a checkpoint and a stop, the second ends the program at once. */
void cli_catch_interrupts(void);
bool cli_stop_asked(void *ctx);

#endif
