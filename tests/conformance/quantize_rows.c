/* Quantizes rows from standard input to standard output, for check_formats.py:
 *   quantize_rows FORMAT ROWS COLUMNS plain|weighted
 * Input: COLUMNS importance weights if weighted, then ROWS x COLUMNS numbers, all F32. */
#include "format.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static float *read_floats(int64_t n) {
    float *x = lq_alloc_array(n, sizeof *x);
    if (x && fread(x, sizeof *x, (size_t)n, stdin) == (size_t)n) return x;
    lq_free(x);
    return NULL;
}

static int quantize(const lq_format *fmt, const float *x, int64_t rows, int64_t cols,
                    const float *imatrix) {
    const size_t row_bytes = lq_format_bytes(fmt, cols);
    void *out = lq_alloc(row_bytes);
    int status = out ? 0 : 1;
    for (int64_t r = 0; status == 0 && r < rows; r++) {
        fmt->quant(x + r * cols, out, cols, imatrix);
        status = fwrite(out, 1, row_bytes, stdout) != row_bytes;
    }
    lq_free(out);
    return status;
}

int main(int argc, char **argv) {
    const lq_format *fmt = argc == 5 ? lq_format_by_name(argv[1]) : NULL;
    const int64_t rows = fmt ? atoll(argv[2]) : 0, cols = fmt ? atoll(argv[3]) : 0;
    if (rows < 1 || cols < 1 || cols % fmt->block) {
        fputs("usage: quantize_rows FORMAT ROWS COLUMNS plain|weighted\n", stderr);
        return 2;
    }
    const bool weighted = strcmp(argv[4], "weighted") == 0;
    float *imatrix = weighted ? read_floats(cols) : NULL, *x = read_floats(rows * cols);
    const int status = x && (imatrix || !weighted) ? quantize(fmt, x, rows, cols, imatrix) : 1;
    lq_free(imatrix);
    lq_free(x);
    return status;
}
