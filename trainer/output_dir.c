/* Making, locking and taking back an output directory. See output_dir.h. */
#include "output_dir.h"

#include "atomic_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* "a/b/" becomes "a"; false: there is nothing above. */
static bool go_up(char *path) {
    size_t n = strlen(path);
    while (n && path[n - 1] == '/') n--;
    while (n && path[n - 1] != '/') n--;
    while (n > 1 && path[n - 1] == '/') n--;
    path[n] = 0;
    return n > 0;
}

static lq_status count_missing(int *n, const char *dir) {
    char *path = lq_strdup(dir);
    if (!path) return LQ_EMEM;
    for (*n = 0; !lq_file_exists(path);) {
        ++*n;
        if (!go_up(path)) break;
    }
    lq_free(path);
    return LQ_OK;
}

/* A lock on a file that its owner has just removed locks out nobody. */
static bool is_still_there(int lock, const char *path) {
    struct stat locked, named;
    return fstat(lock, &locked) == 0 && stat(path, &named) == 0 && locked.st_ino == named.st_ino;
}

static lq_status take_lock(lq_output *o, const char *path) {
    o->made_lock = !lq_file_exists(path);
    o->lock = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0644);
    if (o->lock < 0) return lq_fail(LQ_EIO, "%s: %s", path, strerror(errno));
    if (flock(o->lock, LOCK_EX | LOCK_NB) == 0 && is_still_there(o->lock, path)) return LQ_OK;
    o->made_lock = false;
    return lq_fail(LQ_EBUSY, "%s: another run writes into this output_dir", o->dir);
}

lq_status lq_output_open(lq_output *o, const char *dir) {
    *o = (lq_output)LQ_OUTPUT_INIT;
    o->dir = lq_strdup(dir);
    char *path = lq_path_join(dir, ".lock");
    lq_status status = o->dir && path ? LQ_OK : LQ_EMEM;
    if (status == LQ_OK) status = count_missing(&o->n_made, dir);
    if (status == LQ_OK) status = lq_make_dirs(dir);
    if (status == LQ_OK) status = take_lock(o, path);
    lq_free(path);
    if (status == LQ_OK) return LQ_OK;
    lq_output_undo(o);
    lq_output_close(o);
    return status;
}

void lq_output_undo(const lq_output *o) {
    char *lock = o->dir ? lq_path_join(o->dir, ".lock") : NULL;
    char *path = o->dir ? lq_strdup(o->dir) : NULL;
    if (lock && o->made_lock) unlink(lock);
    for (int i = 0; path && i < o->n_made && rmdir(path) == 0; i++) go_up(path);
    lq_free(lock);
    lq_free(path);
}

void lq_output_close(lq_output *o) {
    if (o->lock >= 0) close(o->lock);
    lq_free(o->dir);
    *o = (lq_output)LQ_OUTPUT_INIT;
}

lq_status lq_output_taken(const char *dir) {
    return lq_fail(LQ_ECONFIG,
                   "output_dir %s holds an earlier run: continue it with --resume-from-checkpoint "
                   "auto, replace it with --overwrite-output-dir true, or choose another "
                   "output_dir",
                   dir);
}
