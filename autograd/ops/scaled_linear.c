/* scaled_linear: out = x W^T + bias, where of the packed W only the block scales d are trained:
 *   dd_b += sum over the block's elements of G code,   G = dy^T x
 * (through the rounding of d to F16 the gradient passes unchanged). G exists for a few rows of W at
 * a time. W's bytes hold the rounded scales already; the parameter itself is not read here. */
#include "block_scales.h"
#include "gemm.h"
#include "linear_parts.h"
#include "ops.h"
#include "wtile.h"

enum { X, W, BIAS, SCALES, N_IN };
enum { TILE_ROWS = 64 };

static lq_status shape(lq_node *node) {
    const lq_tensor *w = node->in[W], *d = node->in[SCALES];
    LQ_TRY(lq_linear_shape(node, "scaled_linear"));
    if (!lq_has_block_scales(w->fmt))
        return lq_fail(LQ_EUNSUPPORTED, "scaled_linear '%s': %s has no scales to train, wanted "
                       "Q4_0 or Q8_0", w->name ? w->name : "?", w->fmt->label);
    if (d->ndim != 2 || d->dim[0] != w->dim[0] || d->dim[1] * w->fmt->block != w->dim[1])
        return lq_fail(LQ_ESHAPE, "scaled_linear '%s' (%lld,%lld): the scales are (%lld,%lld)",
                       w->name ? w->name : "?", (long long)w->dim[0], (long long)w->dim[1],
                       (long long)d->dim[0], (long long)lq_cols(d));
    return LQ_OK;
}

static unsigned bwd_reads(const lq_node *node) {
    return LQ_IN(W) | (node->in[SCALES]->grad ? LQ_IN(X) : 0u);
}

/* A tile of W; or G's tile and the codes of its rows. */
static size_t scratch(const lq_node *node, bool backward) {
    const size_t tile = lq_wtile_scratch(node->in[W]);
    const size_t sums = (size_t)(2 * TILE_ROWS * node->in[W]->dim[1]) * sizeof(float);
    return backward && sums > tile ? sums : tile;
}

static void forward(const lq_node *node, const lq_run *run) {
    const int64_t N = node->in[X]->dim[0];
    float *const y = lq_data_f32(node->out);
    lq_wtile_forward(node->in[W], lq_data_f32(node->in[X]), y, N, run->scratch);
    lq_linear_bias(node->in[BIAS], y, N);
}

/* dd (D/block) += per block the products of one row of G and its codes. */
static void add_row(float *dd, const float *g, const float *codes, int64_t cols, int block) {
    for (int64_t b = 0; b < cols / block; b++) {
        double sum = 0;
        for (int i = 0; i < block; i++)
            sum += (double)g[b * block + i] * (double)codes[b * block + i];
        dd[b] += (float)sum;
    }
}

static void scales_backward(const lq_node *node, float *tile) {
    const lq_tensor *x = node->in[X], *w = node->in[W], *d = node->in[SCALES];
    const int64_t N = x->dim[0], D = x->dim[1], O = w->dim[0];
    const float *const dy = lq_grad_f32(node->out); /* (N,O) */
    float *const codes = tile + TILE_ROWS * D;
    for (int64_t first = 0; first < O; first += TILE_ROWS) {
        const int64_t rows = O - first < TILE_ROWS ? O - first : TILE_ROWS;
        lq_gemm(tile, D, 0, 1, (lq_mat){dy + first, O, true}, (lq_mat){lq_data_f32(x), D, false},
                rows, D, N);
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < rows; i++) {
            const int64_t row = first + i;
            const char *const packed = (const char *)w->data + lq_format_bytes(w->fmt, row * D);
            lq_block_codes(w->fmt, packed, codes + i * D, D);
            add_row(lq_grad_f32(d) + row * d->dim[1], tile + i * D, codes + i * D, D,
                    w->fmt->block);
        }
    }
}

static void backward(const lq_node *node, const lq_run *run) {
    const lq_tensor *x = node->in[X];
    const float *const dy = lq_grad_f32(node->out);
    if (x->grad) lq_wtile_backward(node->in[W], dy, 1, lq_grad_f32(x), x->dim[0], run->scratch);
    if (node->in[SCALES]->grad) scales_backward(node, run->scratch);
    lq_linear_bias_backward(node->in[BIAS], dy, x->dim[0]);
}

static const lq_kernels on_cpu = {.fwd = forward, .bwd = backward, .scratch = scratch};

const lq_op lq_op_scaled_linear = {
    .name = "scaled_linear", .n_in = N_IN, .bwd_reads = bwd_reads, .shape = shape,
    .kernel = {[LQ_CPU] = &on_cpu, LQ_CUDA_ROW(scaled_linear)},
};

lq_tensor *lq_scaled_linear(lq_tape *tape, lq_tensor *x, lq_tensor *w, lq_tensor *bias,
                            lq_tensor *scales) {
    lq_tensor *const in[N_IN] = {x, w, bias, scales};
    return lq_tape_record(tape, &lq_op_scaled_linear, NULL, N_IN, in);
}
