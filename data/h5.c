/* Named one-dimensional arrays and strings in HDF5. HDF5 writes by name: it gets a temporary one,
 * and commit publishes the file (atomic_file.h). The user block, which HDF5 leaves to its users,
 * holds a line with the SHA-256 of all that follows it. It is checked before HDF5 sees the file: a
 * flipped bit is an error and never a wrong number, and the HDF5 library, which leaks and crashes
 * on damaged files, is not asked to survive them. */
#include "h5.h"

#include "atomic_file.h"
#include "hash.h"

#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { USER_BLOCK = 512, CAUSE_BYTES = 160 };   /* 512 is the smallest that HDF5 has */

enum { SEAL_BYTES = 36 + LQ_SHA256_HEX };              /* words, 64 digits, newline */
typedef char seal_line[SEAL_BYTES + 1];

struct lq_h5 {
    hid_t file;    /* < 0: closed */
    char *path;
    char *tmp;     /* NULL: open for reading */
    int lock;      /* tmp, opened and locked by us; -1 */
};

typedef struct type_info {
    const char *name;
    hid_t memory, file;
    size_t bytes;
} type_info;

static type_info info_of(lq_h5_type type) {
    const type_info info[] = {
        [LQ_H5_F32] = {"float32", H5T_NATIVE_FLOAT, H5T_IEEE_F32LE, 4},
        [LQ_H5_F64] = {"float64", H5T_NATIVE_DOUBLE, H5T_IEEE_F64LE, 8},
        [LQ_H5_I32] = {"int32", H5T_NATIVE_INT32, H5T_STD_I32LE, 4},
        [LQ_H5_I64] = {"int64", H5T_NATIVE_INT64, H5T_STD_I64LE, 8},
        [LQ_H5_U64] = {"uint64", H5T_NATIVE_UINT64, H5T_STD_U64LE, 8},
        [LQ_H5_U8] = {"uint8", H5T_NATIVE_UINT8, H5T_STD_U8LE, 1},
    };
    return info[type];
}

/* The innermost cause; of a failed system call only the system's own message ("No space left on
 * device"), which HDF5 buries in a page of file names and buffers. */
static herr_t keep_first(unsigned n, const H5E_error2_t *error, void *ctx) {
    static const char mark[] = "error message = '";
    if (n != 0 || !error->desc) return 0;
    const char *system = strstr(error->desc, mark),
               *text = system ? system + sizeof mark - 1 : error->desc;
    snprintf(ctx, CAUSE_BYTES, "%.*s", (int)strcspn(text, system ? "'" : "\n"), text);
    return 0;
}

/* Fails with the innermost cause that HDF5 recorded. `name` NULL: the file as a whole. */
static lq_status fail(lq_status status, const char *path, const char *name, const char *what) {
    char cause[CAUSE_BYTES] = "no cause given";
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first, cause);
    return lq_fail(status, "%s: %s%s%s: %s", path, name ? name : "", name ? ": " : "", what, cause);
}

static void close_id(hid_t id, herr_t (*close)(hid_t)) {
    if (id >= 0) close(id);
}

static lq_status new_handle(lq_h5 **out, const char *path) {
    *out = NULL;
    H5dont_atexit(); /* after a close that failed (full disk) its exit handler crashes */
    if (H5open() < 0) return lq_fail(LQ_EMEM, "%s: HDF5 cannot be initialised", path);
    H5Eset_auto2(H5E_DEFAULT, NULL,
                 NULL); /* the library reports through lq_fail, never on stderr */
    lq_h5 *h = lq_alloc(sizeof *h);
    if (!h) return LQ_EMEM;
    h->file = H5I_INVALID_HID;
    h->lock = -1;
    h->path = lq_strdup(path);
    if (!h->path) {
        lq_free(h);
        return LQ_EMEM;
    }
    *out = h;
    return LQ_OK;
}

/* File access without HDF5's own locks: writers hold ours, and published files never change. */
static hid_t unlocked(void) {
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    if (access < 0 || H5Pset_file_locking(access, false, true) >= 0) return access;
    H5Pclose(access);
    return H5I_INVALID_HID;
}

