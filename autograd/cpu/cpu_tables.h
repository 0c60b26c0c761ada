/* The tables that cpu.c chooses from. */
#ifndef LOQUAT_CPU_TABLES_H
#define LOQUAT_CPU_TABLES_H

#include "cpu.h"

extern const lq_cpu lq_cpu_avx2;     /* cpu_avx2.c: AVX2, FMA, F16C */
extern const lq_cpu lq_cpu_avx512;   /* cpu_avx512.c: AVX-512 F, BW, VL, DQ */

#endif
