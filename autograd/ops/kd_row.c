/* See kd_row.h. */
#include "kd_row.h"

#include "cpu.h"
#include "head.h"

#include <math.h>

/* ---- softened distributions ------------------------------------------------------------------ */

/* Over x: exp((x_v - max) * inv_t) / sum. */
typedef struct soft { float max, inv_t; double sum; } soft;

/* exp((x - max) * inv_t), not divided; returns its sum. n <= LQ_HEAD_PIECE. */
static double soft_exp(float *y, const float *x, const soft *s, int64_t n) {
    const lq_cpu *cpu = lq_cpu_kernels();
    if (s->inv_t == 1) return cpu->exp_sum(y, x, s->max, n);
    for (int64_t j = 0; j < n; j++) y[j] = (x[j] - s->max) * s->inv_t;
    return cpu->exp_sum(y, y, 0, n);
}

static int64_t piece(int64_t v, int64_t V) { return V - v < LQ_HEAD_PIECE ? V - v : LQ_HEAD_PIECE; }

static soft soften(const float *x, float max, float inv_t, int64_t V) {
    soft s = {max, inv_t, 0};
    float y[LQ_HEAD_PIECE];
    for (int64_t v = 0; v < V; v += LQ_HEAD_PIECE) s.sum += soft_exp(y, x + v, &s, piece(v, V));
    return s;
}

/* log of the share of a logit x. */
static double log_share(const soft *s, float x) {
    return ((double)x - (double)s->max) * (double)s->inv_t - log(s->sum);
}

/* One row at work: the model's logits, its softened and its plain distribution. */
typedef struct student {
    float *z;            /* (V) */
    int64_t V;
    soft q, plain;
    float cap;
    float ce_weight;     /* factor (1 - alpha) */
    float kd_weight;     /* factor alpha T */
} student;

/* ---- a teacher known in full ----------------------------------------------------------------- */

/* r_v is (t_v - z_v) / T + offset. */
static double ratio_offset(const soft *p, const soft *q) {
    return ((double)q->max - (double)p->max) * (double)q->inv_t + log(q->sum) - log(p->sum);
}

static double full_divergence(const student *s, const float *t, const soft *p, bool reverse) {
    const double offset = ratio_offset(p, &s->q), inv_t = (double)s->q.inv_t;
    double sum = 0;
    for (int64_t v = 0; v < s->V; v += LQ_HEAD_PIECE) {
        float y[LQ_HEAD_PIECE];
        const int64_t n = piece(v, s->V);
        if (reverse) soft_exp(y, s->z + v, &s->q, n);
        else soft_exp(y, t + v, p, n);
        for (int64_t j = 0; j < n; j++)
            sum += (double)y[j] *
                   (((double)t[v + j] - (double)s->z[v + j]) * inv_t + offset);
    }
    return reverse ? -sum / s->q.sum : sum / p->sum;
}

/* k = dKL/dlogit * T for n tokens, from their q and logits. */
static void full_slopes(float *k, const float *q, const float *z, const float *t, const soft *p,
                        const soft *of_q, double kl, bool reverse, int64_t n) {
    if (reverse) {
        const double offset = ratio_offset(p, of_q) + kl, inv_t = (double)of_q->inv_t;
        for (int64_t j = 0; j < n; j++)
            k[j] = (float)-((double)q[j] * (((double)t[j] - (double)z[j]) * inv_t + offset));
        return;
    }
    soft_exp(k, t, p, n);
    for (int64_t j = 0; j < n; j++) k[j] = q[j] - k[j] / (float)p->sum;
}

static void full_gradient(const student *s, const float *t, const soft *p, double kl,
                          bool reverse) {
    const float over_plain = s->ce_weight / (float)s->plain.sum, over_q = (float)s->q.sum;
    for (int64_t v = 0; v < s->V; v += LQ_HEAD_PIECE) {
        float e[LQ_HEAD_PIECE], q[LQ_HEAD_PIECE], k[LQ_HEAD_PIECE];
        float *const z = s->z + v;
        const int64_t n = piece(v, s->V);
        soft_exp(e, z, &s->plain, n);
        soft_exp(q, z, &s->q, n);
        for (int64_t j = 0; j < n; j++) q[j] /= over_q;
        full_slopes(k, q, z, t + v, p, &s->q, kl, reverse, n);
        for (int64_t j = 0; j < n; j++)
            z[j] = (over_plain * e[j] + s->kd_weight * k[j]) * lq_head_slope(z[j], s->cap);
    }
}

/* ---- a teacher known by its top tokens ------------------------------------------------------- */

typedef struct top {
    const int32_t *id;    /* (K) */
    const float *log_p;   /* (K+1): of the tokens, then of all others together */
    float *z;             /* (K): the model's logits of the tokens */
    int64_t K;
    soft rest;            /* the model's distribution over the others */
    double log_rest;      /* log of q's share of them */
} top;

