/* Counter-based random numbers. See random.h. */
#include "random.h"

#include <math.h>

/* splitmix64's output function (Stafford's mix 13): a bijection with full avalanche. */
static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t lq_random_u64(uint64_t key, uint64_t counter) {
    return mix(mix(key + 0x9e3779b97f4a7c15u) + (counter + 1) * 0x9e3779b97f4a7c15u);
}

uint64_t lq_random_key(uint64_t key, uint64_t data) { return lq_random_u64(~key, data); }

float lq_random_uniform(uint64_t key, uint64_t counter) {
    return (float)(lq_random_u64(key, counter) >> 40) * 0x1p-24f;
}

float lq_random_normal(uint64_t key, uint64_t counter) {
    const uint64_t bits = lq_random_u64(key, counter);
    const double u = ((double)(bits >> 32) + 0.5) * 0x1p-32; /* (0, 1): the log is finite */
    const double v = (double)(bits & 0xffffffffu) * 0x1p-32;
    return (float)(sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v));
}

uint64_t lq_random_below(uint64_t key, uint64_t counter, uint64_t n) {
    /* multiply-shift: bias below n / 2^64 */
    return (uint64_t)(((unsigned __int128)lq_random_u64(key, counter) * n) >> 64);
}