void lq_h5_close(lq_h5 *h) {
    if (!h) return;
    close_id(h->file, H5Fclose);
    if (h->tmp && h->lock >= 0) unlink(h->tmp);
    if (h->lock >= 0) close(h->lock);
    lq_free(h->tmp);
    lq_free(h->path);
    lq_free(h);
}

/* ---- the seal -------------------------------------------------------------------------------- */

/* Maps the whole file; the caller unmaps. */
static lq_status map_file(const char *path, const char **bytes, size_t *n) {
    lq_status status = LQ_OK;
    struct stat info;
    const int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &info) != 0)
        LQ_GOTO(status, lq_fail(LQ_EIO, "%s: cannot open: %s", path, strerror(errno)));
    if (info.st_size <= USER_BLOCK)
        LQ_GOTO(status,
                lq_fail(LQ_EFORMAT, "%s: found %lld bytes, too few for a file written by Loquat",
                        path, (long long)info.st_size));
    *n = (size_t)info.st_size;
    void *map = mmap(NULL, *n, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED) status = lq_fail(LQ_EIO, "%s: cannot map: %s", path, strerror(errno));
    *bytes = map;
done:
    if (fd >= 0) close(fd);
    return status;
}

/* What the user block of this file has to say, and whether it does. */
static lq_status seal_of(seal_line line, const char *path, bool *matches) {
    const char *bytes = NULL;
    size_t n = 0;
    char sum[LQ_SHA256_HEX];
    LQ_TRY(map_file(path, &bytes, &n));
    lq_sha256(sum, bytes + USER_BLOCK, n - USER_BLOCK);
    snprintf(line, SEAL_BYTES + 1, "Loquat HDF5, SHA-256 from byte 512: %s\n", sum);
    *matches = memcmp(bytes, line, SEAL_BYTES) == 0;
    munmap((void *)bytes, n);
    return LQ_OK;
}

/* ---- writing --------------------------------------------------------------------------------- */

/* One writer at a time, so that no other truncates the file under way; HDF5 itself would truncate
 * first and lock then. Between open and lock another writer may have published the file: then it is
 * not ours. */
