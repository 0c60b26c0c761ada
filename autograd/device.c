/* The table of devices, opening one by name, what host memory has a copy on it, and the CPU's row,
 * whose queue is the program itself. */
#include "device.h"

#include <stdio.h>
#include <string.h>

enum { FILL_PIECE = 1 << 16 };

/* ---- the CPU --------------------------------------------------------------------------------- */

static lq_status cpu_open(lq_dev *dev) {
    if (dev->index == 0) return LQ_OK;
    return lq_fail(LQ_EDEVICE, "device 'cpu:%d': there is one CPU", dev->index);
}

static void cpu_close(lq_dev *dev) { (void)dev; }

static lq_status cpu_memory(lq_dev *dev, size_t *free_bytes, size_t *total_bytes) {
    (void)dev;
    *free_bytes = *total_bytes = SIZE_MAX; /* pages come when they are touched */
    return LQ_OK;
}

static lq_status cpu_alloc(lq_dev *dev, void **out, size_t bytes) {
    (void)dev;
    *out = lq_alloc(bytes);
    return *out ? LQ_OK : LQ_EMEM;
}

static void cpu_free(lq_dev *dev, void *p) {
    (void)dev;
    lq_free(p);
}

static bool cpu_owns(lq_dev *dev, const void *p) {
    (void)dev;
    return p != NULL;
}

static void cpu_copy(lq_dev *dev, void *to, const void *from, size_t bytes) {
    (void)dev;
    memcpy(to, from, bytes);
}

/* In pieces, so that each thread brings its share into its own cache. */
static void cpu_fill(lq_dev *dev, void *p, int byte, size_t bytes) {
    (void)dev;
#pragma omp parallel for schedule(static) if (bytes >= 4 * FILL_PIECE)
    for (size_t at = 0; at < bytes; at += FILL_PIECE)
        memset((char *)p + at, byte, bytes - at < FILL_PIECE ? bytes - at : FILL_PIECE);
}

static void cpu_fill_f32(lq_dev *dev, float *p, float value, int64_t n) {
    (void)dev;
    for (int64_t i = 0; i < n; i++) p[i] = value;
}

static void cpu_convert(lq_dev *dev, void *to, const void *from, const lq_format *fmt, int64_t n) {
    (void)dev;
    fmt->dequant(from, to, n);
}

static void cpu_mark(lq_dev *dev, void **m) {
    (void)dev;
    (void)m;
}

static lq_status cpu_reach(lq_dev *dev, void *m) {
    (void)dev;
    (void)m;
    return LQ_OK;
}

static void cpu_unmark(lq_dev *dev, void *m) {
    (void)dev;
    (void)m;
}

static lq_status cpu_check(lq_dev *dev) {
    (void)dev;
    return LQ_OK;
}

const lq_device_row lq_device_cpu = {
    .name = "cpu", .open = cpu_open, .close = cpu_close, .memory = cpu_memory,
    .alloc = cpu_alloc, .free = cpu_free, .owns = cpu_owns, .alloc_pinned = cpu_alloc,
    .free_pinned = cpu_free, .copy = cpu_copy, .fill = cpu_fill, .fill_f32 = cpu_fill_f32,
    .convert = cpu_convert, .mark = cpu_mark, .reach = cpu_reach, .unmark = cpu_unmark,
    .check = cpu_check, .wait = cpu_check,
};

/* ---- the table ------------------------------------------------------------------------------- */

static const lq_device_row *const rows[LQ_N_DEV] = {
    [LQ_CPU] = &lq_device_cpu,
    [LQ_CUDA] = LQ_CUDA_DEVICE,
};
static const char *const names[LQ_N_DEV] = {[LQ_CPU] = "cpu", [LQ_CUDA] = "cuda"};

const lq_device_row *lq_device_table(lq_device id) { return rows[id]; }

lq_dev *lq_dev_cpu(void) {
    static lq_dev cpu = {.row = &lq_device_cpu, .id = LQ_CPU, .activation = &lq_f32};
    return &cpu;
}

static lq_status open_row(lq_dev **out, lq_device id, int index, bool bf16) {
    if (!rows[id])
        return lq_fail(LQ_EDEVICE, "device '%s': this build has none; it was configured without "
                       "(LOQUAT_CUDA)", names[id]);
    lq_dev *const dev = lq_alloc(sizeof *dev);
    if (!dev) return LQ_EMEM;
    dev->row = rows[id];
    dev->id = id;
    dev->index = index;
    dev->activation = bf16 && id != LQ_CPU ? &lq_bf16 : &lq_f32;
    const lq_status status = dev->row->open(dev);
    if (status == LQ_OK) *out = dev;
    else lq_free(dev);
    return status;
}

/* "NAME" or "NAME:INDEX". False: not this device's name. */
static bool parse(const char *text, const char *name, int *index) {
    const size_t n = strlen(name);
    int end = 0;
    *index = 0;
    if (strncmp(text, name, n) != 0) return false;
    if (!text[n]) return true;
    return sscanf(text + n, ":%d%n", index, &end) == 1 && !text[n + (size_t)end] && *index >= 0;
}

