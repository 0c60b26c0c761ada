/* random.h's numbers on the device: the same function of (key, counter), bit by bit. */
#ifndef LOQUAT_RANDOM_DEVICE_H
#define LOQUAT_RANDOM_DEVICE_H

#include "launch.h"

static __device__ __forceinline__ uint64_t lq_device_mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* lq_random_uniform(key, counter) */
static __device__ __forceinline__ float lq_device_uniform(uint64_t key, uint64_t counter) {
    const uint64_t golden = 0x9e3779b97f4a7c15u;
    const uint64_t bits = lq_device_mix(lq_device_mix(key + golden) + (counter + 1) * golden);
    return (float)(bits >> 40) * 0x1p-24f;
}

#endif
