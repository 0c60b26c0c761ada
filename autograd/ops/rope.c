/* Rotary position embedding. A pair (a, b) of a head at position p turns by theta = p freq_i;
 * backward turns back.
 *
 * Every call makes its own table of cos and sin per row, in double. sin and cos are slow, so an
 * angle is split, p = 32 c + f, and the values of 32 c and f are multiplied as complex numbers: f
 * has 32 different values, and c changes every 32 rows of a text. What a row gets depends on its
 * position alone. */
#include "cpu.h"
#include "ops.h"
#include "rowwise.h"

#include <math.h>
#include <string.h>

enum { FINE = 32 };

typedef struct complex_number { double re, im; } complex_number;

/* In scratch; P = n_rot / 2 pairs. */
typedef struct rope_tables {
    double *freq;             /* (P) radians per position */
    complex_number *fine;     /* (FINE,P) */
    complex_number *coarse;   /* (P) of the current c */
    float *cos, *sin;         /* (N,P) */
    bool *have;               /* (FINE) rows of fine that are filled */
} rope_tables;

/* Lays the tables out in p (NULL: only counts) and returns their bytes. */
static size_t lay_out(rope_tables *tables, char *p, int64_t rows, int64_t pairs) {
    const size_t n = (size_t)pairs, row = n * sizeof(complex_number);
    const size_t at[] = {row, FINE * row, n * sizeof(double), (size_t)rows * n * sizeof(float)};
    if (p) {
        tables->coarse = (complex_number *)p;
        tables->fine = (complex_number *)(p + at[0]);
        tables->freq = (double *)(p + at[0] + at[1]);
        tables->cos = (float *)(p + at[0] + at[1] + at[2]);
        tables->sin = (float *)(p + at[0] + at[1] + at[2] + at[3]);
        tables->have = (bool *)(p + at[0] + at[1] + at[2] + 2 * at[3]);
    }
    return at[0] + at[1] + at[2] + 2 * at[3] + FINE * sizeof(bool);
}

static lq_status shape(lq_node *node) {
    const lq_rope_attr *const attr = node->attr;
    const lq_tensor *const x = node->in[0];
    LQ_TRY(lq_check_matrix(x, "x"));
    LQ_TRY(lq_check_vector(node->in[1], "positions", &lq_i32, x->dim[0]));
    if (attr->n_rot < 2 || attr->n_rot % 2 || attr->n_rot > attr->head_dim)
        return lq_fail(LQ_EVALUE, "%d columns of a head of %d turn, wanted an even number up to it",
                       attr->n_rot, attr->head_dim);
    if (x->dim[1] % attr->head_dim)
        return lq_fail(LQ_ESHAPE, "x has %lld columns, wanted a multiple of the head's %d",
                       (long long)x->dim[1], attr->head_dim);
    if (node->in[2]) LQ_TRY(lq_check_vector(node->in[2], "factors", &lq_f32, attr->n_rot / 2));
    lq_set_matrix(node->out, x->dim[0], x->dim[1]);
    return LQ_OK;
}

static unsigned bwd_reads(const lq_node *node) {
    (void)node;
    return LQ_IN(1) | LQ_IN(2);
}

static size_t scratch(const lq_node *node, bool backward) {
    (void)backward;
    const lq_rope_attr *const attr = node->attr;
    return lay_out(NULL, NULL, lq_rows(node->out), attr->n_rot / 2);
}

static void frequencies(const lq_node *node, double *freq) {
    const lq_rope_attr *const attr = node->attr;
    const float *const factors = node->in[2] ? lq_data_f32(node->in[2]) : NULL;
    for (int i = 0; i < attr->n_rot / 2; i++) {
        const double power = pow((double)attr->freq_base, -2.0 * i / attr->n_rot);
        freq[i] = (double)attr->freq_scale * power / (factors ? (double)factors[i] : 1);
    }
}