lq_status lq_dev_open(lq_dev **out, const char *name, bool bf16) {
    int index;
    *out = NULL;
    if (strcmp(name, "auto") == 0) {
        const lq_status status = rows[LQ_CUDA] ? open_row(out, LQ_CUDA, 0, bf16) : LQ_EDEVICE;
        if (status == LQ_OK || status == LQ_EMEM) return status;
        if (rows[LQ_CUDA]) lq_log(LQ_LOG_INFO, "%s: computing on the CPU", lq_error());
        return open_row(out, LQ_CPU, 0, bf16);
    }
    for (int id = 0; id < LQ_N_DEV; id++)
        if (parse(name, names[id], &index)) return open_row(out, (lq_device)id, index, bf16);
    return lq_fail(LQ_ECONFIG, "device '%s': wanted auto, cpu, cuda or cuda:INDEX", name);
}

lq_status lq_dev_full(lq_dev *dev, size_t bytes) {
    size_t free_bytes = 0, total = 0;
    LQ_TRY(dev->row->memory(dev, &free_bytes, &total));
    return lq_fail(LQ_EMEM, "device '%s:%d': %.3f GB wanted, %.3f of %.3f GB are free",
                   dev->row->name, dev->index, (double)bytes / 1e9, (double)free_bytes / 1e9,
                   (double)total / 1e9);
}

/* ---- residents ------------------------------------------------------------------------------- */

typedef struct lq_resident {
    const void *host;
    void *copy;
    size_t bytes;        /* of the host's */
    bool converted;
} lq_resident;

void lq_dev_close(lq_dev *dev) {
    if (!dev || dev == lq_dev_cpu()) return;
    for (int64_t i = 0; i < dev->n_resident; i++) dev->row->free(dev, dev->resident[i].copy);
    lq_free(dev->resident);
    dev->row->close(dev);
    lq_free(dev);
}

/* Index of the first resident at p or behind it: the list is sorted by host address. */
static int64_t find(const lq_dev *dev, const void *p) {
    int64_t low = 0, high = dev->n_resident;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if ((uintptr_t)dev->resident[middle].host < (uintptr_t)p) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* The copy of this kind, or NULL; *at: where it would be added. */
static void *known(const lq_dev *dev, const void *p, size_t bytes, bool converted, int64_t *at) {
    for (*at = find(dev, p); *at < dev->n_resident && dev->resident[*at].host == p; ++*at) {
        const lq_resident *const r = &dev->resident[*at];
        if (r->bytes >= bytes && r->converted == converted) return r->copy;
    }
    return NULL;
}

static lq_status add(lq_dev *dev, int64_t at, lq_resident r) {
    const lq_status status = lq_reserve((void **)&dev->resident, &dev->cap_resident,
                                        dev->n_resident + 1, sizeof *dev->resident);
    if (status != LQ_OK) {
        dev->row->free(dev, r.copy);
        return status;
    }
    memmove(dev->resident + at + 1, dev->resident + at,
            (size_t)(dev->n_resident - at) * sizeof *dev->resident);
    dev->resident[at] = r;
    dev->n_resident++;
    return LQ_OK;
}

static lq_status upload(lq_dev *dev, void **out, const void *p, size_t bytes) {
    LQ_TRY(dev->row->alloc(dev, out, bytes));
    dev->row->copy(dev, *out, p, bytes);
    return LQ_OK;
}

lq_status lq_dev_resident(lq_dev *dev, const void **out, const void *p, size_t bytes) {
    int64_t at;
    void *copy;
    *out = p;
    if (dev->row->owns(dev, p)) return LQ_OK;
    *out = copy = known(dev, p, bytes, false, &at);
    if (copy) return LQ_OK;
    LQ_TRY(upload(dev, &copy, p, bytes));
    *out = copy;
    return add(dev, at, (lq_resident){p, copy, bytes, false});
}

lq_status lq_dev_resident_as(lq_dev *dev, const void **out, const void *p, const lq_format *fmt,
                             int64_t n) {
    const size_t bytes = lq_format_bytes(fmt, n);
    void *copy, *raw = NULL;
    int64_t at;
    *out = copy = known(dev, p, bytes, true, &at);
    if (copy) return LQ_OK;
    LQ_TRY(dev->row->alloc(dev, &copy, lq_format_bytes(dev->activation, n)));
    const lq_status status = upload(dev, &raw, p, bytes);
    if (status != LQ_OK) {
        dev->row->free(dev, copy);
        return status;
    }
    dev->row->convert(dev, copy, raw, fmt, n);
    dev->row->free(dev, raw);
    *out = copy;
    return add(dev, at, (lq_resident){p, copy, bytes, true});
}

void lq_dev_forget(lq_dev *dev, const void *p) {
    const int64_t at = find(dev, p);
    while (at < dev->n_resident && dev->resident[at].host == p) {
        dev->row->free(dev, dev->resident[at].copy);
        dev->n_resident--;
        memmove(dev->resident + at, dev->resident + at + 1,
                (size_t)(dev->n_resident - at) * sizeof *dev->resident);
    }
}
