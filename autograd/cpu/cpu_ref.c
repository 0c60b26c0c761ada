/* The row kernels in plain C: the definition of what every other table computes.
 *
 * sigmoid comes from exp(-|z|), so neither tail overflows or cancels. The tanh form of GELU is
 * x (1 + tanh u) / 2 with u = sqrt(2/pi) (x + 0.044715 x^3), which is x sigmoid(2u). */
#include "cpu.h"

#include <math.h>

static float dot(const float *a, const float *b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)a[i] * b[i];
    return (float)sum;
}

static void axpy(float *y, float alpha, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] += alpha * x[i];
}

static void scale(float *y, float alpha, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] *= alpha;
}

static void add(float *y, const float *a, const float *b, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = a[i] + b[i];
}

static float max(const float *x, int64_t n) {
    float m = -INFINITY;
    for (int64_t i = 0; i < n; i++) m = x[i] > m ? x[i] : m;
    return m;
}

static double sum_squares(const float *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i] * x[i];
    return sum;
}

static double dot3(const float *a, const float *b, const float *c, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)a[i] * b[i] * c[i];
    return sum;
}

static double exp_sum(float *y, const float *x, float shift, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        y[i] = expf(x[i] - shift);
        sum += y[i];
    }
    return sum;
}

static void softmax(const lq_scores *s, float *max, float *sum, float *shrink) {
    for (int64_t i = 0; i < s->n; i++) {
        float *const column = s->s + i;
        float most = max[i], total = 0;
        for (int64_t k = s->begin[i]; k < s->end[i]; k++)
            most = fmaxf(most, column[k * LQ_SCORE_QUERIES]);
        shrink[i] = most == max[i] ? 1 : expf(max[i] - most);
        for (int64_t k = 0; k < s->m; k++) {
            float *const p = &column[k * LQ_SCORE_QUERIES];
            *p = k >= s->begin[i] && k < s->end[i] ? expf(*p - most) : 0;
            total += *p;
        }
        max[i] = most;
        sum[i] = sum[i] * shrink[i] + total;
    }
}

static void softmax_bwd(const lq_scores *s, float *dp, const float *lse, const float *correction,
                        float scale, float inverse_cap) {
    for (int64_t k = 0; k < s->m; k++) {
        for (int64_t i = 0; i < s->n; i++) {
            const int64_t at = k * LQ_SCORE_QUERIES + i;
            const bool visible = k >= s->begin[i] && k < s->end[i];
            const float r = s->s[at] * inverse_cap, p = visible ? expf(s->s[at] - lse[i]) : 0;
            dp[at] = visible ? p * (dp[at] - correction[i]) * scale * (1 - r * r) : 0;
            s->s[at] = p;
        }
    }
}

static void rmsnorm(float *y, const float *x, const float *w, float inv_rms, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = x[i] * inv_rms * w[i];
}

static void rmsnorm_bwd(float *dx, const float *x, const float *w, const float *dy, float inv_rms,
                        float coefficient, int64_t n) {
    for (int64_t i = 0; i < n; i++) dx[i] += inv_rms * (dy[i] * w[i]) + coefficient * x[i];
}

static float sigmoid(float z) {
    const float e = expf(-fabsf(z));
    return (z >= 0 ? 1 : e) / (1 + e);
}

static void silu_mul(float *y, const float *gate, const float *up, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = gate[i] * sigmoid(gate[i]) * up[i];
}

/* With s = sigmoid(g): d(g s)/dg = s + g s (1 - s). */
static void silu_mul_bwd(float *dgate, float *dup, const float *gate, const float *up,
                         const float *dy, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const float g = gate[i], s = sigmoid(g);
        if (dgate) dgate[i] += dy[i] * up[i] * (s + g * s * sigmoid(-g));
        if (dup) dup[i] += dy[i] * (g * s);
    }
}

static const float gelu_k = 1.5957691216057308f;              /* 2 sqrt(2/pi) */
static const float gelu_k3 = 1.5957691216057308f * 0.044715f;

static void gelu_mul(float *y, const float *gate, const float *up, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const float g = gate[i];
        y[i] = g * sigmoid(g * (gelu_k + gelu_k3 * g * g)) * up[i];
    }
}

/* With s = sigmoid(2u): d(g s)/dg = s + g s (1 - s) d(2u)/dg. */
static void gelu_mul_bwd(float *dgate, float *dup, const float *gate, const float *up,
                         const float *dy, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const float g = gate[i], z = g * (gelu_k + gelu_k3 * g * g), s = sigmoid(z);
        const float slope = gelu_k + 3 * gelu_k3 * g * g;
        if (dgate) dgate[i] += dy[i] * up[i] * (s + g * s * sigmoid(-z) * slope);
        if (dup) dup[i] += dy[i] * (g * s);
    }
}

static void tanh_cap(float *y, const float *x, float cap, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = cap * tanhf(x[i] / cap);
}

static void put(float *y, float value, bool adds) { *y = adds ? *y + value : value; }

static void rope(float *y, const float *x, const float *cos, const float *sin,
                 const lq_rope_row *row) {
    const int64_t step = row->neox ? 1 : 2, other = row->neox ? row->n_pairs : 1;
    for (int64_t h = 0; h < row->n_heads; h++, x += row->head_dim, y += row->head_dim)
        for (int64_t i = 0; i < row->n_pairs; i++) {
            const float a = x[i * step], b = x[i * step + other];
            const float c = cos[i], s = row->sign * sin[i];
            put(&y[i * step], a * c - b * s, row->adds);
            put(&y[i * step + other], a * s + b * c, row->adds);
        }
}

const lq_cpu lq_cpu_ref = {
    .name = "ref",
    .level = LQ_LEVEL_REF,
    .dot = dot,
    .axpy = axpy,
    .scale = scale,
    .add = add,
    .max = max,
    .sum_squares = sum_squares,
    .dot3 = dot3,
    .exp_sum = exp_sum,
    .softmax = softmax,
    .softmax_bwd = softmax_bwd,
    .rmsnorm = rmsnorm,
    .rmsnorm_bwd = rmsnorm_bwd,
    .silu_mul = silu_mul,
    .silu_mul_bwd = silu_mul_bwd,
    .gelu_mul = gelu_mul,
    .gelu_mul_bwd = gelu_mul_bwd,
    .tanh_cap = tanh_cap,
    .rope = rope,
};
