/* wtile.c: products with a weight in every format equal the naive product with its dequantized
 * rows, for sizes with tails, for one and several tiles, and the same bits again for a number of
 * threads. */
#include "format.h"
#include "test_util.h"
#include "wtile.h"

#include <omp.h>
#include <string.h>

typedef struct product {
    int64_t n, d, o; /* rows of x, columns and rows of the weight */
} product;

static const product products[] = {
    {1, 32, 1}, {1, 64, 300}, {3, 32, 5}, {17, 96, 33}, {130, 64, 48}, {65, 160, 257},
    {2, 1 << 15, 20}, /* two tiles, of 16 and 4 rows */
};

typedef struct buffers {
    lq_tensor w;
    float *plain, *x, *y, *dy, *dx, *want; /* plain (O,D): the weight's values */
    void *packed, *scratch;
} buffers;

static void open_buffers(buffers *b, const product *p, const lq_format *fmt) {
    const int64_t big = p->n * (p->o > p->d ? p->o : p->d);
    float *const source = lq_alloc_array(p->o * p->d, sizeof *source);
    b->plain = lq_alloc_array(p->o * p->d, sizeof *b->plain);
    b->packed = lq_alloc(lq_format_bytes(fmt, p->o * p->d));
    b->x = lq_alloc_array(p->n * p->d, sizeof *b->x);
    b->dx = lq_alloc_array(p->n * p->d, sizeof *b->dx);
    b->y = lq_alloc_array(p->n * p->o, sizeof *b->y);
    b->dy = lq_alloc_array(p->n * p->o, sizeof *b->dy);
    b->want = lq_alloc_array(big, sizeof *b->want);
    ck_assert(source && b->plain && b->packed && b->x && b->dx && b->y && b->dy && b->want);
    test_fill(source, p->o * p->d, 1);
    test_fill(b->x, p->n * p->d, 2);
    test_fill(b->dy, p->n * p->o, 3);
    fmt->quant(source, b->packed, p->o * p->d, NULL);
    fmt->dequant(b->packed, b->plain, p->o * p->d);
    lq_free(source);
    b->w = (lq_tensor){
        .fmt = fmt, .kind = LQ_WEIGHT, .ndim = 2, .dim = {p->o, p->d}, .data = b->packed};
    b->scratch = lq_alloc_aligned(lq_wtile_scratch(&b->w));
    ck_assert_ptr_nonnull(b->scratch);
}

static void close_buffers(buffers *b) {
    void *const all[] = {b->plain, b->packed, b->x, b->dx, b->y, b->dy, b->want, b->scratch};
    for (int i = 0; i < LQ_ARRAY_LEN(all); i++) lq_free(all[i]);
}

static void naive_forward(const buffers *b, const product *p) {
    for (int64_t i = 0; i < p->n; i++)
        for (int64_t o = 0; o < p->o; o++) {
            double sum = 0;
            for (int64_t j = 0; j < p->d; j++)
                sum += (double)b->x[i * p->d + j] * (double)b->plain[o * p->d + j];
            b->want[i * p->o + o] = (float)sum;
        }
}

/* dx starts at x: backward adds. */
static void naive_backward(const buffers *b, const product *p) {
    for (int64_t i = 0; i < p->n; i++)
        for (int64_t j = 0; j < p->d; j++) {
            double sum = b->x[i * p->d + j];
            for (int64_t o = 0; o < p->o; o++)
                sum += (double)b->dy[i * p->o + o] * (double)b->plain[o * p->d + j];
            b->want[i * p->d + j] = (float)sum;
        }
}

/* Rows of whole blocks: not less than d. */
static int64_t whole_blocks(int64_t d, const lq_format *fmt) {
    return (d + fmt->block - 1) / fmt->block * fmt->block;
}

START_TEST(products_match_naive) {
    for (int f = 0; lq_formats[f]; f++) {
        product shape = products[_i];
        const product *const p = &shape;
        buffers b;
        if (!lq_formats[f]->quant) continue;
        shape.d = whole_blocks(shape.d, lq_formats[f]);
        open_buffers(&b, p, lq_formats[f]);
        lq_wtile_forward(&b.w, b.x, b.y, p->n, b.scratch);
        naive_forward(&b, p);
        test_close("y", b.y, b.want, p->n * p->o, 1e-4, 1e-5);
        memcpy(b.dx, b.x, (size_t)(p->n * p->d) * sizeof *b.dx);
        lq_wtile_backward(&b.w, b.dy, 1, b.dx, p->n, b.scratch);
        naive_backward(&b, p);
        test_close("dx", b.dx, b.want, p->n * p->d, 1e-4, 1e-5);
        memset(b.dx, 0xff, (size_t)(p->n * p->d) * sizeof *b.dx);
        lq_wtile_backward(&b.w, b.dy, 0, b.dx, p->n, b.scratch);
        for (int64_t i = 0; i < p->n * p->d; i++) b.dx[i] += b.x[i];
        test_close("written dx", b.dx, b.want, p->n * p->d, 1e-4, 1e-5);
        close_buffers(&b);
    }
}
END_TEST

START_TEST(rows_are_the_weights) {
    const product p = {1, 256, 37};
    for (int f = 0; lq_formats[f]; f++) {
        buffers b;
        float tile[20 * 256];
        if (!lq_formats[f]->quant) continue;
        open_buffers(&b, &p, lq_formats[f]);
        const float *rows = lq_wtile_rows(&b.w, 5, 20, tile);
        ck_assert_int_eq(memcmp(rows, b.plain + 5 * 256, sizeof tile), 0);
        if (lq_formats[f] == &lq_f32) ck_assert_ptr_eq(rows, (float *)b.packed + 5 * 256);
        close_buffers(&b);
    }
}
END_TEST

/* Two runs with the same threads are equal bits. */
START_TEST(bits_repeat) {
    const product p = {300, 160, 257};
    buffers b;
    open_buffers(&b, &p, &lq_q4_0);
    for (int threads = 1; threads <= 5; threads++) {
        omp_set_num_threads(threads);
        lq_wtile_forward(&b.w, b.x, b.y, p.n, b.scratch);
        memcpy(b.want, b.y, (size_t)(p.n * p.o) * sizeof *b.y);
        for (int run = 0; run < 5; run++) {
            lq_wtile_forward(&b.w, b.x, b.y, p.n, b.scratch);
            ck_assert_int_eq(memcmp(b.want, b.y, (size_t)(p.n * p.o) * sizeof *b.y), 0);
        }
    }
    naive_forward(&b, &p);
    test_close("y", b.y, b.want, p.n * p.o, 1e-4, 1e-5);
    close_buffers(&b);
}
END_TEST

START_TEST(tiles_cover_the_weight) {
    lq_tensor w = {.fmt = &lq_q8_0, .kind = LQ_WEIGHT, .ndim = 2, .dim = {7, 64}};
    ck_assert_int_eq(lq_wtile_height(&w), 7);
    w.dim[0] = 1 << 20;
    w.dim[1] = 1 << 20;
    ck_assert_int_eq(lq_wtile_height(&w), 16); /* never less, however long the rows */
    w.fmt = &lq_f32;
    ck_assert_uint_eq(lq_wtile_scratch(&w), 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("wtile");
    TCase *tc = tcase_create("wtile");
    tcase_set_timeout(tc, 60); /* every format in one test, threads on a busy machine */
    tcase_add_loop_test(tc, products_match_naive, 0, LQ_ARRAY_LEN(products));
    tcase_add_test(tc, rows_are_the_weights);
    tcase_add_test(tc, bits_repeat);
    tcase_add_test(tc, tiles_cover_the_weight);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
