/* Learning-rate schedules: a linear warm-up, then one row's rule on the share of the remaining
 * steps done. */
#include "optim.h"

#include <math.h>
#include <strings.h>

static double constant(double progress, double min_ratio) {
    (void)progress, (void)min_ratio;
    return 1;
}

static double linear(double progress, double min_ratio) {
    (void)min_ratio;
    return 1 - progress;
}

static double cosine(double progress, double min_ratio) {
    return min_ratio + (1 - min_ratio) * 0.5 * (1 + cos(3.14159265358979323846 * progress));
}

static const lq_schedule constant_row = {"constant", constant};
static const lq_schedule linear_row = {"linear", linear};
static const lq_schedule cosine_row = {"cosine", cosine};

const lq_schedule *const lq_schedules[] = {&constant_row, &linear_row, &cosine_row, NULL};

/* Hugging Face's other spellings of what warm-up and min_ratio already say here. */
static const struct { const char *alias, *name; } aliases[] = {
    {"constant_with_warmup", "constant"}, {"cosine_with_min_lr", "cosine"},
};

const lq_schedule *lq_schedule_by_name(const char *name) {
    for (int i = 0; i < LQ_ARRAY_LEN(aliases); i++)
        if (strcasecmp(aliases[i].alias, name) == 0) name = aliases[i].name;
    for (int i = 0; lq_schedules[i]; i++)
        if (strcasecmp(lq_schedules[i]->name, name) == 0) return lq_schedules[i];
    return NULL;
}

double lq_learning_rate(const lq_schedule *s, double peak, double min_ratio, int64_t step,
                        int64_t warmup, int64_t total) {
    if (step < warmup) return peak * (double)(step + 1) / (double)warmup;
    const int64_t left = total - warmup > 1 ? total - warmup : 1;
    const double progress = (double)(step - warmup) / (double)left;
    return peak * s->factor(progress < 1 ? progress : 1, min_ratio);
}
