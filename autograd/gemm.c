/* The blocked product (after Goto & van de Geijn 2008), for instruction sets that bring a kernel;
 * others use OpenBLAS. Of b a strip as wide as a tile is packed, or read where it lies if few tiles
 * use it; a block of a stays in the second-level cache, where tile after tile reads it unpacked. */
#include "gemm.h"

#include "base.h"
#include "blas.h"
#include "cpu.h"
#include "gemm_kernel.h"

#include <assert.h>
#include <omp.h>
#include <stdatomic.h>

enum {
    DEPTH = 592,                  /* of a strip: 74 KiB, which tiles stream past a block of a */
    SHALLOW = 64,                 /* of operands read across their rows: each is a page to visit, */
    CLOSE = 256,                  /* unless rows lie this close */
    BLOCK_ELEMENTS = 320 << 10,   /* of a: 1.25 MiB */
    MAX_WIDTH = 32,
    LEAST_ROWS = 8,               /* products with fewer rows are OpenBLAS's */
    UNPACKED_ROWS = 96,           /* up to here b is not worth packing */
    MAX_PARTS = 256,              /* threads that share a product */
    COLS = 64,                    /* that a thread takes at a time */
    PARALLEL_PRODUCTS = 1 << 18   /* some 3 us of one core: less does not pay for a second one */
};

typedef struct product {
    const lq_gemm_kernel *kernel;
    float *c;
    int64_t ldc;
    float alpha;
    bool add;
    const lq_gemm_term *term;
    int n_terms;
    int64_t m, n, k;              /* k: of all sums together */
} product;

/* Terms [begin, begin + k) of one of the sums. */
typedef struct piece { const lq_gemm_term *term; int64_t begin, k; } piece;

/* What is multiplied at once: rows of c by a stretch of the concatenated sums. */
typedef struct block {
    int64_t row, rows;
    piece piece[LQ_GEMM_TERMS];
    int n;
    bool add;
} block;

static int64_t div_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* The pieces of [begin, end) of all sums, one behind the other. */
static int cut(const product *p, int64_t begin, int64_t end, piece out[LQ_GEMM_TERMS]) {
    int n = 0;
    for (int i = 0; i < p->n_terms; i++) {
        const int64_t k = p->term[i].k, from = lq_max64(begin, 0), to = lq_min64(end, k);
        if (from < to) out[n++] = (piece){&p->term[i], from, to - from};
        begin -= k;
        end -= k;
    }
    return n;
}

static const float *at(const lq_mat *mat, int64_t row, int64_t col) {
    return mat->data + (mat->transposed ? col * mat->ld + row : row * mat->ld + col);
}

/* ---- strips of b ----------------------------------------------------------------------------- */

/* Sets the factors' b: columns [col, col + cols), packed if that pays. */
static void take_strip(const product *p, const block *b, int64_t col, int64_t cols, int64_t width,
                       float *packed, lq_gemm_factor factor[]) {
    for (int i = 0; i < b->n; i++) {
        const piece *const q = &b->piece[i];
        const lq_mat *const mat = &q->term->b;
        const float *const src = at(mat, q->begin, col);
        if (!mat->transposed && b->rows <= UNPACKED_ROWS) {
            factor[i].b = src;
            factor[i].b_step = mat->ld;
            continue;
        }
        (mat->transposed ? p->kernel->pack_across : p->kernel->pack_along)(packed, width, src,
                                                                           mat->ld, cols, q->k);
        factor[i].b = packed;
        factor[i].b_step = width;
        packed += q->k * width;
    }
}

/* ---- blocks of c ----------------------------------------------------------------------------- */

/* The tallest tile that fits in what is left; but 16 rows, as adapters often have, are two of 8
 * rather than 14 and 2. */
static int next_height(const lq_gemm_kernel *kernel, int h, int64_t left) {
    while (kernel->heights[h] > left) h++;
    const bool halves = h + 1 < LQ_GEMM_HEIGHTS && left > kernel->heights[h] &&
                        left == 2 * kernel->heights[h + 1];
    return halves ? h + 1 : h;
}

