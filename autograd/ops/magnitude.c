/* See magnitude.h. */
#include "magnitude.h"

enum { COLUMNS = 64 };

float lq_magnitude_factor(const lq_magnitude *g, int64_t o) {
    const float norm = lq_data_f32(g->norm)[o];
    return norm > 0 ? lq_data_f32(g->m)[o] / norm : 0;
}

void lq_magnitude_scale(float *out, const lq_magnitude *g, const float *x, int64_t n) {
    const int64_t O = g->m->dim[0];
#pragma omp parallel for schedule(static)
    for (int64_t first = 0; first < O; first += COLUMNS) {
        const int64_t cols = lq_min64(COLUMNS, O - first);
        float factor[COLUMNS]; /* a division each: once, not for every row of x */
        for (int64_t j = 0; j < cols; j++) factor[j] = lq_magnitude_factor(g, first + j);
        for (int64_t at = first; at < n * O; at += O)
            for (int64_t j = 0; j < cols; j++) out[at + j] = factor[j] * x[at + j];
    }
}

void lq_magnitude_backward(const lq_magnitude *g, const lq_tensor *bias, const float *y,
                           const float *dy, int64_t n) {
    const int64_t O = g->m->dim[0];
    const float *const m = lq_data_f32(g->m);
    float *const dm = lq_grad_f32(g->m);
    if (!dm) return;
#pragma omp parallel for schedule(static)
    for (int64_t o = 0; o < O; o++) {
        const double shift = bias ? (double)lq_data_f32(bias)[o] : 0;
        double sum = 0;
        for (int64_t i = 0; i < n; i++)
            sum += (double)dy[i * O + o] * ((double)y[i * O + o] - shift);
        if (m[o] != 0) dm[o] += (float)(sum / (double)m[o]);
    }
}
