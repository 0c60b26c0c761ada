/* See atomic_file.h. The temporary name is fixed (PATH.tmp), so that what a killed process left
 * behind is used again instead of piling up; a lock on it keeps two writers apart. */
#include "atomic_file.h"

#include <errno.h>
#include <limits.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static lq_status io_error(const char *path) {
    return lq_fail(LQ_EIO, "%s: %s", path, strerror(errno));
}

lq_status lq_atomic_tmp_name(char **tmp, const char *path) {
    *tmp = lq_sprintf("%s.tmp", path);
    return *tmp ? LQ_OK : LQ_EMEM;
}

/* Opens and locks tmp; *out is -1 when another writer published it in between. A directory that is
 * not there, or not writable, is the user's to know by the name that he gave. */
static lq_status open_locked(int *out, const char *tmp, const char *path) {
    struct stat mine, named;
    *out = -1;
    const int fd = open(tmp, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) return io_error(path);
    lq_status status = LQ_OK;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0)
        status = errno == EWOULDBLOCK ? lq_fail(LQ_EBUSY, "%s: another process is writing it", tmp)
                                      : io_error(tmp);
    else if (fstat(fd, &mine) == 0 && stat(tmp, &named) == 0 && mine.st_ino == named.st_ino)
        *out = fd;
    if (*out < 0) close(fd);
    return status;
}

static lq_status open_tmp(FILE **out, const char *tmp, const char *path) {
    int fd;
    do {
        LQ_TRY(open_locked(&fd, tmp, path));
    } while (fd < 0);
    *out = ftruncate(fd, 0) == 0 ? fdopen(fd, "wb") : NULL;
    if (*out) return LQ_OK;
    const lq_status status = io_error(tmp);
    close(fd);
    return status;
}

lq_status lq_atomic_open(lq_atomic_file *a, const char *path) {
    struct stat info;
    *a = (lq_atomic_file){NULL, NULL, NULL};
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode))
        return lq_fail(LQ_EIO, "%s: exists and is not a file", path);
    a->path = lq_strdup(path);
    lq_status status = a->path ? lq_atomic_tmp_name(&a->tmp, path) : LQ_EMEM;
    if (status == LQ_OK) status = open_tmp(&a->f, a->tmp, path);
    if (status != LQ_OK) lq_atomic_abort(a);
    return status;
}

static lq_status sync_directory(const char *path) {
    const char *slash = strrchr(path, '/');
    char *dir = slash ? lq_strndup(path, slash == path ? 1 : (size_t)(slash - path))
                      : lq_strdup(".");
    if (!dir) return LQ_EMEM;
    lq_status status = LQ_OK;
    const int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || (fsync(fd) != 0 && errno != EINVAL)) /* EINVAL: a file system without it */
        status = io_error(dir);
    if (fd >= 0) close(fd);
    lq_free(dir);
    return status;
}

static lq_status rename_synced(const char *tmp, const char *path) {
    if (rename(tmp, path) != 0) return io_error(path);
    return sync_directory(path);
}

lq_status lq_atomic_publish(const char *tmp, const char *path) {
    const int fd = open(tmp, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return io_error(tmp);
    const lq_status status = fsync(fd) == 0 ? LQ_OK : io_error(tmp);
    close(fd);
    LQ_TRY(status);
    return rename_synced(tmp, path);
}

lq_status lq_atomic_commit(lq_atomic_file *a) {
    lq_status status = LQ_OK;
    if (ferror(a->f))
        status = lq_fail(LQ_EIO, "%s: a write failed", a->path);
    else if (fflush(a->f) != 0 || fsync(fileno(a->f)) != 0)
        status = io_error(a->path);
    else
        status = rename_synced(a->tmp, a->path); /* still locked */
    if (status == LQ_OK) {
        lq_free(a->tmp);
        a->tmp = NULL; /* nothing left to remove */
    }
    lq_atomic_abort(a);
    return status;
}

void lq_atomic_abort(lq_atomic_file *a) {
    if (a->f) {
        if (a->tmp) unlink(a->tmp);
        fclose(a->f);
    }
    lq_free(a->path);
    lq_free(a->tmp);
    *a = (lq_atomic_file){NULL, NULL, NULL};
}

lq_status lq_write_file(const char *path, const void *bytes, size_t n) {
    lq_atomic_file a;
    LQ_TRY(lq_atomic_open(&a, path));
    if (fwrite(bytes, 1, n, a.f) == n) return lq_atomic_commit(&a);
    const lq_status status = io_error(path);
    lq_atomic_abort(&a);
    return status;
}

lq_status lq_remove_file(const char *path) {
    return unlink(path) == 0 || errno == ENOENT ? LQ_OK : io_error(path);
}

static lq_status read_all(FILE *f, char **out, size_t *out_n, const char *path) {
    int64_t cap = 0;
    *out_n = 0;
    for (;;) {
        LQ_TRY(lq_reserve((void **)out, &cap, (int64_t)*out_n + 4096, 1));
        const size_t got = fread(*out + *out_n, 1, (size_t)cap - *out_n - 1, f);
        *out_n += got;
        if (!got) break;
    }
    (*out)[*out_n] = 0;
    return ferror(f) ? io_error(path) : LQ_OK;
}

lq_status lq_read_file(char **out, size_t *out_n, const char *path) {
    char *text = NULL;
    FILE *f = fopen(path, "rbe");
    if (!f) return io_error(path);
    const lq_status status = read_all(f, &text, out_n, path);
    fclose(f);
    if (status == LQ_OK)
        *out = text;
    else
        lq_free(text);
    return status;
}

static lq_status make_dir(const char *path) {
    struct stat info;
    if (mkdir(path, 0777) == 0) return LQ_OK;
    if (errno == EEXIST && stat(path, &info) == 0 && !S_ISDIR(info.st_mode)) errno = ENOTDIR;
    return errno == EEXIST ? LQ_OK : io_error(path);
}

lq_status lq_make_dirs(const char *path) {
    char *part = lq_strdup(path);
    if (!part) return LQ_EMEM;
    lq_status status = LQ_OK;
    for (char *p = part + 1; status == LQ_OK && *part && *p; p++) {
        if (*p != '/') continue;
        *p = 0;
        status = make_dir(part);
        *p = '/';
    }
    if (status == LQ_OK) status = make_dir(part);
    lq_free(part);
    return status;
}

bool lq_file_exists(const char *path) { return access(path, F_OK) == 0; }

bool lq_is_directory(const char *path) {
    struct stat found;
    return stat(path, &found) == 0 && S_ISDIR(found.st_mode);
}

bool lq_is_same_file(const char *a, const char *b) {
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

bool lq_file_exists_in(const char *dir, const char *name) {
    char path[PATH_MAX];
    const int n = snprintf(path, sizeof path, "%s/%s", dir, name);
    return n > 0 && n < (int)sizeof path && lq_file_exists(path);
}

char *lq_path_join(const char *dir, const char *name) {
    const size_t n = strlen(dir);
    return lq_sprintf("%s%s%s", dir, n && dir[n - 1] != '/' ? "/" : "", name);
}