static void multiply_strip(const product *p, const block *b, int64_t col, int64_t cols) {
    const lq_gemm_kernel *const kernel = p->kernel;
    const int w = cols <= kernel->widths[1];
    _Alignas(64) float packed[DEPTH * MAX_WIDTH];
    lq_gemm_factor factor[LQ_GEMM_TERMS];
    take_strip(p, b, col, cols, kernel->widths[w], packed, factor);
    for (int i = 0; i < b->n; i++) {
        const lq_mat *const a = &b->piece[i].term->a;
        factor[i].a_row = a->transposed ? 1 : a->ld;
        factor[i].a_step = a->transposed ? a->ld : 1;
        factor[i].k = b->piece[i].k;
    }
    lq_gemm_tile tile = {.ldc = p->ldc, .cols = cols, .alpha = p->alpha, .add = b->add,
                         .n = b->n, .factor = factor};
    int h = 0;
    for (int64_t row = 0; row < b->rows; row += kernel->heights[h]) {
        h = next_height(kernel, h, b->rows - row);
        tile.c = p->c + (b->row + row) * p->ldc + col;
        for (int i = 0; i < b->n; i++)
            factor[i].a = at(&b->piece[i].term->a, b->row + row, b->piece[i].begin);
        kernel->tile[h][w](&tile);
    }
}

static int64_t most_depth(const product *p) {
    const lq_gemm_term *const first = &p->term[0];
    const bool a_across = first->a.transposed && first->a.ld > CLOSE;
    const bool b_across = !first->b.transposed && first->b.ld > CLOSE && p->m <= UNPACKED_ROWS;
    return a_across || b_across ? SHALLOW : DEPTH;
}

static void multiply(const product *p) {
    const int64_t depth = div_up(div_up(p->k, div_up(p->k, most_depth(p))), 16) * 16;
    const int64_t some = lq_max64(BLOCK_ELEMENTS / depth, UNPACKED_ROWS + 1);
    const int64_t rows = div_up(p->m, div_up(p->m, some)), width = p->kernel->widths[0];
    for (int64_t row = 0; row < p->m; row += rows) {
        for (int64_t deep = 0; deep < p->k; deep += depth) {
            block b = {.row = row, .rows = lq_min64(rows, p->m - row), .add = p->add || deep};
            b.n = cut(p, deep, deep + depth, b.piece);
            for (int64_t col = 0; col < p->n; col += width)
                multiply_strip(p, &b, col, lq_min64(width, p->n - col));
        }
    }
}

static void multiply_serial(const product *p) {
    if (p->m == 0 || p->n == 0) return;
    if (p->kernel && p->m >= LEAST_ROWS) {
        multiply(p);
        return;
    }
    for (int i = 0; i < p->n_terms; i++)
        lq_blas_gemm(p->c, p->ldc, p->add || i ? 1 : 0, p->alpha, p->term[i].a, p->term[i].b, p->m,
                     p->n, p->term[i].k);
}

/* ---- sharing out ----------------------------------------------------------------------------- */

/* Where part i of n begins when split into `parts`, in whole strips. */
static int64_t part_begin(int64_t n, int64_t parts, int64_t i) {
    return lq_min64(n, div_up(n, MAX_WIDTH) * i / parts * MAX_WIDTH);
}

typedef struct split { int64_t rows, cols; } split;

/* Every part that splits rows packs b anew, and a part's rows of a should stay in its core's cache:
 * so the longer side is cut first; but a product with a short sum mostly writes c, which goes best
 * by rows. */
static split choose_split(int64_t threads, int64_t m, int64_t n, int64_t k) {
    const int64_t most_rows = lq_max64(1, m / MAX_WIDTH), most_cols = div_up(n, MAX_WIDTH);
    const bool cols_first = n > m && k >= 64;
    const int64_t first = lq_min64(threads, cols_first ? most_cols : most_rows);
    const int64_t second = lq_min64(threads / first, cols_first ? most_rows : most_cols);
    return cols_first ? (split){second, first} : (split){first, second};
}

