/* See watch.h. */
#include "watch.h"

#include "codes.h"

#include <math.h>

void lq_watch_before(const lq_watch_scratch *s, const lq_format *fmt, const void *out, int64_t n) {
    const lq_code_layout *layout = lq_codes_of(fmt);
    if (layout) lq_codes_read(layout, fmt, out, s->before, n);
}

void lq_watch_after(const lq_watch_scratch *s, const lq_format *fmt, const void *out,
                    const float *x, int64_t n, lq_watch_sums *sums) {
    const lq_code_layout *layout = lq_codes_of(fmt);
    fmt->dequant(out, s->value, n);
    for (int64_t i = 0; i < n; i++) {
        const double value = (double)x[i], error = (double)s->value[i] - value;
        sums->error += error * error;
        sums->norm += value * value;
    }
    if (!layout) return;
    lq_codes_read(layout, fmt, out, s->after, n);
    sums->codes += n;
    for (int64_t i = 0; i < n; i++) {
        sums->changed += s->after[i] != s->before[i];
        sums->saturated += s->after[i] == layout->end[0] || s->after[i] == layout->end[1];
    }
}

void lq_watch_add(lq_watch_sums *sums, const lq_watch_sums *more) {
    sums->codes += more->codes;
    sums->changed += more->changed;
    sums->saturated += more->saturated;
    sums->error += more->error;
    sums->norm += more->norm;
}

static double share(int64_t part, int64_t whole) {
    return whole ? (double)part / (double)whole : NAN;
}

double lq_watch_changed(const lq_watch_sums *s) { return share(s->changed, s->codes); }
double lq_watch_saturated(const lq_watch_sums *s) { return share(s->saturated, s->codes); }
double lq_watch_distance(const lq_watch_sums *s) {
    return s->norm > 0 ? sqrt(s->error / s->norm) : NAN;
}
