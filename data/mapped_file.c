/* Mapping files. See mapped_file.h. */
#include "mapped_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static lq_status map(lq_mapped *out, int fd, const char *path) {
    struct stat info;
    if (fstat(fd, &info) != 0) return lq_fail(LQ_EIO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode)) return lq_fail(LQ_EIO, "%s: not a file", path);
    if (!info.st_size) return lq_fail(LQ_EFORMAT, "%s: the file is empty", path);
    void *p = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) return lq_fail(LQ_EIO, "%s: cannot be mapped: %s", path, strerror(errno));
    *out = (lq_mapped){p, (size_t)info.st_size};
    return LQ_OK;
}

lq_status lq_map_open(lq_mapped *out, const char *path) {
    *out = (lq_mapped){NULL, 0};
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return lq_fail(LQ_EIO, "%s: %s", path, strerror(errno));
    const lq_status status = map(out, fd, path);
    close(fd);
    return status;
}

void lq_map_close(lq_mapped *map) {
    if (map->bytes) munmap((void *)map->bytes, map->n);
    *map = (lq_mapped){NULL, 0};
}