/* Rows [row, row + m) and columns [col, col + n) of a product; its terms are put into `term`. */
static product sub_product(const product *p, int64_t row, int64_t m, int64_t col, int64_t n,
                           lq_gemm_term term[LQ_GEMM_TERMS]) {
    product sub = *p;
    for (int i = 0; i < p->n_terms; i++) {
        term[i] = p->term[i];
        term[i].a.data = at(&term[i].a, row, 0);
        term[i].b.data = at(&term[i].b, 0, col);
    }
    sub.c = p->c + row * p->ldc + col;
    sub.term = term;
    sub.m = m;
    sub.n = n;
    return sub;
}

/* Does what is left of a part, a few columns after the other; `next` says from where. */
static void multiply_part(const product *p, split cut, int64_t part, atomic_llong *next) {
    const int64_t r = part / cut.cols, s = part % cut.cols;
    const int64_t row = part_begin(p->m, cut.rows, r), end = part_begin(p->m, cut.rows, r + 1);
    const int64_t last = part_begin(p->n, cut.cols, s + 1);
    int64_t col = part_begin(p->n, cut.cols, s);
    for (;;) {
        const int64_t from = col + COLS * atomic_fetch_add(next, 1);
        if (from >= last) return;
        lq_gemm_term term[LQ_GEMM_TERMS];
        const product sub =
            sub_product(p, row, end - row, from, lq_min64(COLS, last - from), term);
        multiply_serial(&sub);
    }
}

/* Each thread has a part; one that is done goes on with what others have not begun: cores are not
 * equally fast, nor all ours. */
static void multiply_parallel(const product *p) {
    if (omp_in_parallel() || p->m * p->n * p->k < PARALLEL_PRODUCTS) {
        multiply_serial(p);
        return;
    }
    const int64_t threads = lq_min64(omp_get_max_threads(), MAX_PARTS);
    const split cut = choose_split(threads, p->m, p->n, p->k);
    const int64_t parts = cut.rows * cut.cols;
    atomic_llong next[MAX_PARTS];
    for (int64_t i = 0; i < parts; i++) atomic_init(&next[i], 0);
#pragma omp parallel num_threads((int)parts)
    for (int64_t i = 0, own = omp_get_thread_num(); i < parts; i++)
        multiply_part(p, cut, (own + i) % parts, &next[(own + i) % parts]);
}

static product make_product(float *c, int64_t ldc, float beta, float alpha,
                            const lq_gemm_term *term, int n_terms, int64_t m, int64_t n) {
    assert(beta == 0 || beta == 1);
    assert(n_terms >= 1 && n_terms <= LQ_GEMM_TERMS);
    int64_t k = 0;
    for (int i = 0; i < n_terms; i++) {
        assert(term[i].k > 0);
        k += term[i].k;
    }
    return (product){.kernel = lq_cpu_kernels()->gemm, .c = c, .ldc = ldc, .alpha = alpha,
                     .add = beta != 0, .term = term, .n_terms = n_terms, .m = m, .n = n, .k = k};
}

void lq_gemm(float *c, int64_t ldc, float beta, float alpha, lq_mat a, lq_mat b, int64_t m,
             int64_t n, int64_t k) {
    const lq_gemm_term term = {a, b, k};
    const product p = make_product(c, ldc, beta, alpha, &term, 1, m, n);
    multiply_parallel(&p);
}

void lq_gemm_serial(float *c, int64_t ldc, float beta, float alpha, lq_mat a, lq_mat b, int64_t m,
                    int64_t n, int64_t k) {
    const lq_gemm_term term = {a, b, k};
    const product p = make_product(c, ldc, beta, alpha, &term, 1, m, n);
    multiply_serial(&p);
}

void lq_gemm_sum(float *c, int64_t ldc, float beta, const lq_gemm_term *term, int n_terms,
                 int64_t m, int64_t n) {
    const product p = make_product(c, ldc, beta, 1, term, n_terms, m, n);
    multiply_parallel(&p);
}
