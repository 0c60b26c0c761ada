/* See ref.h. */
#include "ref.h"

#include <math.h>

void ref_embed(double *out, const int32_t *ids, const double *w, double scale, int64_t n,
               int64_t d) {
    for (int64_t t = 0; t < n; t++)
        for (int64_t j = 0; j < d; j++) out[t * d + j] = scale * w[ids[t] * d + j];
}

void ref_rmsnorm(double *out, const double *x, const double *w, double eps, int64_t n, int64_t cols,
                 int64_t d) {
    for (int64_t at = 0; at < n * cols; at += d) {
        double sum = 0;
        for (int64_t j = 0; j < d; j++) sum += x[at + j] * x[at + j];
        for (int64_t j = 0; j < d; j++)
            out[at + j] = x[at + j] / sqrt(sum / (double)d + eps) * w[j];
    }
}

void ref_layernorm(double *out, const double *x, const double *w, const double *bias, double eps,
                   int64_t n, int64_t d) {
    for (int64_t at = 0; at < n * d; at += d) {
        double mean = 0, variance = 0;
        for (int64_t j = 0; j < d; j++) mean += x[at + j] / (double)d;
        for (int64_t j = 0; j < d; j++) variance += pow(x[at + j] - mean, 2) / (double)d;
        for (int64_t j = 0; j < d; j++)
            out[at + j] = (x[at + j] - mean) / sqrt(variance + eps) * w[j] + (bias ? bias[j] : 0);
    }
}

static double ref_dot(const double *a, const double *b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

void ref_linear(double *out, const double *x, const double *w, const double *bias, int64_t n,
                int64_t d, int64_t o) {
    for (int64_t t = 0; t < n; t++)
        for (int64_t i = 0; i < o; i++)
            out[t * o + i] = ref_dot(x + t * d, w + i * d, d) + (bias ? bias[i] : 0);
}

void ref_rope(double *out, const double *x, const int32_t *pos, const double *factors,
              lq_rope_attr attr, int64_t n, int64_t cols) {
    for (int64_t at = 0; at < n * cols; at++) out[at] = x[at];
    for (int64_t head = 0; head < n * cols; head += attr.head_dim) {
        for (int i = 0; i < attr.n_rot / 2; i++) {
            const double theta = (double)pos[head / cols] * (double)attr.freq_scale *
                                 pow((double)attr.freq_base, -2.0 * i / attr.n_rot) /
                                 (factors ? factors[i] : 1);
            const double c = cos(theta) * (double)attr.attn_factor;
            const double s = sin(theta) * (double)attr.attn_factor;
            const int64_t a = head + (attr.neox ? i : 2 * i);
            const int64_t b = head + (attr.neox ? i + attr.n_rot / 2 : 2 * i + 1);
            out[a] = x[a] * c - x[b] * s;
            out[b] = x[a] * s + x[b] * c;
        }
    }
}

static double ref_cap(double x, double cap) { return cap > 0 ? cap * tanh(x / cap) : x; }

/* One row and head: o (d), keys and values from row `first` to row t. */
static void ref_attend(double *o, const double *q, const double *k, const double *v, int64_t first,
                       int64_t t, int64_t stride, double slope, lq_attention_attr attr) {
    const int64_t d = attr.head_dim;
    double sum = 0;
    for (int64_t j = 0; j < d; j++) o[j] = 0;
    for (int64_t s = first; s <= t; s++) {
        const double p = exp(ref_cap(ref_dot(q, k + s * stride, d) * (double)attr.scale,
                                     (double)attr.softcap) + slope * (double)(s - t));
        sum += p;
        for (int64_t j = 0; j < d; j++) o[j] += p * v[s * stride + j];
    }
    for (int64_t j = 0; j < d; j++) o[j] /= sum;
}

/* Press et al.'s own recipe. */
static double ref_slope(lq_attention_attr attr, int64_t h) {
    int64_t power = 1;
    if (!(attr.alibi > 0)) return 0;
    while (2 * power <= attr.n_head) power *= 2;
    const double start = pow(2, -(double)attr.alibi / (double)power);
    return h < power ? pow(start, (double)h + 1) : pow(sqrt(start), 2 * (double)(h - power) + 1);
}

void ref_attention(double *out, const double *q, const double *k, const double *v,
                   const int32_t *starts, lq_attention_attr attr, int64_t n) {
    const int64_t d = attr.head_dim, stride = attr.n_head_kv * d;
    const int64_t group = attr.n_head / attr.n_head_kv;
    for (int64_t t = 0; t < n; t++) {
        int64_t first = starts[t];
        if (attr.window && t - attr.window + 1 > first) first = t - attr.window + 1;
        for (int64_t h = 0; h < attr.n_head; h++) {
            const int64_t at = (t * attr.n_head + h) * d, kv = h / group * d;
            ref_attend(out + at, q + at, k + kv, v + kv, first, t, stride, ref_slope(attr, h),
                       attr);
        }
    }
}

void ref_glu(double *out, const double *gate, const double *up, lq_act act, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const double g = gate[i];
        const double silu = g / (1 + exp(-g));
        const double gelu = 0.5 * g * (1 + tanh(sqrt(2 / acos(-1.0)) * (g + 0.044715 * g * g * g)));
        const double exact = 0.5 * g * (1 + erf(g / sqrt(2)));
        out[i] = (act == LQ_SILU ? silu : act == LQ_GELU ? exact : gelu) * (up ? up[i] : 1);
    }
}

