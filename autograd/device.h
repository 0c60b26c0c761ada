/* Devices: one table with a row for each, and a device opened by a run (lq_dev).
 *
 * A device works through one queue, in order: copies, fills and kernels return at once and happen
 * later (on the CPU: at once). Errors of queued work stay in the device and come out of `check` and
 * `wait`. Whoever runs above this table does not know which device it has. */
#ifndef LOQUAT_DEVICE_H
#define LOQUAT_DEVICE_H

#include "format.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum lq_device { LQ_CPU, LQ_CUDA, LQ_N_DEV } lq_device;

typedef struct lq_dev lq_dev;

typedef struct lq_device_row {
    const char *name;                                    /* as the config spells it */
    lq_status (*open)(lq_dev *dev);                      /* dev->index is set; sets queue and own */
    void (*close)(lq_dev *dev);
    lq_status (*memory)(lq_dev *dev, size_t *free_bytes, size_t *total_bytes);
    /* Contents undefined, 16-byte aligned at least. LQ_EMEM says what was asked, what is free. */
    lq_status (*alloc)(lq_dev *dev, void **out, size_t bytes);
    void (*free)(lq_dev *dev, void *p);                  /* waits for the queue; NULL is fine */
    bool (*owns)(lq_dev *dev, const void *p);            /* is p the device's memory? */
    /* Host memory that queued copies read and write when their turn comes. */
    lq_status (*alloc_pinned)(lq_dev *dev, void **out, size_t bytes);
    void (*free_pinned)(lq_dev *dev, void *p);           /* as free */
    /* Queued. Either side may be the device's memory or the host's; where that is not pinned, copy
     * waits for the queue and is done when it returns. */
    void (*copy)(lq_dev *dev, void *to, const void *from, size_t bytes);
    void (*fill)(lq_dev *dev, void *p, int byte, size_t bytes);
    void (*fill_f32)(lq_dev *dev, float *p, float value, int64_t n);
    /* n elements of a format as what dev keeps activations in; both are the device's memory. */
    void (*convert)(lq_dev *dev, void *to, const void *from, const lq_format *fmt, int64_t n);
    /* Marks are points of the queue. mark: *m is the present one; NULL at first, unmark gives it
     * back. reach: waits until the queue has passed m, not at all for NULL. */
    void (*mark)(lq_dev *dev, void **m);
    lq_status (*reach)(lq_dev *dev, void *m);
    void (*unmark)(lq_dev *dev, void *m);
    lq_status (*check)(lq_dev *dev);                     /* the first error so far; does not wait */
    lq_status (*wait)(lq_dev *dev);                      /* until the queue is empty */
    const struct lq_span_kernels *span;                  /* span.h; NULL: the CPU's ways */
    const struct lq_effective *effective;                /* effective.h; NULL: the CPU's ways */
} lq_device_row;

struct lq_dev {
    const lq_device_row *row;
    lq_device id;
    int index;                     /* which of several */
    const lq_format *activation;   /* what activations are kept in: lq_f32, or lq_bf16 */
    void *queue, *own;             /* the row's: a cudaStream_t, its libraries' handles */
    struct lq_resident *resident;  /* host memory that has a copy here (device.c) */
    int64_t n_resident, cap_resident;
};

/* NULL where this build has no such device. */
const lq_device_row *lq_device_table(lq_device id);
/* "cpu", "cuda", "cuda:1", or "auto": a GPU if there is one. bf16: activations are kept in it where
 * the device can. */
lq_status lq_dev_open(lq_dev **out, const char *name, bool bf16);
void lq_dev_close(lq_dev *dev);
/* The CPU, always open, with F32 activations. */
lq_dev *lq_dev_cpu(void);
/* The device's copy of `bytes` of constant host memory at p, made at the first call and kept until
 * the device is closed. p itself on the CPU, and where p is the device's memory already. */
lq_status lq_dev_resident(lq_dev *dev, const void **out, const void *p, size_t bytes);
/* The same of n elements of a format, converted to what the device keeps activations in. */
lq_status lq_dev_resident_as(lq_dev *dev, const void **out, const void *p, const lq_format *fmt,
                             int64_t n);
/* LQ_EMEM: what was wanted and what is free; for rows' alloc. */
lq_status lq_dev_full(lq_dev *dev, size_t bytes);
/* Drops the copies of host memory that starts at p: to be called before that memory is freed while
 * the device stays open, or the next thing at that address is taken for it. */
void lq_dev_forget(lq_dev *dev, const void *p);

/* The rows; device.c's table knows them. */
extern const lq_device_row lq_device_cpu, lq_device_cuda;
#ifdef LOQUAT_CUDA
#define LQ_CUDA_DEVICE (&lq_device_cuda)
#else
#define LQ_CUDA_DEVICE NULL
#endif

#ifdef __cplusplus
}
#endif
#endif
