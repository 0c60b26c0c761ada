/* Times every block format's quantizer and dequantizer against ggml's own functions, on one core
 * and in one run, and compares the results. By hand: bench_formats GGML_LIBRARY [FORMAT...], with a
 * libggml-base.so for x86-64. LOQUAT_CPU chooses the kernels. Prints million elements per second
 * of processor time, so that other programs disturb less, and the ratio to ggml: above 1 is faster.
 * Never a test. */
#include "format.h"
#include "random.h"

#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum { ROWS = 24, COLS = 4096, N = ROWS * COLS, REPEATS = 5 };

typedef size_t (*ggml_quantize)(int type, const float *x, void *out, int64_t start, int64_t rows,
                                int64_t cols, const float *imatrix);
typedef void (*ggml_dequantize)(const void *in, float *out, int64_t n);

static float numbers[N], importance[COLS], back[N], ggml_back[N];
static uint8_t blocks[N * 4], ggml_blocks[N * 4];

typedef struct subject {
    const lq_format *fmt;
    ggml_quantize quantize;
    ggml_dequantize dequantize;
    const float *imatrix;
} subject;

static void our_quant(const subject *s) {
    const size_t row_bytes = lq_format_bytes(s->fmt, COLS);
    for (int r = 0; r < ROWS; r++)
        s->fmt->quant(numbers + r * COLS, blocks + (size_t)r * row_bytes, COLS, s->imatrix);
}

static void ggml_quant(const subject *s) {
    s->quantize(s->fmt->ggml_id, numbers, ggml_blocks, 0, ROWS, COLS, s->imatrix);
}

static void our_dequant(const subject *s) { s->fmt->dequant(blocks, back, N); }
static void ggml_dequant(const subject *s) { s->dequantize(blocks, ggml_back, N); }

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double seconds_of(void (*run)(const subject *), const subject *s, int times) {
    const double start = now();
    for (int i = 0; i < times; i++) run(s);
    return (now() - start) / times;
}

typedef void (*subject_fn)(const subject *);

/* The best of several, by turns. */
static void compare(const char *what, subject_fn ours, subject_fn theirs, const subject *s,
                    int times, bool same) {
    double our_best = INFINITY, their_best = INFINITY;
    for (int i = 0; i < REPEATS; i++) {
        our_best = fmin(our_best, seconds_of(ours, s, times));
        their_best = fmin(their_best, seconds_of(theirs, s, times));
    }
    printf("%-8s %-11s %9.1f %9.1f %7.2f%s\n", s->fmt->name, what, N / our_best * 1e-6,
           N / their_best * 1e-6, their_best / our_best, same ? "" : "  DIFFERENT RESULTS");
    fflush(stdout);
}

static void compare_quant(const subject *s) {
    our_quant(s);
    ggml_quant(s);
    const bool same = memcmp(blocks, ggml_blocks, lq_format_bytes(s->fmt, N)) == 0;
    compare(s->imatrix ? "weighted" : "plain", our_quant, ggml_quant, s, 1, same);
}

static void compare_format(void *library, subject s) {
    char symbol[64];
    snprintf(symbol, sizeof symbol, "dequantize_row_%s", s.fmt->name);
    s.imatrix = importance;
    if (s.fmt->quant) compare_quant(&s);
    s.imatrix = NULL;
    if (s.fmt->quant) compare_quant(&s);
    void *const found = dlsym(library, symbol);
    memcpy(&s.dequantize, &found, sizeof found);
    if (!s.fmt->quant || !found) return;
    our_dequant(&s);
    ggml_dequant(&s);
    compare("dequantize", our_dequant, ggml_dequant, &s, 20,
            memcmp(back, ggml_back, sizeof back) == 0);
}

static bool is_wanted(const lq_format *fmt, char **names, int n) {
    for (int i = 0; i < n; i++)
        if (strcasecmp(names[i], fmt->name) == 0) return true;
    return n == 0 && fmt->block > 1;
}

static void fill(void) {
    for (int i = 0; i < N; i++) {
        float sum = 0;
        for (int k = 0; k < 4; k++) sum += lq_random_uniform(1, (uint64_t)(4 * i + k)) - 0.5f;
        numbers[i] = 0.02f * sum;
    }
    for (int i = 0; i < COLS; i++) importance[i] = lq_random_uniform(2, (uint64_t)i) + 0.01f;
}

int main(int argc, char **argv) {
    void *const library = argc > 1 ? dlopen(argv[1], RTLD_NOW) : NULL;
    void *const found = library ? dlsym(library, "ggml_quantize_chunk") : NULL;
    if (!found) {
        fprintf(stderr, "usage: bench_formats GGML_LIBRARY [FORMAT...]%s%s\n",
                argc > 1 ? "\n" : "", argc > 1 ? dlerror() : "");
        return 2;
    }
    subject s = {0};
    memcpy(&s.quantize, &found, sizeof found);
    fill();
    printf("%-8s %-11s %9s %9s %7s\n", "format", "", "Melem/s", "ggml", "ratio");
    for (int i = 0; lq_formats[i]; i++) {
        s.fmt = lq_formats[i];
        if (is_wanted(s.fmt, argv + 2, argc - 2)) compare_format(library, s);
    }
    dlclose(library);
    return 0;
}
