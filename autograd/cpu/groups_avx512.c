/* The group kernels with AVX-512. */
#include "lanes_avx512.h"

#include "groups_lanes.h"

const lq_group_kernels lq_groups_avx512 = {
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
