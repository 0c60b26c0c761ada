/* Files that are either whole or absent: write to a temporary name in the same directory, fsync,
 * rename, fsync the directory. Used by every file that Loquat writes. */
#ifndef LOQUAT_ATOMIC_FILE_H
#define LOQUAT_ATOMIC_FILE_H

#include "base.h"

#include <stdio.h>

typedef struct lq_atomic_file {
    FILE *f;          /* write here; NULL when not open */
    char *path, *tmp;
} lq_atomic_file;

lq_status lq_atomic_open(lq_atomic_file *a, const char *path);
/* Reports any write error (full disk) with the path. After commit or abort `a` is cleared. */
lq_status lq_atomic_commit(lq_atomic_file *a);
void lq_atomic_abort(lq_atomic_file *a);

/* For libraries that write by name (HDF5): the two halves of the same. `tmp` is the caller's. */
lq_status lq_atomic_tmp_name(char **tmp, const char *path);
lq_status lq_atomic_publish(const char *tmp, const char *path);

lq_status lq_write_file(const char *path, const void *bytes, size_t n); /* atomic */
lq_status lq_read_file(char **out, size_t *out_n, const char *path);    /* NUL-terminated copy */
lq_status lq_remove_file(const char *path);                             /* absent: done */
lq_status lq_make_dirs(const char *path);                               /* mkdir -p */
bool lq_file_exists(const char *path);
bool lq_is_directory(const char *path);
bool lq_is_same_file(const char *a, const char *b);                     /* both there, and one */
bool lq_file_exists_in(const char *dir, const char *name);              /* allocates nothing */
char *lq_path_join(const char *dir, const char *name);                  /* allocated */

#endif
