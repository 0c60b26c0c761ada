/* Times attention alone, forward and backward, on a device. By hand: bench_attention [cuda|cpu]
 * [bf16|f32] [rows]. Prints milliseconds (the best of several) and TFLOP/s as papers count them:
 * for each visible pair 4 d per head forward and 10 d backward, whatever is computed again. */
#include "ops.h"
#include "random.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { Q, K, V, STARTS, REPEAT = 10 };

typedef struct model_shape {
    const char *name;
    int n_head, n_head_kv, head_dim, segment, window;   /* segment: rows of an example, 0: all */
    float softcap;
} model_shape;

static const model_shape shapes[] = {
    {"Llama-3.2-1B", 32, 8, 64, 2048, 0, 0},
    {"Llama-3.2-1B, packed 512", 32, 8, 64, 512, 0, 0},
    {"Llama-3.2-1B, one example", 32, 8, 64, 0, 0, 0},
    {"Phi-3-mini", 32, 32, 96, 2048, 2047, 0},
    {"Llama-3-8B", 32, 8, 128, 4096, 0, 0},
    {"Gemma-2-2B", 8, 4, 256, 4096, 0, 50},
    {"Gemma-3-4B, local", 8, 4, 256, 4096, 1024, 0},
};

typedef struct bench {
    lq_dev *dev;
    lq_attention_attr attr;
    lq_tensor tensor[12];
    int n_tensors;
    lq_node node;
    lq_run run;
} bench;

static void check(lq_status status) {
    if (status == LQ_OK) return;
    fprintf(stderr, "%s: %s\n", lq_status_text(status), lq_error());
    exit(1);
}

/* (rows, cols) of the device's activation format with random numbers. */
static lq_tensor *add_rows(bench *b, int64_t rows, int64_t cols, const lq_format *fmt) {
    lq_tensor *const t = &b->tensor[b->n_tensors++];
    const int64_t n = rows * cols;
    const size_t bytes = lq_format_bytes(fmt, n);
    *t = (lq_tensor){.fmt = fmt, .kind = LQ_ACTIVATION, .ndim = 2, .dim = {rows, cols}};
    float *const x = lq_alloc_array(n, sizeof *x);
    void *const data = lq_alloc_aligned(bytes);
    if (!x || !data) check(LQ_EMEM);
    for (int64_t i = 0; i < n; i++)
        x[i] = lq_random_uniform((uint64_t)b->n_tensors, (uint64_t)i) * 2 - 1;
    fmt->quant(x, data, n, NULL);
    check(b->dev->row->alloc(b->dev, &t->data, bytes));
    b->dev->row->copy(b->dev, t->data, data, bytes);
    check(b->dev->row->wait(b->dev));
    lq_free(x);
    lq_free(data);
    return t;
}

static int64_t start_of(const model_shape *s, int64_t t) {
    return s->segment ? t - t % s->segment : 0;
}

static lq_tensor *add_starts(bench *b, const model_shape *s, int64_t n) {
    lq_tensor *const t = &b->tensor[b->n_tensors++];
    int32_t *const x = lq_alloc_array(n, sizeof *x);
    *t = (lq_tensor){.fmt = &lq_i32, .kind = LQ_INPUT, .ndim = 1, .dim = {n}};
    if (!x) check(LQ_EMEM);
    for (int64_t i = 0; i < n; i++) x[i] = (int32_t)start_of(s, i);
    check(b->dev->row->alloc(b->dev, &t->data, (size_t)n * sizeof *x));
    b->dev->row->copy(b->dev, t->data, x, (size_t)n * sizeof *x);
    check(b->dev->row->wait(b->dev));
    lq_free(x);
    return t;
}

static void bench_open(bench *b, const model_shape *s, int64_t n) {
    const int64_t width = (int64_t)s->n_head * s->head_dim;
    const int64_t kv_width = (int64_t)s->n_head_kv * s->head_dim;
    b->attr = (lq_attention_attr){s->n_head, s->n_head_kv, s->head_dim,
                                  1 / sqrtf((float)s->head_dim), s->window, s->softcap, 0};
    b->node = (lq_node){.op = &lq_op_attention, .attr = &b->attr};
    for (int i = Q; i <= V; i++) {
        const int64_t cols = i == Q ? width : kv_width;
        b->node.in[i] = add_rows(b, n, cols, b->dev->activation);
        b->node.in[i]->grad = add_rows(b, n, cols, b->dev->activation);
    }
    b->node.in[STARTS] = add_starts(b, s, n);
    b->node.out = add_rows(b, n, width, b->dev->activation);
    b->node.out->grad = add_rows(b, n, width, b->dev->activation);
    b->node.saved = add_rows(b, n, s->n_head, &lq_f32);
    b->run = (lq_run){.dev = b->dev, .training = true};
    const lq_kernels *const kernels = lq_op_attention.kernel[b->dev->id];
    check(b->dev->row->alloc(b->dev, &b->run.scratch, kernels->scratch(&b->node, true) + 64));
}

static void bench_close(bench *b) {
    for (int i = 0; i < b->n_tensors; i++) b->dev->row->free(b->dev, b->tensor[i].data);
    b->dev->row->free(b->dev, b->run.scratch);
    b->n_tensors = 0;
}

static double seconds(bench *b, lq_kernel_fn kernel) {
    double best = INFINITY;
    for (int i = 0; i < REPEAT; i++) {
        const double begin = lq_seconds();
        kernel(&b->node, &b->run);
        check(b->dev->row->wait(b->dev));
        best = fmin(best, lq_seconds() - begin);
    }
    return best;
}

static double visible_pairs(const model_shape *s, int64_t n) {
    double pairs = 0;
    for (int64_t t = 0; t < n; t++) {
        const int64_t seen = t - start_of(s, t) + 1;
        pairs += (double)(s->window > 0 && s->window < seen ? s->window : seen);
    }
    return pairs;
}

static void time_shape(lq_dev *dev, const model_shape *s, int64_t n) {
    bench b = {.dev = dev};
    bench_open(&b, s, n);
    const lq_kernels *const kernels = lq_op_attention.kernel[dev->id];
    const double forward = seconds(&b, kernels->fwd), backward = seconds(&b, kernels->bwd);
    const double flops = visible_pairs(s, n) * s->n_head * s->head_dim * 1e-12;
    printf("%-28s forward %8.3f ms %6.1f TFLOP/s  backward %8.3f ms %6.1f TFLOP/s\n", s->name,
           forward * 1e3, 4 * flops / forward, backward * 1e3, 10 * flops / backward);
    bench_close(&b);
}

int main(int argc, char **argv) {
    const bool bf16 = argc < 3 || strcmp(argv[2], "f32") != 0;
    const int64_t n = argc > 3 ? atoll(argv[3]) : 8192;
    lq_dev *dev = NULL;
    check(lq_dev_open(&dev, argc > 1 ? argv[1] : "cuda", bf16));
    printf("%lld rows, %s\n", (long long)n, dev->activation->name);
    for (int i = 0; i < LQ_ARRAY_LEN(shapes); i++) time_shape(dev, &shapes[i], n);
    lq_dev_close(dev);
    return 0;
}
