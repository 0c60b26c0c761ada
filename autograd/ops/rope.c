/* Rotary position embedding. A pair (a, b) of a head at position p turns by theta = p freq_i;
 * backward turns back.
 *
 * Every call makes its own table of cos and sin per row, in double. sin and cos are slow, so an
 * angle is split, p = 32 c + f, and the values of 32 c and f are multiplied as complex numbers:
 * those of f are powers of the first, and c changes every 32 rows of a text. What a row gets
 * depends on its position alone. */
#include "cpu.h"
#include "ops.h"
#include "rowwise.h"

#include <math.h>
#include <string.h>

enum { FINE = 32 };

typedef struct complex_number { double re, im; } complex_number;

/* In scratch; P = n_rot / 2 pairs. */
typedef struct rope_tables {
    complex_number *fine;     /* (FINE,P) */
    double *freq;             /* (P) radians per position */
    float *cos, *sin;         /* (N,P) */
} rope_tables;

/* Lays the tables out in p (NULL: only counts) and returns their bytes. */
static size_t lay_out(rope_tables *tables, char *p, int64_t rows, int64_t pairs) {
    const size_t n = (size_t)pairs;
    const size_t fine = FINE * n * sizeof(complex_number), freq = n * sizeof(double);
    const size_t angles = (size_t)rows * n * sizeof(float);
    if (p) {
        tables->fine = (complex_number *)p;
        tables->freq = (double *)(p + fine);
        tables->cos = (float *)(p + fine + freq);
        tables->sin = (float *)(p + fine + freq + angles);
    }
    return fine + freq + 2 * angles;
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

static complex_number unit(double angle) { return (complex_number){cos(angle), sin(angle)}; }

static complex_number times(complex_number a, complex_number b) {
    return (complex_number){a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}

static void fill_fine(const rope_tables *tables, int64_t pairs) {
    for (int64_t i = 0; i < pairs; i++) {
        const complex_number one = unit(tables->freq[i]);
        tables->fine[i] = (complex_number){1, 0};
        for (int64_t f = 1; f < FINE; f++)
            tables->fine[f * pairs + i] = times(tables->fine[(f - 1) * pairs + i], one);
    }
}

/* Rows [t, end), whose positions have c in common. */
static void fill_run(const lq_node *node, const rope_tables *tables, int64_t t, int64_t end) {
    const lq_rope_attr *const attr = node->attr;
    const int32_t *const pos = lq_data_i32(node->in[1]);
    const int64_t pairs = attr->n_rot / 2;
    const double start = pos[t] & ~(FINE - 1);
    for (int64_t i = 0; i < pairs; i++) {
        const complex_number coarse = unit(start * tables->freq[i]);
        for (int64_t u = t; u < end; u++) {
            const complex_number v =
                times(coarse, tables->fine[(pos[u] & (FINE - 1)) * pairs + i]);
            tables->cos[u * pairs + i] = attr->attn_factor * (float)v.re;
            tables->sin[u * pairs + i] = attr->attn_factor * (float)v.im;
        }
    }
}

static void fill_rows(const lq_node *node, const rope_tables *tables, int64_t t, int64_t stop) {
    const int32_t *const pos = lq_data_i32(node->in[1]);
    while (t < stop) {
        int64_t end = t + 1;
        while (end < stop && (pos[end] ^ pos[t]) < FINE) end++;
        fill_run(node, tables, t, end);
        t = end;
    }
}

/* y = or += the columns of each head that do not turn. */
static void pass_through(float *y, const float *x, const lq_rope_row *row) {
    const int64_t turned = 2 * row->n_pairs, rest = row->head_dim - turned;
    if (rest == 0) return;
    for (int64_t h = 0; h < row->n_heads; h++, x += row->head_dim, y += row->head_dim) {
        if (row->adds) lq_cpu_kernels()->axpy(y + turned, 1, x + turned, rest);
        else memcpy(y + turned, x + turned, (size_t)rest * sizeof *y);
    }
}

/* y = or += every head of x turned by sign theta. A thread's rows get their angles first. */
static void rotate(const lq_node *node, const lq_run *run, float *y, const float *x, float sign,
                   bool adds) {
    const lq_rope_attr *const attr = node->attr;
    const int64_t n = lq_rows(node->out), cols = lq_cols(node->out), pairs = attr->n_rot / 2;
    const lq_rope_row row = {cols / attr->head_dim, attr->head_dim, pairs, attr->neox, adds, sign};
    rope_tables tables = {.fine = NULL};
    lay_out(&tables, run->scratch, n, pairs);
    frequencies(node, tables.freq);
    fill_fine(&tables, pairs);
#pragma omp parallel for schedule(static) if (n * cols >= LQ_PARALLEL_ELEMENTS)
    for (int64_t first = 0; first < n; first += FINE) {
        const int64_t end = lq_min64(n, first + FINE);
        fill_rows(node, &tables, first, end);
        for (int64_t t = first; t < end; t++) {
            lq_cpu_kernels()->rope(y + t * cols, x + t * cols, tables.cos + t * pairs,
                                   tables.sin + t * pairs, &row);
            pass_through(y + t * cols, x + t * cols, &row);
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
