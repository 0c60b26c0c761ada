/* The row of device 'cuda' (device.h): one GPU, one stream. Not emulated: this is the CUDA runtime
 * itself, so tests have a row of their own. */
#include "cuda_formats.h"
#include "cuda_own.h"
#include "effective.h"
#include "launch.h"
#include "span.h"

#include <stdio.h>

static lq_status failed(cudaError_t error, const char *what) {
    return lq_fail(LQ_EDEVICE, "CUDA: %s: %s", what, cudaGetErrorString(error));
}

static lq_cuda_own *own_of(lq_dev *dev) { return lq_cuda_own_of(dev); }

void lq_cuda_note(lq_dev *dev, const char *what, const char *error) {
    lq_cuda_own *const own = own_of(dev);
    if (error && !own->error[0]) snprintf(own->error, sizeof own->error, "%s: %s", what, error);
}

static void note(lq_dev *dev, const char *what, cudaError_t error) {
    lq_cuda_note(dev, what, error == cudaSuccess ? NULL : cudaGetErrorString(error));
}

/* ---- kernels --------------------------------------------------------------------------------- */

enum { PLAIN_SHARED_BYTES = 48 << 10 };   /* more has to be asked for */

static void note_kernel(lq_dev *dev, const void *kernel, cudaError_t error) {
    const char *name = NULL;
    char text[128];
    if (error == cudaSuccess) return;
    if (cudaFuncGetName(&name, kernel) != cudaSuccess) name = "";
    snprintf(text, sizeof text, "starting kernel %.100s", name);
    note(dev, text, error);
    cudaGetLastError();   /* the next call starts clean */
}

void lq_cuda_before_launch(lq_dev *dev, const void *kernel, size_t shared_bytes) {
    note(dev, "the device", lq_cuda_enter(dev));
    if (shared_bytes > PLAIN_SHARED_BYTES)
        note_kernel(dev, kernel,
                    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                         (int)shared_bytes));
}

void lq_cuda_after_launch(lq_dev *dev, const void *kernel) {
    note_kernel(dev, kernel, cudaGetLastError());
}

static __global__ void fill_kernel(float *p, float value, int64_t n) {
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) p[i] = value;
}

/* ---- opening --------------------------------------------------------------------------------- */

static lq_status find_device(int index) {
    int n = 0, driver = 0;
    if (cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0)
        return lq_fail(LQ_EDEVICE, "device 'cuda': this machine has no NVIDIA driver");
    const cudaError_t error = cudaGetDeviceCount(&n);
    if (error != cudaSuccess || n == 0)
        return lq_fail(LQ_EDEVICE, "device 'cuda': no GPU found (%s)",
                       error == cudaSuccess ? "none installed" : cudaGetErrorString(error));
    if (index < n) return LQ_OK;
    return lq_fail(LQ_EDEVICE, "device 'cuda:%d': %d GPU%s found, the last is cuda:%d", index, n,
                   n == 1 ? "" : "s", n - 1);
}

/* Has this build kernels for this GPU? */
static lq_status find_kernels(int index) {
    cudaFuncAttributes attributes;
    cudaDeviceProp gpu;
    const cudaError_t error = cudaFuncGetAttributes(&attributes, (const void *)fill_kernel);
    if (error == cudaSuccess) return LQ_OK;
    cudaGetLastError();
    if (cudaGetDeviceProperties(&gpu, index) != cudaSuccess) return failed(error, "its kernels");
    return lq_fail(LQ_EDEVICE, "device 'cuda:%d': %s is of compute capability %d.%d, for which "
                   "this build has no kernels (%s); see LOQUAT_CUDA_ARCHITECTURES", index, gpu.name,
                   gpu.major, gpu.minor, cudaGetErrorString(error));
}

static void cuda_close(lq_dev *dev) {
    lq_cuda_own *const own = own_of(dev);
    if (!own) return;
    lq_cuda_enter(dev);
    if (dev->queue) cudaStreamSynchronize((cudaStream_t)dev->queue);
    lq_cuda_plans_close(own);
    if (dev->queue) cudaStreamDestroy((cudaStream_t)dev->queue);
    lq_free(own);
    dev->own = dev->queue = NULL;
}

static lq_status open_own(lq_dev *dev) {
    cudaStream_t stream;
    cudaError_t error = lq_cuda_enter(dev);
    if (error == cudaSuccess) error = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    if (error != cudaSuccess) return failed(error, "opening the device");
    dev->queue = stream;
    LQ_TRY(find_kernels(dev->index));
    return lq_cuda_plans_open(dev);
}

static lq_status cuda_open(lq_dev *dev) {
    LQ_TRY(find_device(dev->index));
    dev->own = lq_alloc(sizeof(lq_cuda_own));
    if (!dev->own) return LQ_EMEM;
    const lq_status status = open_own(dev);
    if (status != LQ_OK) cuda_close(dev);
    return status;
}

/* ---- memory ---------------------------------------------------------------------------------- */

