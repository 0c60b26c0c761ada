/* How code that the CPU and GPU kernels share is declared. The *_scalar.h headers are text that
 * compiles as C11 and as CUDA C++, one number, group or scale at a time, so that both compute the
 * same bits; no fused multiply-add in either. */
#ifndef LOQUAT_SCALAR_H
#define LOQUAT_SCALAR_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define LQ_SCALAR __host__ __device__ static inline
#else
#define LQ_SCALAR static inline
#endif

#endif
