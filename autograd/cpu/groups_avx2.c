/* The group kernels with AVX2. */
#include "lanes_avx2.h"

#include "groups_lanes.h"

const lq_group_kernels lq_groups_avx2 = {
    .fit_signed = fit_signed,
    .fit_sweeping = fit_sweeping,
    .fit_affine = fit_affine,
    .round = round_codes,
    .truncate = truncate,
    .range = range,
    .largest = largest_magnitude,
    .snap = snap,
    .trits = trits,
    .expand_trits = expand_trits,
    .expand = expand,
};
