#include "cublaslt.h"

#include <dlfcn.h>
#include <stdio.h>

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
#define LIBRARY "libcublasLt.so." TEXT(CUBLAS_VER_MAJOR)

static void *find(void *library, const char *name, const char **missing) {
    void *const function = library ? dlsym(library, name) : NULL;
    if (!function && !*missing) *missing = name;
    return function;
}

/* Where the loader looks, then where the toolkit was when this was built. */
lq_status lq_cublaslt_load(lq_cublaslt *out) {
    const char *missing = NULL;
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (!library) library = dlopen(LOQUAT_CUDA_LIBRARY_DIR "/" LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return lq_fail(LQ_EDEVICE, "device 'cuda' needs cuBLAS: %s cannot be loaded (%s)", LIBRARY,
                       dlerror());
#define LQ_CUBLASLT_FIND(name) \
    out->name = (decltype(&cublasLt##name))find(library, "cublasLt" #name, &missing);
    LQ_CUBLASLT(LQ_CUBLASLT_FIND)
#undef LQ_CUBLASLT_FIND
    if (!missing) return LQ_OK;
    return lq_fail(LQ_EDEVICE, "device 'cuda': %s has no function '%s'", LIBRARY, missing);
}
