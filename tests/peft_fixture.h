/* PEFT directories made by hand, for the tests of what reads them. */
#ifndef LOQUAT_PEFT_FIXTURE_H
#define LOQUAT_PEFT_FIXTURE_H

#include <stdint.h>

typedef struct peft_tensor {
    const char *name;
    int64_t rows, cols;
} peft_tensor;

/* adapter_config.json of this text and F32 tensors up to the first without a name (at most max), in
 * a directory below the test's own, whose path is returned. */
const char *peft_fixture(const char *name, const char *config, const peft_tensor *tensor, int max);
/* Element i of the n-th tensor: a multiple of 1/8 from -1 to 1. */
float peft_fixture_value(int n, int64_t i);

#endif