static lq_status lock_tmp(lq_h5 *h) {
    struct stat mine, named;
    h->lock = open(h->tmp, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (h->lock < 0) return lq_fail(LQ_EIO, "%s: cannot create: %s", h->path, strerror(errno));
    if (flock(h->lock, LOCK_EX | LOCK_NB) == 0 && fstat(h->lock, &mine) == 0 &&
        stat(h->tmp, &named) == 0 && mine.st_ino == named.st_ino)
        return LQ_OK;
    close(h->lock);
    h->lock = -1;
    return lq_fail(LQ_EBUSY, "%s: another process is writing it", h->path);
}

lq_status lq_h5_create(lq_h5 **out, const char *path) {
    lq_status status = LQ_OK;
    lq_h5 *h = NULL;
    hid_t layout = H5I_INVALID_HID, access = H5I_INVALID_HID;
    *out = NULL;
    LQ_TRY(new_handle(&h, path));
    LQ_GOTO(status, lq_atomic_tmp_name(&h->tmp, path));
    LQ_GOTO(status, lock_tmp(h));
    access = unlocked();
    layout = H5Pcreate(H5P_FILE_CREATE);
    if (access < 0 || layout < 0 || H5Pset_userblock(layout, USER_BLOCK) < 0)
        LQ_GOTO(status, fail(LQ_EMEM, path, NULL, "cannot prepare"));
    h->file = H5Fcreate(h->tmp, H5F_ACC_TRUNC, layout, access);
    if (h->file < 0) LQ_GOTO(status, fail(LQ_EIO, path, NULL, "cannot create"));
    *out = h;
done:
    close_id(access, H5Pclose);
    close_id(layout, H5Pclose);
    if (status != LQ_OK) lq_h5_close(h);
    return status;
}

static lq_status write_array(lq_h5 *h, const char *name, hid_t memory, hid_t file, const void *data,
                             hsize_t n) {
    lq_status status = LQ_OK;
    hid_t set = H5I_INVALID_HID;
    const hid_t space = H5Screate_simple(1, &n, NULL);
    if (space >= 0)
        set = H5Dcreate2(h->file, name, file, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    if (set < 0 || (n > 0 && H5Dwrite(set, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0))
        status = fail(LQ_EIO, h->path, name, "cannot write");
    if (set >= 0 && H5Dclose(set) < 0 && status == LQ_OK)
        status = fail(LQ_EIO, h->path, name, "cannot write");
    close_id(space, H5Sclose);
    return status;
}

lq_status lq_h5_write(lq_h5 *h, const char *name, lq_h5_type type, const void *data, int64_t n) {
    const type_info info = info_of(type);
    return write_array(h, name, info.memory, info.file, data, (hsize_t)n);
}

/* A C string of `bytes` bytes, NUL included. */
static hid_t string_type(size_t bytes) {
    const hid_t type = H5Tcopy(H5T_C_S1);
    if (type < 0) return type;
    if (H5Tset_size(type, bytes) >= 0 && H5Tset_cset(type, H5T_CSET_UTF8) >= 0) return type;
    H5Tclose(type);
    return H5I_INVALID_HID;
}

lq_status lq_h5_write_string(lq_h5 *h, const char *name, const char *value) {
    const hid_t type = string_type(strlen(value) + 1);
    if (type < 0) return fail(LQ_EMEM, h->path, name, "cannot describe the string");
    const lq_status status = write_array(h, name, type, type, value, 1);
    H5Tclose(type);
    return status;
}

/* Writes the line with the checksum of the closed file into the user block. */
static lq_status seal(const lq_h5 *h) {
    seal_line line;
    bool sealed;
    LQ_TRY(seal_of(line, h->tmp, &sealed));
    if (pwrite(h->lock, line, SEAL_BYTES, 0) == SEAL_BYTES) return LQ_OK;
    return lq_fail(LQ_EIO, "%s: cannot write: %s", h->path, strerror(errno));
}

lq_status lq_h5_commit(lq_h5 *h) {
    lq_status status = LQ_OK;
    if (H5Fflush(h->file, H5F_SCOPE_GLOBAL) < 0)
        status = fail(LQ_EIO, h->path, NULL, "cannot flush");
    if (H5Fclose(h->file) < 0 && status == LQ_OK)
        status = fail(LQ_EIO, h->path, NULL, "cannot close");
    h->file = H5I_INVALID_HID;
    if (status == LQ_OK) status = seal(h);
    if (status == LQ_OK) status = lq_atomic_publish(h->tmp, h->path);
    if (status == LQ_OK) {
        lq_free(h->tmp);
        h->tmp = NULL;
    }
    lq_h5_close(h);
    return status;
}

/* ---- reading --------------------------------------------------------------------------------- */

lq_status lq_h5_open(lq_h5 **out, const char *path) {
    lq_h5 *h = NULL;
    seal_line line;
    bool sealed;
    *out = NULL;
    LQ_TRY(seal_of(line, path, &sealed));
    if (!sealed)
        return lq_fail(LQ_EFORMAT, "%s: damaged, or not written by Loquat: the checksum differs",
                       path);
    LQ_TRY(new_handle(&h, path));
    const hid_t access = unlocked();
    if (access >= 0) h->file = H5Fopen(path, H5F_ACC_RDONLY, access);
    close_id(access, H5Pclose);
    if (h->file < 0) {
        const lq_status status = fail(LQ_EFORMAT, path, NULL, "not a whole HDF5 file");
        lq_h5_close(h);
        return status;
    }
    *out = h;
    return LQ_OK;
}

/* Opens `name` and says how many elements it has; a size beyond the file's is damage, not a wish.
 */
static lq_status open_array(lq_h5 *h, const char *name, hid_t *set, hsize_t *n) {
    hsize_t file_bytes = 0;
    *set = H5I_INVALID_HID;
    const htri_t exists = H5Lexists(h->file, name, H5P_DEFAULT);
    if (exists < 0) return fail(LQ_EFORMAT, h->path, name, "cannot be looked up");
    if (!exists) return lq_fail(LQ_EFORMAT, "%s: %s is missing", h->path, name);
    *set = H5Dopen2(h->file, name, H5P_DEFAULT);
    const hid_t space = *set < 0 ? *set : H5Dget_space(*set);
    const bool simple = space >= 0 && H5Sget_simple_extent_ndims(space) == 1 &&
                        H5Sget_simple_extent_dims(space, n, NULL) == 1;
    close_id(space, H5Sclose);
    if (!simple || H5Fget_filesize(h->file, &file_bytes) < 0)
        return fail(LQ_EFORMAT, h->path, name, "not a readable array");
    if (*n > file_bytes)
        return lq_fail(LQ_EFORMAT, "%s: %s: found %llu elements in a file of %llu bytes", h->path,
                       name, (unsigned long long)*n, (unsigned long long)file_bytes);
    return LQ_OK;
}

static lq_status read_array(lq_h5 *h, const char *name, const type_info *info, hid_t set, hsize_t n,
                            void **out) {
    const hid_t type = H5Dget_type(set);
    const htri_t same = type < 0 ? -1 : H5Tequal(type, info->file);
    close_id(type, H5Tclose);
    if (same < 0) return fail(LQ_EFORMAT, h->path, name, "has no readable type");
    if (!same)
        return lq_fail(LQ_EFORMAT, "%s: %s: found another type, wanted %s", h->path, name,
                       info->name);
    void *data = lq_alloc_array((int64_t)n, info->bytes);
    if (!data) return LQ_EMEM;
    if (n > 0 && H5Dread(set, info->memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0) {
        lq_free(data);
        return fail(LQ_EFORMAT, h->path, name, "cannot read");
    }
    *out = data;
    return LQ_OK;
}

lq_status lq_h5_read(lq_h5 *h, const char *name, lq_h5_type type, void **out, int64_t *n) {
    lq_status status = LQ_OK;
    const type_info info = info_of(type);
    hid_t set = H5I_INVALID_HID;
    hsize_t found = 0;
    *out = NULL;
    *n = 0;
    LQ_GOTO(status, open_array(h, name, &set, &found));
    LQ_GOTO(status, read_array(h, name, &info, set, found, out));
    *n = (int64_t)found;
done:
    close_id(set, H5Dclose);
    return status;
}

static lq_status read_text(lq_h5 *h, const char *name, hid_t set, hid_t type, char **out) {
    hsize_t file_bytes = 0;
    const size_t bytes = H5Tget_size(type);
    if (bytes == 0 || H5Fget_filesize(h->file, &file_bytes) < 0 || bytes > file_bytes)
        return lq_fail(LQ_EFORMAT, "%s: %s: found an impossible length %zu", h->path, name, bytes);
    char *text = lq_alloc(bytes + 1);
    if (!text) return LQ_EMEM;
    if (H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, text) < 0) {
        lq_free(text);
        return fail(LQ_EFORMAT, h->path, name, "cannot read");
    }
    *out = text;
    return LQ_OK;
}

lq_status lq_h5_read_string(lq_h5 *h, const char *name, char **out) {
    lq_status status = LQ_OK;
    hid_t set = H5I_INVALID_HID, type = H5I_INVALID_HID;
    hsize_t n = 0;
    *out = NULL;
    LQ_GOTO(status, open_array(h, name, &set, &n));
    type = H5Dget_type(set);
    if (type < 0) LQ_GOTO(status, fail(LQ_EFORMAT, h->path, name, "has no readable type"));
    if (H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) != 0 || n != 1)
        LQ_GOTO(status,
                lq_fail(LQ_EFORMAT, "%s: %s: found another type, wanted a string", h->path, name));
    LQ_GOTO(status, read_text(h, name, set, type, out));
done:
    close_id(type, H5Tclose);
    close_id(set, H5Dclose);
    return status;
}