void ref_softcap(double *out, const double *x, double cap, int64_t n) {
    for (int64_t i = 0; i < n; i++) out[i] = ref_cap(x[i], cap);
}

void ref_ce_head(double *out, const double *h, const double *w, const int32_t *labels,
                 double softcap, int64_t n, int64_t d, int64_t vocab) {
    for (int64_t t = 0; t < n; t++) {
        out[2 * t] = out[2 * t + 1] = 0;
        if (labels[t] < 0) continue;
        const double own = ref_cap(ref_dot(h + t * d, w + labels[t] * d, d), softcap);
        double sum = 0;
        int above = 0;
        for (int64_t i = 0; i < vocab; i++) {
            const double logit = ref_cap(ref_dot(h + t * d, w + i * d, d), softcap);
            sum += exp(logit);
            above += logit > own;
        }
        out[2 * t] = log(sum) - own;
        out[2 * t + 1] = above == 0;
    }
}

/* ---- kd_head --------------------------------------------------------------------------------- */

enum { REF_MAX_VOCAB = 640 };

static void ref_softmax(double *p, const double *logits, double temperature, int64_t vocab) {
    double sum = 0;
    for (int64_t v = 0; v < vocab; v++) sum += p[v] = exp(logits[v] / temperature);
    for (int64_t v = 0; v < vocab; v++) p[v] /= sum;
}

static void ref_logits(double *z, const double *h, const double *w, double cap, int64_t d,
                       int64_t vocab) {
    for (int64_t v = 0; v < vocab; v++) z[v] = ref_cap(ref_dot(h, w + v * d, d), cap);
}

static double ref_kl(const double *p, const double *q, bool reverse, int64_t n) {
    double kl = 0;
    for (int64_t v = 0; v < n; v++)
        kl += reverse ? q[v] * log(q[v] / p[v]) : p[v] * log(p[v] / q[v]);
    return kl;
}

static void ref_kd_row(double *out, const double *z, int32_t label, double kl,
                       const lq_kd_head_attr *attr, int64_t vocab) {
    double q[REF_MAX_VOCAB];
    const double alpha = (double)attr->alpha, t = (double)attr->temperature;
    int above = 0;
    ref_softmax(q, z, 1, vocab);
    for (int64_t v = 0; v < vocab; v++) above += z[v] > z[label];
    out[2] = -log(q[label]);
    out[3] = kl;
    out[0] = (1 - alpha) * out[2] + alpha * t * t * kl;
    out[1] = above == 0;
}

void ref_kd_head(double *out, const double *h, const double *w, const int32_t *labels,
                 const double *th, const double *tw, lq_kd_head_attr attr, int64_t n, int64_t d,
                 int64_t dt, int64_t vocab) {
    for (int64_t t = 0; t < n; t++, out += LQ_KD_COLS) {
        double z[REF_MAX_VOCAB], y[REF_MAX_VOCAB], q[REF_MAX_VOCAB], p[REF_MAX_VOCAB];
        out[0] = out[1] = out[2] = out[3] = 0;
        if (labels[t] < 0) continue;
        ref_logits(z, h + t * d, w, (double)attr.softcap, d, vocab);
        ref_logits(y, th + t * dt, tw, (double)attr.teacher_softcap, dt, vocab);
        ref_softmax(q, z, (double)attr.temperature, vocab);
        ref_softmax(p, y, (double)attr.temperature, vocab);
        ref_kd_row(out, z, labels[t], ref_kl(p, q, attr.reverse, vocab), &attr, vocab);
    }
}

void ref_top_buckets(const double *logits, double temperature, int64_t vocab, int64_t K,
                     int32_t *id, double *p) {
    double all[REF_MAX_VOCAB];
    ref_softmax(all, logits, temperature, vocab);
    p[K] = 1;
    for (int64_t k = 0; k < K; k++) {
        int32_t best = -1;
        for (int32_t v = 0; v < vocab; v++)
            if (all[v] >= 0 && (best < 0 || all[v] > all[best])) best = v;
        id[k] = best;
        p[k] = all[best];
        all[best] = -1;
    }
    p[K] = 0;
    for (int64_t v = 0; v < vocab; v++) p[K] += all[v] < 0 ? 0 : all[v];
}

void ref_kd_head_top(double *out, const double *h, const double *w, const int32_t *labels,
                     const int32_t *id, const double *log_p, lq_kd_head_attr attr, int64_t n,
                     int64_t d, int64_t vocab) {
    const int64_t K = attr.top_k;
    for (int64_t t = 0; t < n; t++, out += LQ_KD_COLS, id += K, log_p += K + 1) {
        double z[REF_MAX_VOCAB], all[REF_MAX_VOCAB], q[REF_MAX_VOCAB], p[REF_MAX_VOCAB];
        out[0] = out[1] = out[2] = out[3] = 0;
        if (labels[t] < 0) continue;
        ref_logits(z, h + t * d, w, (double)attr.softcap, d, vocab);
        ref_softmax(all, z, (double)attr.temperature, vocab);
        for (int64_t k = 0; k < K; k++) {
            q[k] = all[id[k]];
            p[k] = exp(log_p[k]);
            all[id[k]] = 0;
        }
        q[K] = 0;
        p[K] = exp(log_p[K]);
        for (int64_t v = 0; v < vocab; v++) q[K] += all[v];
        ref_kd_row(out, z, labels[t], ref_kl(p, q, attr.reverse, K + 1), &attr, vocab);
    }
}
