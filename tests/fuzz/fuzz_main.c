/* Runs a fuzz target on mutated seeds: fuzz_NAME [RUNS [FIRST]]. Run i always makes the same input,
 * so a crash is repeated with RUNS 1 and FIRST i; the number of the run is in `fuzz_run` for a
 * debugger. */
#include "fuzz.h"

#include "base.h"
#include "random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_RUNS = 20000, MAX_MUTATIONS = 4 };

volatile uint64_t fuzz_run;

typedef struct source { uint64_t key, counter; } source;

static uint64_t draw(source *s, uint64_t below) {
    return lq_random_below(s->key, s->counter++, below);
}

static void overwrite(uint8_t *data, size_t size, source *s) {
    static const uint64_t special[] = {
        0, 1, 2, 0x7f, 0xff, 0xffff, 0x7fffffff, 0xffffffff, 0x100000000, INT64_MAX, UINT64_MAX};
    const uint64_t value = special[draw(s, LQ_ARRAY_LEN(special))];
    const size_t width = (size_t)1 << draw(s, 4);
    if (size < width) return;
    memcpy(data + draw(s, size - width + 1), &value, width);
}

/* Moves a stretch of bytes onto another place: repeated and missing parts. */
static void copy_within(uint8_t *data, size_t size, source *s) {
    const size_t n = 1 + draw(s, size), from = draw(s, size - n + 1), to = draw(s, size - n + 1);
    memmove(data + to, data + from, n);
}

/* Returns the new size, never more than the old. */
static size_t mutate(uint8_t *data, size_t size, source *s) {
    if (!size) return 0;
    switch (draw(s, 6)) {
    case 0: data[draw(s, size)] ^= (uint8_t)(1u << draw(s, 8)); break;
    case 1: data[draw(s, size)] = (uint8_t)draw(s, 256); break;
    case 2:
    case 3: overwrite(data, size, s); break;
    case 4: copy_within(data, size, s); break;
    default: return draw(s, size + 1);
    }
    return size;
}

static void run_one(uint64_t run, int n_seeds) {
    source s = {lq_random_key(20250101, run), 0};
    size_t size;
    const uint8_t *seed = fuzz_seed((int)draw(&s, (uint64_t)n_seeds), &size);
    uint8_t *data = malloc(size ? size : 1);
    if (!data) abort();
    memcpy(data, seed, size);
    for (uint64_t n = 1 + draw(&s, MAX_MUTATIONS); n > 0; n--) size = mutate(data, size, &s);
    uint8_t *exact = malloc(size ? size : 1); /* so that a read behind the end is seen */
    if (!exact) abort();
    memcpy(exact, data, size);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    free(data);
}

int main(int argc, char **argv) {
    const uint64_t runs = argc > 1 ? strtoull(argv[1], NULL, 10) : DEFAULT_RUNS;
    const uint64_t first = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
    int n_seeds = 0;
    size_t size;
    for (const uint8_t *seed; (seed = fuzz_seed(n_seeds, &size)); n_seeds++)
        LLVMFuzzerTestOneInput(seed, size);
    for (fuzz_run = first; fuzz_run < first + runs; fuzz_run++) run_one(fuzz_run, n_seeds);
    printf("%llu runs on %d seeds\n", (unsigned long long)runs, n_seeds);
    return 0;
}