static lq_status cuda_memory(lq_dev *dev, size_t *free_bytes, size_t *total_bytes) {
    cudaError_t error = lq_cuda_enter(dev);
    if (error == cudaSuccess) error = cudaMemGetInfo(free_bytes, total_bytes);
    return error == cudaSuccess ? LQ_OK : failed(error, "asking for free memory");
}

static lq_status cuda_alloc(lq_dev *dev, void **out, size_t bytes) {
    cudaError_t error = lq_cuda_enter(dev);
    if (error == cudaSuccess) error = cudaMalloc(out, bytes ? bytes : 1);
    if (error == cudaSuccess) return LQ_OK;
    *out = NULL;
    cudaGetLastError();   /* the next call starts clean */
    return error == cudaErrorMemoryAllocation ? lq_dev_full(dev, bytes)
                                              : failed(error, "cudaMalloc");
}

/* Freeing alone need not wait for work that uses p. */
static void drain(lq_dev *dev) {
    lq_cuda_enter(dev);
    note(dev, "work on the device", cudaStreamSynchronize((cudaStream_t)dev->queue));
}

static void cuda_free(lq_dev *dev, void *p) {
    if (!p) return;
    drain(dev);
    note(dev, "cudaFree", cudaFree(p));
}

static bool cuda_owns(lq_dev *dev, const void *p) {
    (void)dev;
    cudaPointerAttributes a;
    if (cudaPointerGetAttributes(&a, p) == cudaSuccess) return a.type == cudaMemoryTypeDevice;
    cudaGetLastError();
    return false;
}

static lq_status cuda_alloc_pinned(lq_dev *dev, void **out, size_t bytes) {
    cudaError_t error = lq_cuda_enter(dev);
    if (error == cudaSuccess) error = cudaMallocHost(out, bytes ? bytes : 1);
    if (error == cudaSuccess) return LQ_OK;
    *out = NULL;
    cudaGetLastError();
    return lq_fail(LQ_EMEM, "%zu bytes of pinned memory: %s", bytes, cudaGetErrorString(error));
}

static void cuda_free_pinned(lq_dev *dev, void *p) {
    if (!p) return;
    drain(dev);
    note(dev, "cudaFreeHost", cudaFreeHost(p));
}

/* ---- the queue ------------------------------------------------------------------------------- */

static bool is_pageable(const void *p) {
    cudaPointerAttributes a;
    if (cudaPointerGetAttributes(&a, p) == cudaSuccess) return a.type == cudaMemoryTypeUnregistered;
    cudaGetLastError();
    return true;
}

/* CUDA does not promise that pageable memory has been read, or written, when a copy returns. */
static void cuda_copy(lq_dev *dev, void *to, const void *from, size_t bytes) {
    lq_cuda_enter(dev);
    note(dev, "a copy",
         cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, (cudaStream_t)dev->queue));
    if (is_pageable(to) || is_pageable(from)) drain(dev);
}

static void cuda_fill(lq_dev *dev, void *p, int byte, size_t bytes) {
    lq_cuda_enter(dev);
    note(dev, "a fill", cudaMemsetAsync(p, byte, bytes, (cudaStream_t)dev->queue));
}

static void cuda_fill_f32(lq_dev *dev, float *p, float value, int64_t n) {
    if (n > 0) lq_launch(dev, fill_kernel, (unsigned)((n + 255) / 256), 256, 0, p, value, n);
}

static void cuda_convert(lq_dev *dev, void *to, const void *from, const lq_format *fmt,
                         int64_t n) {
    lq_cuda_format_of(fmt)->dequant(dev, from, to, dev->activation, n);
}

static void cuda_mark(lq_dev *dev, void **m) {
    cudaEvent_t event = (cudaEvent_t)*m;
    cudaError_t error = lq_cuda_enter(dev);
    if (error == cudaSuccess && !event)
        error = cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
    *m = event;
    if (error == cudaSuccess) error = cudaEventRecord(event, (cudaStream_t)dev->queue);
    note(dev, "an event", error);
}

static void cuda_unmark(lq_dev *dev, void *m) {
    if (m) note(dev, "an event", cudaEventDestroy((cudaEvent_t)m));
}

static lq_status cuda_check(lq_dev *dev) {
    const char *const error = own_of(dev)->error;
    return error[0] ? lq_fail(LQ_EDEVICE, "device 'cuda:%d': %s", dev->index, error) : LQ_OK;
}

static lq_status cuda_reach(lq_dev *dev, void *m) {
    if (m) note(dev, "work on the device", cudaEventSynchronize((cudaEvent_t)m));
    return cuda_check(dev);
}

static lq_status cuda_wait(lq_dev *dev) {
    drain(dev);
    return cuda_check(dev);
}

extern "C" const lq_device_row lq_device_cuda = {
    "cuda", cuda_open, cuda_close, cuda_memory, cuda_alloc, cuda_free, cuda_owns,
    cuda_alloc_pinned, cuda_free_pinned, cuda_copy, cuda_fill, cuda_fill_f32, cuda_convert,
    cuda_mark, cuda_reach, cuda_unmark, cuda_check, cuda_wait, &lq_cuda_span,
    &lq_cuda_effective,
};
