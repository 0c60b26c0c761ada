/* Which group kernels go with the CPU table in use. */
#include "groups.h"

#include "cpu.h"

static const lq_group_kernels *const by_level[LQ_LEVELS] = {
    [LQ_LEVEL_REF] = &lq_groups_ref,
    [LQ_LEVEL_AVX2] = &lq_groups_avx2,
    [LQ_LEVEL_AVX512] = &lq_groups_avx512,
};

const lq_group_kernels *lq_groups(void) { return by_level[lq_cpu_kernels()->level]; }
