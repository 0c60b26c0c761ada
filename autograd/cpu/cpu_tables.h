/* The tables that cpu.c chooses from. */
#ifndef LOQUAT_CPU_TABLES_H
#define LOQUAT_CPU_TABLES_H

#include "cpu.h"
#include "gemm_kernel.h"
#include "narrow.h"

extern const lq_cpu lq_cpu_avx2;     /* cpu_avx2.c: AVX2, FMA, F16C */
extern const lq_cpu lq_cpu_avx512;   /* cpu_avx512.c: AVX-512 F, BW, VL, DQ */

extern const lq_gemm_kernel lq_gemm_avx512;       /* gemm_avx512.c */
extern const lq_narrow_kernel lq_narrow_avx512;   /* narrow_avx512.c */

#endif
