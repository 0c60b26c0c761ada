/* A run's output directory: made, and locked against other processes until it is closed. */
#ifndef LOQUAT_OUTPUT_DIR_H
#define LOQUAT_OUTPUT_DIR_H

#include "base.h"

typedef struct lq_output {
    char *dir;
    int lock;                /* descriptor; -1: none */
    int n_made;              /* directories that were not there, the innermost ones */
    bool made_lock;          /* nor was the lock's file */
} lq_output;
#define LQ_OUTPUT_INIT {NULL, -1, 0, false}

/* LQ_EBUSY: another process has it. */
lq_status lq_output_open(lq_output *o, const char *dir);
/* Takes back what open made and nothing was put into: a run that did not begin leaves no trace. */
void lq_output_undo(const lq_output *o);
void lq_output_close(lq_output *o);

/* The error for a directory with an earlier run in it. */
lq_status lq_output_taken(const char *dir);

#endif
