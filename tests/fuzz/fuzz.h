/* What a fuzz target offers: the entry point of libFuzzer, and seeds to mutate. With clang's
 * -fsanitize=fuzzer the target is linked as it is; everywhere else fuzz_main.c drives it with
 * reproducible mutations. */
#ifndef LOQUAT_FUZZ_H
#define LOQUAT_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The i-th valid input, or NULL when there are no more. Borrowed. */
const uint8_t *fuzz_seed(int i, size_t *size);

#endif