static void turn(complex_number *out, const double *freq, double position, int64_t pairs) {
    for (int64_t i = 0; i < pairs; i++)
        out[i] = (complex_number){cos(position * freq[i]), sin(position * freq[i])};
}

static void fill_tables(const lq_node *node, const rope_tables *tables) {
    const lq_rope_attr *const attr = node->attr;
    const int32_t *const pos = lq_data_i32(node->in[1]);
    const int64_t pairs = attr->n_rot / 2, n = lq_rows(node->out);
    frequencies(node, tables->freq);
    memset(tables->have, 0, FINE * sizeof *tables->have);
    for (int64_t t = 0; t < n; t++) {
        const int32_t f = pos[t] & (FINE - 1), c = pos[t] - f;
        complex_number *const fine = tables->fine + f * pairs;
        if (!tables->have[f]) turn(fine, tables->freq, f, pairs);
        tables->have[f] = true;
        if (t == 0 || c != (pos[t - 1] & ~(FINE - 1))) turn(tables->coarse, tables->freq, c, pairs);
        float *const cos_row = tables->cos + t * pairs, *const sin_row = tables->sin + t * pairs;
        for (int64_t i = 0; i < pairs; i++) {
            const complex_number a = tables->coarse[i], b = fine[i];
            cos_row[i] = attr->attn_factor * (float)(a.re * b.re - a.im * b.im);
            sin_row[i] = attr->attn_factor * (float)(a.re * b.im + a.im * b.re);
        }
    }
}

/* y = or += every head of x turned by sign theta; columns past n_rot pass through. */
static void rotate(const lq_node *node, const lq_run *run, float *y, const float *x, float sign,
                   bool adds) {
    const lq_rope_attr *const attr = node->attr;
    const lq_cpu *const cpu = lq_cpu_kernels();
    const int64_t n = lq_rows(node->out), cols = lq_cols(node->out);
    const int64_t d = attr->head_dim, n_rot = attr->n_rot, pairs = n_rot / 2;
    rope_tables tables;
    lay_out(&tables, run->scratch, n, pairs);
    fill_tables(node, &tables);
#pragma omp parallel for schedule(static) if (n * cols >= LQ_PARALLEL_ELEMENTS)
    for (int64_t t = 0; t < n; t++) {
        for (int64_t at = t * cols; at < (t + 1) * cols; at += d) {
            cpu->rope(y + at, x + at, tables.cos + t * pairs, tables.sin + t * pairs, pairs,
                      attr->neox, sign, adds);
            if (n_rot == d) continue;
            if (adds) cpu->axpy(y + at + n_rot, 1, x + at + n_rot, d - n_rot);
            else memcpy(y + at + n_rot, x + at + n_rot, (size_t)(d - n_rot) * sizeof *y);
        }
    }
}

static void forward(const lq_node *node, const lq_run *run) {
    rotate(node, run, lq_data_f32(node->out), lq_data_f32(node->in[0]), 1, false);
}

static void backward(const lq_node *node, const lq_run *run) {
    rotate(node, run, lq_grad_f32(node->in[0]), lq_grad_f32(node->out), -1,
           !(node->fresh & LQ_IN(0)));
}

static const lq_kernels on_cpu = {
    .fwd = forward, .bwd = backward, .scratch = scratch, .writes = LQ_IN(0),
};

const lq_op lq_op_rope = {
    .name = "rope",
    .n_in = 3,
    .attr_bytes = sizeof(lq_rope_attr),
    .nograd = LQ_IN(1) | LQ_IN(2),
    .bwd_reads = bwd_reads,
    .shape = shape,
    .kernel = {[LQ_CPU] = &on_cpu, LQ_CUDA_ROW(rope)},
};

lq_tensor *lq_rope(lq_tape *tape, lq_tensor *x, lq_tensor *pos, lq_tensor *factors,
                   lq_rope_attr attr) {
    return lq_tape_record(tape, &lq_op_rope, &attr, 3, (lq_tensor *[]){x, pos, factors});
}
