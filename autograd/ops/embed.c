/* out = scale W[ids], W in any format, with NEFTune's noise when training (arXiv 2310.05914).
 *
 * Backward, for a trained W: dW[ids[t]] += scale dy[t], rows in order. */
#include "cpu.h"
#include "ops.h"
#include "random.h"
#include "rowwise.h"

#include <assert.h>
#include <math.h>

static lq_status shape(lq_node *node) {
    const lq_embed_attr *const attr = node->attr;
    const lq_tensor *const ids = node->in[0], *const w = node->in[1];
    LQ_TRY(lq_check_vector(ids, "ids", &lq_i32, ids ? ids->dim[0] : 0));
    if (!w || w->ndim != 2 || !w->fmt->dequant)
        return lq_fail(LQ_ESHAPE, "the weight is no matrix of a float format");
    if (attr->noise_alpha > 0)
        LQ_TRY(lq_check_vector(node->in[2], "starts (wanted for noise)", &lq_i32, ids->dim[0]));
    lq_set_matrix(node->out, ids->dim[0], w->dim[1]);
    return LQ_OK;
}

static unsigned bwd_reads(const lq_node *node) {
    (void)node;
    return LQ_IN(0);
}

/* length[t] = rows of t's segment: neighbours with the same start. */
static void segment_lengths(int32_t *length, const int32_t *starts, int64_t n) {
    for (int64_t first = 0, end; first < n; first = end) {
        for (end = first + 1; end < n && starts[end] == starts[first];) end++;
        for (int64_t t = first; t < end; t++) length[t] = (int32_t)(end - first);
    }
}

static size_t scratch(const lq_node *node, bool backward) {
    const lq_embed_attr *const attr = node->attr;
    return !backward && attr->noise_alpha > 0 ? (size_t)lq_rows(node->out) * sizeof(int32_t) : 0;
}

static void add_noise(const lq_node *node, const lq_run *run) {
    const lq_embed_attr *const attr = node->attr;
    const int64_t n = lq_rows(node->out), d = lq_cols(node->out);
    const uint64_t key = lq_random_key(run->key, node->id);
    int32_t *const length = run->scratch;
    segment_lengths(length, lq_data_i32(node->in[2]), n);
#pragma omp parallel for schedule(static) if (n * d >= LQ_PARALLEL_ELEMENTS)
    for (int64_t t = 0; t < n; t++) {
        const float most = (float)(attr->noise_alpha / sqrt((double)length[t] * (double)d));
        float *const y = lq_data_f32(node->out) + t * d;
        for (int64_t j = 0; j < d; j++)
            y[j] += most * (2 * lq_random_uniform(key, (uint64_t)(t * d + j)) - 1);
    }
}

static void forward(const lq_node *node, const lq_run *run) {
    const lq_embed_attr *const attr = node->attr;
    const lq_cpu *const cpu = lq_cpu_kernels();
    const lq_tensor *const w = node->in[1];
    const int64_t n = lq_rows(node->out), d = lq_cols(node->out);
    const int32_t *const ids = lq_data_i32(node->in[0]);
    const size_t row_bytes = lq_format_bytes(w->fmt, d);
#pragma omp parallel for schedule(static) if (n * d >= LQ_PARALLEL_ELEMENTS)
    for (int64_t t = 0; t < n; t++) {
        assert(ids[t] >= 0 && ids[t] < w->dim[0]);
        float *const y = lq_data_f32(node->out) + t * d;
        w->fmt->dequant((const char *)w->data + (size_t)ids[t] * row_bytes, y, d);
        if (attr->scale != 1) cpu->scale(y, attr->scale, d);
    }
    if (run->training && attr->noise_alpha > 0) add_noise(node, run);
}

static void backward(const lq_node *node, const lq_run *run) {
    (void)run;
    const lq_embed_attr *const attr = node->attr;
    const lq_cpu *const cpu = lq_cpu_kernels();
    const int64_t n = lq_rows(node->out), d = lq_cols(node->out);
    const int32_t *const ids = lq_data_i32(node->in[0]);
    const float *const dy = lq_grad_f32(node->out);
    float *const dw = lq_grad_f32(node->in[1]);
#pragma omp parallel for schedule(static) if (n * d >= LQ_PARALLEL_ELEMENTS)
    for (int64_t j = 0; j < d; j += LQ_COLUMN_CHUNK) {
        const int64_t cols = d - j < LQ_COLUMN_CHUNK ? d - j : LQ_COLUMN_CHUNK;
        for (int64_t t = 0; t < n; t++)
            cpu->axpy(dw + ids[t] * d + j, attr->scale, dy + t * d + j, cols);
    }
}

static const lq_kernels on_cpu = {.fwd = forward, .bwd = backward, .scratch = scratch};

const lq_op lq_op_embed = {
    .name = "embed",
    .n_in = 3,
    .attr_bytes = sizeof(lq_embed_attr),
    .nograd = LQ_IN(0) | LQ_IN(2),
    .bwd_reads = bwd_reads,
    .shape = shape,
    .kernel = {[LQ_CPU] = &on_cpu, LQ_CUDA_ROW(embed)},
};

lq_tensor *lq_embed(lq_tape *tape, lq_tensor *ids, lq_tensor *w, lq_tensor *starts,
                    lq_embed_attr attr) {
    return lq_tape_record(tape, &lq_op_embed, &attr, 3, (lq_tensor *[]){ids, w, starts});
}
