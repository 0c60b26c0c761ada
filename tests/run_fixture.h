/* A small run for the trainer's tests: tiny model, a few examples, a configuration; and the
 * program as users run it. */
#ifndef LOQUAT_RUN_FIXTURE_H
#define LOQUAT_RUN_FIXTURE_H

#include "test_util.h"
#include "tiny_model.h"

typedef struct fixture_run {
    char dir[200], model[256], data[256], config[256], out[256];
} fixture_run;

/* A fresh directory with model.gguf, data.jsonl and a run.yaml of `steps` steps; `extra`: more
 * lines of YAML. */
void fixture_make(fixture_run *f, const char *name, int steps, const char *extra);
/* The same with another model than the usual. */
void fixture_make_of(fixture_run *f, const char *name, int steps, const char *extra,
                     const tiny_model *model);
/* Another model.gguf, whose rows blocks of 256 divide. */
void fixture_widen(const fixture_run *f);
void fixture_write(const char *path, const char *text);
bool fixture_same_file(const char *a, const char *b);

/* Runs the program with printf-like arguments; its stdout and stderr go to buffers that the next
 * call reuses. */
typedef struct fixture_result { int exit_status; const char *out, *err; } fixture_result;
fixture_result fixture_loquat(const char *fmt, ...) LQ_PRINTF(1, 2);
/* Another build of the program from now on; NULL: the usual. */
void fixture_program(const char *path);

#endif
