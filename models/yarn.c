/* YaRN (Peng et al. 2023, arXiv 2309.00071): fast rotary pairs keep their frequency, slow ones are
 * divided by the scaling factor s, those between are mixed. As factors that frequencies are divided
 * by, with r from 1 (fast) to 0 (slow): 1 / ((1 - r) / s + r). */
#include "model_parts.h"

#include <math.h>

/* The pair that turns `turns` times within the original context. */
static double pair_of(const lq_hparams *hp, double turns) {
    const double pi = 3.14159265358979323846;
    return (double)hp->n_rot * log((double)hp->n_ctx_orig / (turns * 2 * pi)) /
           (2 * log((double)hp->rope_freq_base));
}

lq_status lq_yarn_factors(float **out, const lq_hparams *hp) {
    *out = NULL;
    if (!(hp->yarn_factor > 0)) return LQ_OK;
    float *factors = lq_alloc_array(hp->n_rot / 2, sizeof *factors);
    if (!factors) return LQ_EMEM;
    const double first = fmax(0, floor(pair_of(hp, (double)hp->yarn_beta_fast)));
    const double last = fmin((double)hp->n_rot - 1, ceil(pair_of(hp, (double)hp->yarn_beta_slow)));
    for (int64_t i = 0; i < hp->n_rot / 2; i++) {
        const double y = ((double)i - first) / fmax(0.001, last - first);
        const double r = 1 - fmin(1, fmax(0, y));
        factors[i] = (float)(1 / ((1 - r) / (double)hp->yarn_factor + r));
    }
    *out = factors;
    return LQ_OK;
}
