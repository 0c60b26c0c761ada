/* Counter-based random numbers (splitmix64 finalizer over a keyed counter; Steele, Lea & Flood
 * 2014): value = f(key, counter), so a resumed run, another thread and a recomputed layer agree. */
#ifndef LOQUAT_RANDOM_H
#define LOQUAT_RANDOM_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

uint64_t lq_random_key(uint64_t key, uint64_t data);      /* derives a sub-key */
uint64_t lq_random_u64(uint64_t key, uint64_t counter);
float lq_random_uniform(uint64_t key, uint64_t counter);  /* [0, 1), 24 bits */
float lq_random_normal(uint64_t key, uint64_t counter);   /* N(0,1), Box-Muller */
uint64_t lq_random_below(uint64_t key, uint64_t counter, uint64_t n);  /* [0, n), n > 0 */

#ifdef __cplusplus
}
#endif
#endif
