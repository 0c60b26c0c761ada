/* One table over runs, and over post-training quantization of the plain ones: what compare.c
 * gathers, compare_run.c opens and compare_print.c prints. */
#ifndef LOQUAT_COMPARE_H
#define LOQUAT_COMPARE_H

#include "bootstrap.h"
#include "config.h"
#include "session.h"

/* ---- compare_run.c: one argument of the command line ---- */
typedef struct lq_compare_run {
    const char *path;            /* borrowed */
    char *name;                  /* "NAME=PATH"; NULL: not named */
    lq_config *config;           /* NULL: not a run's directory but a model file */
    bool plain;                  /* a run without quantization in training */
    double seconds;              /* of training, all phases of a recipe; NaN: not known */
    int64_t bytes;               /* of the files to deploy */
    int group;                   /* the number of the first run like it */
} lq_compare_run;

lq_status lq_compare_run_read(lq_compare_run *out, const char *argument);
void lq_compare_run_clear(lq_compare_run *r);
/* Same explicit name; or no names, and configurations that differ in nothing but the seed. */
lq_status lq_compare_run_alike(const lq_compare_run *a, const lq_compare_run *b, bool *out);
int64_t lq_compare_run_seed(const lq_compare_run *r);   /* -1: not known */
/* As deployed; a plain run: its base with the best adapter on it, not rounded. */
lq_status lq_compare_run_session(loquat_model **out, const lq_compare_run *r);
lq_status lq_file_bytes(int64_t *out, const char *path);

/* ---- the table ---- */
typedef struct lq_compare_cell {   /* one run's model */
    int64_t seed;
    double loss, kl, same_top, exact_match, bytes, seconds;   /* NaN: not known */
    double *nll;                   /* (n_examples) */
} lq_compare_cell;

typedef struct lq_compare_row {
    char *name;
    int group;
    const char *variant;           /* "": as the run is; else what it was quantized to */
    lq_compare_cell *cell; int64_t n, cap;
    lq_interval interval;          /* of the loss less the baseline's */
} lq_compare_row;

typedef struct lq_compare_table {
    lq_compare_row *row; int64_t n, cap;
    int64_t n_examples, n_tokens;
    int64_t *tokens;               /* (n_examples) trained tokens */
    int64_t baseline;              /* row */
} lq_compare_table;

/* ---- compare_print.c ---- */
lq_status lq_compare_print(const lq_compare_table *t, loquat_table_format format, lq_str *out);

#endif
