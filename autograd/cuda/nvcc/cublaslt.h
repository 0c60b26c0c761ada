/* cuBLASLt's functions, loaded when a device is opened. Linked, the library would be mapped by all
 * runs on the CPU, too: 200 MB and a tenth of a second. */
#ifndef LOQUAT_CUBLASLT_H
#define LOQUAT_CUBLASLT_H

#include "base.h"

#include <cublasLt.h>

#define LQ_CUBLASLT(X) \
    X(Create) X(Destroy) X(GetStatusString) X(Matmul) X(MatmulAlgoGetHeuristic) \
    X(MatmulDescCreate) X(MatmulDescDestroy) X(MatmulDescSetAttribute) \
    X(MatmulPreferenceCreate) X(MatmulPreferenceDestroy) X(MatmulPreferenceSetAttribute) \
    X(MatrixLayoutCreate) X(MatrixLayoutDestroy)

typedef struct lq_cublaslt {
#define LQ_CUBLASLT_MEMBER(name) decltype(&cublasLt##name) name;
    LQ_CUBLASLT(LQ_CUBLASLT_MEMBER)
#undef LQ_CUBLASLT_MEMBER
} lq_cublaslt;

/* Of the major version that was compiled for; it stays loaded. LQ_EDEVICE: what was not found. */
lq_status lq_cublaslt_load(lq_cublaslt *out);

#endif