/* Takes the top tokens' logits out of s->z, so that sums over it are over the others. */
static void take_out(student *s, top *t) {
    double sum = 0;
    for (int64_t k = 0; k < t->K; k++) {
        t->z[k] = s->z[t->id[k]];
        s->z[t->id[k]] = -INFINITY;
        sum += exp(((double)t->z[k] - (double)s->q.max) * (double)s->q.inv_t);
    }
    t->rest = soften(s->z, lq_cpu_kernels()->max(s->z, s->V), s->q.inv_t, s->V);
    const double shift = ((double)t->rest.max - (double)s->q.max) * (double)s->q.inv_t;
    s->q.sum = sum + exp(shift) * t->rest.sum;
    t->log_rest = shift + log(t->rest.sum) - log(s->q.sum);
}

static double bucket_divergence(double log_p, double log_q, bool reverse) {
    return reverse ? exp(log_q) * (log_q - log_p) : exp(log_p) * (log_p - log_q);
}

static double top_divergence(const student *s, const top *t, bool reverse) {
    double kl = bucket_divergence((double)t->log_p[t->K], t->log_rest, reverse);
    for (int64_t k = 0; k < t->K; k++)
        kl += bucket_divergence((double)t->log_p[k], log_share(&s->q, t->z[k]), reverse);
    return kl;
}

/* dKL/dlogit * T of a bucket of the given shares, taken as one token. */
static double bucket_slope(double log_p, double log_q, double kl, bool reverse) {
    return reverse ? -exp(log_q) * (log_p - log_q + kl) : exp(log_q) - exp(log_p);
}

static void top_gradient(const student *s, const top *t, double kl, bool reverse) {
    const float over_plain = s->ce_weight / (float)s->plain.sum;
    const double rest = bucket_slope((double)t->log_p[t->K], t->log_rest, kl, reverse);
    const float over_rest = s->kd_weight * (float)(rest / t->rest.sum);
    for (int64_t v = 0; v < s->V; v += LQ_HEAD_PIECE) {
        float e[LQ_HEAD_PIECE], q[LQ_HEAD_PIECE];
        float *const z = s->z + v;
        const int64_t n = piece(v, s->V);
        soft_exp(e, z, &s->plain, n);
        soft_exp(q, z, &t->rest, n);
        for (int64_t j = 0; j < n; j++)
            z[j] = (over_plain * e[j] + over_rest * q[j]) * lq_head_slope(z[j], s->cap);
    }
    for (int64_t k = 0; k < t->K; k++) {
        const double log_q = log_share(&s->q, t->z[k]);
        const double slope = bucket_slope((double)t->log_p[k], log_q, kl, reverse);
        const float e = (float)exp((double)t->z[k] - (double)s->plain.max);
        s->z[t->id[k]] = (over_plain * e + s->kd_weight * (float)slope) *
                         lq_head_slope(t->z[k], s->cap);
    }
}

/* ---- a row ----------------------------------------------------------------------------------- */

/* The divergence; with a factor, the logits become the gradient but for the label's own part. */
static double distil_full(const lq_kd_row *row, student *s, bool reverse, bool gradient) {
    const float *const t = row->teacher;
    const soft p = soften(t, lq_cpu_kernels()->max(t, s->V), s->q.inv_t, s->V);
    const double kl = full_divergence(s, t, &p, reverse);
    if (gradient) full_gradient(s, t, &p, kl, reverse);
    return kl;
}

static double distil_top(const lq_kd_row *row, student *s, bool reverse, bool gradient) {
    top t = {.id = row->top_id, .log_p = row->top_log_p, .z = row->top_room, .K = row->top_k};
    take_out(s, &t);
    const double kl = top_divergence(s, &t, reverse);
    if (gradient) top_gradient(s, &t, kl, reverse);
    return kl;
}

/* No other logit is higher, and none before it is as high. */
static bool is_top(const float *logits, int32_t label, float max) {
    if (logits[label] < max) return false;
    for (int32_t v = 0; v < label; v++)
        if (logits[v] == max) return false;
    return true;
}

void lq_kd_take_row(const lq_kd_head_attr *attr, const lq_kd_row *row, float *out,
                    const float *factor) {
    const float T = attr->temperature, f = factor ? *factor : 0;
    student s = {.z = row->logits, .V = row->V, .cap = attr->softcap,
                 .ce_weight = f * (1 - attr->alpha), .kd_weight = f * attr->alpha * T};
    const float own = s.z[row->label], max = lq_cpu_kernels()->max(s.z, s.V);
    s.plain = soften(s.z, max, 1, s.V);
    s.q = T == 1 ? s.plain : soften(s.z, max, 1 / T, s.V);
    const double nll = log(s.plain.sum) + (double)max - (double)own;
    const bool label_is_top = out && is_top(s.z, row->label, max);
    const double kl =
        (row->top_k ? distil_top : distil_full)(row, &s, attr->reverse, factor != NULL);
    if (factor) s.z[row->label] -= s.ce_weight * lq_head_slope(own, s.cap);
    if (!out) return;
    const double alpha = (double)attr->alpha, t2 = (double)T * (double)T;
    out[0] = (float)((1 - alpha) * nll + alpha * t2 * kl);
    out[1] = label_is_top;
    out[2] = (float)nll;
    out[3] = (float)kl;
}
