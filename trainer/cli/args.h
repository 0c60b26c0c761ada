/* Command-line parsing by tables: one row per option; unknown options are errors with the name
 * that was probably meant. */
#ifndef LOQUAT_ARGS_H
#define LOQUAT_ARGS_H

#include "loquat.h"

/* ARG_LATER: an option of the documented command line that this version refuses by name. */
typedef enum arg_kind { ARG_FLAG, ARG_TEXT, ARG_INT, ARG_REAL, ARG_LIST, ARG_LATER } arg_kind;

typedef struct arg_list { const char **v; size_t n; } arg_list;

typedef struct arg_option {
    const char *name;      /* without dashes; '-' in it matches '_' too; "": no such option here */
    arg_kind kind;
    void *out;             /* bool, const char *, int64_t, double (both >= 0), arg_list */
    const char *help;
} arg_option;

typedef struct arg_verb {
    const char *name, *usage, *summary;
    bool takes_config_keys;          /* --KEY VALUE of the configuration */
    bool has_json;                   /* --json */
    bool runs_on_device;             /* --device other than cpu; else a key, or the CPU is all */
    /* NULL: documented, but refused by this version. */
    int (*run)(const struct arg_verb *verb, int argc, char **argv);
} arg_verb;

typedef struct arg_common {
    bool quiet, verbose, json;
    int64_t threads;
    const char *device;
} arg_common;

/* What one command line gave. Everything points into argv. */
typedef struct arg_result {
    arg_common common;
    arg_list positional;
    loquat_setting *settings; size_t n_settings;    /* configuration keys, in order */
} arg_result;

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_INTERRUPTED = 130 };

/* Parses argv[0..argc) (verb excluded) against `options` (name NULL ends) and the common ones.
 * Prints what is wrong, or the help, and returns false with *exit_status set. positional: at
 * least min, at most max. */
bool args_parse(const arg_verb *verb, const arg_option *options, int argc, char **argv, size_t min,
                size_t max, arg_result *out, int *exit_status);
void args_clear(arg_result *r);
void args_list_clear(arg_list *l);

/* realloc to n elements; ends the program when memory is out, so it never returns NULL. */
void *args_resize(void *p, size_t n, size_t size);

/* Prints what is wrong with the command line, and the usage; EXIT_USAGE. */
int args_misused(const arg_verb *verb, const char *what);

/* Prints the library's message and gives the exit status that goes with it. */
int args_failed(loquat_status status);

/* Prints *text (the caller's after LOQUAT_OK; freed here) or the failure; the exit status. */
int args_print(loquat_status status, char *text);

/* "FILE", "FILE=SCALE" into path (to be freed) and scale. False: printed. */
bool args_lora(const char *text, char **path, float *scale);

/* "1 2 3", "[1, 2, 3]" into ids (to be freed). False: printed, nothing to free. */
bool args_ids(const char *text, int32_t **ids, size_t *n);

#endif
