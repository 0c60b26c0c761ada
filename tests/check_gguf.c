/* gguf_*.c: every class of malformed file with its message, truncation at every byte, what is
 * written is read back, full disks and failed allocations. */
#include "gguf.h"
#include "atomic_file.h"
#include "str.h"
#include "test_util.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/* ---- a small assembler for broken files: tokens separated by spaces ----
 * =TEXT raw bytes   'TEXT a string   *N a string of N x   wN u32   qN u64   .N zero bytes   | pad
 * to 32 */
static void assemble_token(lq_str *out, const char *token) {
    const char *arg = token + 1;
    const uint32_t w = (uint32_t)strtoul(arg, NULL, 0);
    const uint64_t q = *arg == '-' ? (uint64_t)strtoll(arg, NULL, 0) : strtoull(arg, NULL, 0);
    const uint64_t len = strlen(arg);
    switch (*token) {
    case '=': lq_str_puts(out, arg); break;
    case '\'': lq_str_add(out, (const char *)&len, 8); lq_str_puts(out, arg); break;
    case '*':
        lq_str_add(out, (const char *)&q, 8);
        for (uint64_t i = 0; i < q; i++) lq_str_putc(out, 'x');
        break;
    case 'w': lq_str_add(out, (const char *)&w, 4); break;
    case 'q': lq_str_add(out, (const char *)&q, 8); break;
    case '.': for (uint64_t i = 0; i < q; i++) lq_str_putc(out, 0); break;
    case '|': while (out->n % 32) lq_str_putc(out, 0); break;
    default: ck_abort_msg("bad token %s", token);
    }
}

static lq_str assemble(const char *text) {
    lq_str out = LQ_STR_INIT;
    char copy[1024];
    ck_assert_uint_lt(strlen(text), sizeof copy);
    strcpy(copy, text);
    for (char *t = strtok(copy, " "); t; t = strtok(NULL, " ")) assemble_token(&out, t);
    return out;
}

#define HEAD(tensors, keys) "=GGUF w3 q" #tensors " q" #keys " "
#define ALIGN32 "'general.alignment w4 w32 "
/* A tensor's entry: two F32 sizes 8 x 2, 64 bytes. */
#define TENSOR(name, offset) "'" name " w2 q8 q2 w0 q" #offset " "

static const struct {
    const char *what, *bytes;
    lq_status status;
    const char *message;
} malformed[] = {
    {"empty", "", LQ_EFORMAT, "the magic needs 4 bytes"},
    {"magic", "=GGML w3 q0 q0", LQ_EFORMAT, "starts with 47 47 4d 4c"},
    {"version 0", "=GGUF w0 q0 q0", LQ_EUNSUPPORTED, "GGUF version 0"},
    {"version 1", "=GGUF w1 q0 q0", LQ_EUNSUPPORTED, "GGUF version 1"},
    {"version 4", "=GGUF w4 q0 q0", LQ_EUNSUPPORTED, "GGUF version 4; supported: 2 and 3"},
    {"big-endian", "=GGUF w0x03000000 q0 q0", LQ_EUNSUPPORTED, "big-endian"},
    {"no counts", "=GGUF w3", LQ_EFORMAT, "the number of tensors needs 8 bytes at offset 8"},
    {"tensors < 0", HEAD(-1, 0), LQ_EFORMAT, "claims -1 tensors"},
    {"tensors too many", HEAD(0x7fffffffffffffff, 0), LQ_EFORMAT, "but only 0 bytes follow"},
    {"keys < 0", HEAD(0, -1), LQ_EFORMAT, "claims -1 metadata keys"},
    {"keys too many", HEAD(0, 1000000), LQ_EFORMAT, "claims 1000000 metadata keys"},
    {"key length", HEAD(0, 1) "q999 .16", LQ_EFORMAT, "a metadata key needs 999 bytes"},
    {"key over 1 GiB", HEAD(0, 1) "q0x40000001 .16", LQ_EFORMAT, "a string of 1073741825 bytes"},
    {"key empty", HEAD(0, 1) "q0 w4 w1 .8", LQ_EFORMAT, "a metadata key is empty"},
    {"key with NUL", HEAD(0, 1) "q2 =a .1 w4 w1", LQ_EFORMAT, "has a NUL inside"},
    {"value type", HEAD(0, 1) "'key w13 q1", LQ_EFORMAT, "key key: unknown value type 13"},
    {"value type < 0", HEAD(0, 1) "'key w0xffffffff q1", LQ_EFORMAT, "unknown value type -1"},
    {"value cut", HEAD(0, 1) "'key w10 w1", LQ_EFORMAT, "key needs 8 bytes"},
    {"string cut", HEAD(0, 1) "'key w8 q5 =abc", LQ_EFORMAT, "key needs 5 bytes"},
    {"array of arrays", HEAD(0, 1) "'key w9 w9 q1 w4 q0", LQ_EFORMAT, "an array of arrays"},
    {"array element type", HEAD(0, 1) "'key w9 w77 q1", LQ_EFORMAT, "unknown value type 77"},
    {"array length", HEAD(0, 1) "'key w9 w4 q1000 .16", LQ_EFORMAT, "key needs 4000 bytes"},
    {"array over 2^30", HEAD(0, 1) "'key w9 w4 q0x4000000000000001", LQ_EFORMAT,
     "an array of 4611686018427387905"},
    {"strings", HEAD(0, 1) "'key w9 w8 q100 .64", LQ_EFORMAT, "key key has 100 strings"},
    {"duplicate key", HEAD(0, 2) "'a w4 w1 'a w4 w2", LQ_EFORMAT, "duplicate metadata key a"},
    {"alignment 0", HEAD(0, 1) "'general.alignment w4 w0", LQ_EFORMAT, "general.alignment is 0"},
    {"alignment 24", HEAD(0, 1) "'general.alignment w4 w24", LQ_EFORMAT, "must be a power of two"},
    {"alignment type", HEAD(0, 1) "'general.alignment w10 q32", LQ_EFORMAT,
     "is of type u64, must be u32"},
    {"name empty", HEAD(1, 0) "q0 w1 q8 w0 q0 | .32", LQ_EFORMAT, "a tensor name is empty"},
    {"name too long", HEAD(1, 0) "*64 w1 q8 w0 q0 | .32", LQ_EFORMAT, "its name has 64 bytes"},
    {"dimensions", HEAD(1, 0) "'t w5 q1 q1 q1 q1 q1 w0 q0 | .32", LQ_EFORMAT,
     "tensor t: 5 dimensions"},
    {"size < 0", HEAD(1, 0) "'t w2 q8 q-1 w0 q0 | .32", LQ_EFORMAT, "size 1 is negative (-1)"},
    {"elements overflow", HEAD(1, 0) "'t w3 q0x100000000 q0x100000000 q2 w0 q0", LQ_EFORMAT,
     "number of elements overflows"},
    {"bytes overflow", HEAD(1, 0) "'t w1 q0x4000000000000000 w0 q0", LQ_EFORMAT,
     "size in bytes overflows"},
    {"type 43", HEAD(1, 0) "'t w1 q32 w43 q0 | .32", LQ_EFORMAT, "tensor t: unknown type 43"},
    {"type < 0", HEAD(1, 0) "'t w1 q32 w0xffffffff q0 | .32", LQ_EFORMAT, "unknown type -1"},
    {"type removed", HEAD(1, 0) "'t w1 q32 w4 q0 | .32", LQ_EFORMAT, "unknown type 4"},
    {"row not whole blocks", HEAD(1, 0) "'t w1 q33 w2 q0 | .64", LQ_EFORMAT,
     "whole number of blocks of 32"},
    {"first offset", HEAD(1, 0) TENSOR("t", 32) "| .96", LQ_EFORMAT, "its offset is 32, must be 0"},
    {"gap", HEAD(2, 0) TENSOR("a", 0) TENSOR("b", 96) "| .192", LQ_EFORMAT,
     "its offset is 96, must be 64"},
    {"overlap", HEAD(2, 0) TENSOR("a", 0) TENSOR("b", 32) "| .128", LQ_EFORMAT,
     "tensor b: its offset is 32"},
    {"offset unpadded", HEAD(2, 0) "'a w1 q1 w0 q0 " TENSOR("b", 4) "| .128", LQ_EFORMAT,
     "is 4, must be 32"},
    {"sizes overflow",
     HEAD(2, 0) "'a w1 q0x1fffffffffffffff w0 q0 'b w1 q1 w0 q0x7ffffffffffffffc | .64", LQ_EFORMAT,
     "truncated: tensor a has 9223372036854775804 bytes"},
    {"duplicate tensor", HEAD(2, 0) TENSOR("t", 0) TENSOR("t", 64) "| .128", LQ_EFORMAT,
     "duplicate tensor t"},
    {"no data section", HEAD(1, 0) TENSOR("t", 0), LQ_EFORMAT, "data should start at"},
    {"data cut", HEAD(1, 0) TENSOR("t", 0) "| .63", LQ_EFORMAT, "truncated: tensor t has 64 bytes"},
    {"second tensor cut", HEAD(2, 0) TENSOR("a", 0) TENSOR("b", 64) "| .100", LQ_EFORMAT,
     "truncated: tensor b"},
    {"large tensor cut", HEAD(1, 0) "'t w2 q4096 q4096 w1 q0 | .4096", LQ_EFORMAT,
     "has 33554432 bytes"},
    {"inconsistent alignment",
     HEAD(2, 1) "'general.alignment w4 w64 "
                "'a w1 q1 w0 q0 " TENSOR("b", 32) "| .256",
     LQ_EFORMAT, "tensor b: its offset is 32, must be 64"},
};

START_TEST(malformed_files_are_refused) {
    lq_gguf *g = NULL;
    const lq_str file = assemble(malformed[_i].bytes);
    ck_fails(lq_gguf_open_memory(&g, lq_str_text(&file), file.n, "bad.gguf"), malformed[_i].status,
             malformed[_i].message);
    ck_assert_msg(strncmp(lq_error(), "bad.gguf: ", 10) == 0, "%s: '%s'", malformed[_i].what,
                  lq_error());
    ck_assert_ptr_null(g);
    lq_free(file.s);
}
END_TEST

static const struct { const char *what, *bytes; int64_t n_kv, n_tensors; } wellformed[] = {
    {"nothing in it", HEAD(0, 0), 0, 0},
    {"version 2", "=GGUF w2 q0 q1 'a w0 .1", 1, 0},
    {"no tensors, no padding", HEAD(0, 1) "'a w8 'text", 1, 0},
    {"scalar tensor", HEAD(1, 0) "'t w0 w0 q0 | .4", 0, 1},
    {"empty tensor", HEAD(2, 0) "'t w2 q8 q0 w0 q0 " TENSOR("b", 0) "| .64", 0, 2},
    {"last tensor not padded", HEAD(1, 1) ALIGN32 "'t w1 q1 w0 q0 | .4", 1, 1},
    {"a type that is only copied", HEAD(1, 0) "'t w1 q256 w16 q0 | .66", 0, 1},
    {"empty arrays", HEAD(0, 2) "'a w9 w8 q0 'b w9 w4 q0", 2, 0},
};

START_TEST(unusual_files_are_read) {
    lq_gguf *g = NULL;
    const lq_str file = assemble(wellformed[_i].bytes);
    ck_ok(lq_gguf_open_memory(&g, file.s, file.n, wellformed[_i].what));
    ck_assert_int_eq(lq_gguf_n_kv(g), wellformed[_i].n_kv);
    ck_assert_int_eq(lq_gguf_n_tensors(g), wellformed[_i].n_tensors);
    lq_gguf_close(g);
    lq_free(file.s);
}
END_TEST

/* ---- writing ---- */

static const float numbers[6] = {1, -2, 3.5F, 0, 1e-30F, 7};
static const double doubles[4 * 2] = {1, 2, 3, 254}; /* F64: a type that Loquat only copies */

static lq_status add_everything(lq_gguf_writer *w) {
    static const lq_gguf_str words[] = {{"a", 1}, {"", 0}, {"b\0c", 3}};
    static const int32_t types[] = {1, -2, 3};
    const int64_t ne[2] = {3, 2}, four[2] = {4, 2};
    LQ_TRY(lq_gguf_writer_set_string(w, "general.architecture", "llama"));
    LQ_TRY(lq_gguf_writer_set_u32(w, "n", 1));
    LQ_TRY(lq_gguf_writer_set_f32(w, "eps", 1e-5F));
    LQ_TRY(lq_gguf_writer_set_bool(w, "flag", true));
    LQ_TRY(lq_gguf_writer_set_strings(w, "words", words, 3));
    LQ_TRY(lq_gguf_writer_set_array(w, "types", LQ_GGUF_I32, types, 3));
    LQ_TRY(lq_gguf_writer_set_string(w, "gone", "x"));
    LQ_TRY(lq_gguf_writer_set_u32(w, "n", 2));
    lq_gguf_writer_remove(w, "gone");
    LQ_TRY(lq_gguf_writer_add(w, "t", lq_f32.ggml_id, 2, ne, numbers, sizeof numbers));
    return lq_gguf_writer_add(w, "copied", 28, 2, four, doubles, sizeof doubles);
}

static lq_status write_everything(const char *path) {
    lq_gguf_writer *w = NULL;
    lq_status status = lq_gguf_writer_new(&w);
    if (status == LQ_OK) status = add_everything(w);
    if (status == LQ_OK) status = lq_gguf_writer_write(w, path);
    lq_gguf_writer_free(w);
    return status;
}

static void check_everything(const char *path) {
    lq_gguf *g = NULL;
    uint32_t n = 0;
    float eps = 0;
    bool flag = false;
    char *text = NULL;
    ck_ok(lq_gguf_open(&g, path));
    ck_ok(lq_gguf_get_u32(g, "n", true, &n));
    ck_ok(lq_gguf_get_f32(g, "eps", true, &eps));
    ck_ok(lq_gguf_get_bool(g, "flag", true, &flag));
    ck_ok(lq_gguf_get_string(g, "general.architecture", true, &text));
    ck_assert_uint_eq(n, 2);
    ck_assert(eps == 1e-5F && flag);
    ck_assert_str_eq(text, "llama");
    lq_free(text);
    ck_assert_str_eq(lq_gguf_kv_at(g, 1)->key, "n"); /* replaced where it was */
    ck_assert_ptr_null(lq_gguf_find(g, "gone"));
    const lq_gguf_str *words = lq_gguf_find(g, "words")->data;
    ck_assert_uint_eq(lq_gguf_find(g, "words")->n, 3);
    ck_assert(words[2].n == 3 && memcmp(words[2].s, "b\0c", 3) == 0);
    const lq_gguf_tensor *t = lq_gguf_find_tensor(g, "t"),
                         *copied = lq_gguf_find_tensor(g, "copied");
    ck_assert_ptr_eq(t->fmt, &lq_f32);
    ck_assert(t->ndim == 2 && t->ne[0] == 3 && t->ne[1] == 2 && t->ne[2] == 1);
    ck_assert_mem_eq(t->data, numbers, sizeof numbers);
    ck_assert_ptr_null(copied->fmt);
    ck_assert_int_eq(copied->ggml_type, 28);
    ck_assert_mem_eq(copied->data, doubles, sizeof doubles);
    lq_gguf_close(g);
}

START_TEST(written_files_read_back) {
    const char *path = test_path("written.gguf");
    ck_ok(write_everything(path));
    check_everything(path);
}
END_TEST

START_TEST(metadata_is_copied_verbatim) {
    const char *from = test_path("from.gguf"), *to = test_path("to.gguf");
    lq_gguf *g = NULL;
    lq_gguf_writer *w = NULL;
    char *a = NULL, *b = NULL;
    size_t na, nb;
    ck_ok(write_everything(from));
    ck_ok(lq_gguf_open(&g, from));
    ck_ok(lq_gguf_writer_new(&w));
    ck_ok(lq_gguf_writer_copy_kv(w, g));
    for (int64_t i = 0; i < lq_gguf_n_tensors(g); i++) {
        const lq_gguf_tensor *t = lq_gguf_tensor_at(g, i);
        ck_ok(lq_gguf_writer_add(w, t->name, t->ggml_type, t->ndim, t->ne, t->data, t->bytes));
    }
    ck_ok(lq_gguf_writer_write(w, to));
    ck_ok(lq_read_file(&a, &na, from));
    ck_ok(lq_read_file(&b, &nb, to));
    ck_assert_uint_eq(na, nb);
    ck_assert_mem_eq(a, b, na);
    lq_free(a);
    lq_free(b);
    lq_gguf_writer_free(w);
    lq_gguf_close(g);
}
END_TEST

START_TEST(other_alignments_are_kept) {
    const char *path = test_path("aligned.gguf");
    lq_gguf_writer *w = NULL;
    lq_gguf *g = NULL;
    ck_ok(lq_gguf_writer_new(&w));
    ck_ok(add_everything(w));
    ck_ok(lq_gguf_writer_set_u32(w, "general.alignment", 256));
    ck_ok(lq_gguf_writer_write(w, path));
    ck_ok(lq_gguf_open(&g, path));
    ck_assert_uint_eq(lq_gguf_find_tensor(g, "copied")->offset, 256);
    ck_assert_mem_eq(lq_gguf_find_tensor(g, "copied")->data, doubles, sizeof doubles);
    lq_gguf_close(g);
    ck_ok(lq_gguf_writer_set_u32(w, "general.alignment", 24));
    ck_fails(lq_gguf_writer_write(w, path), LQ_EVALUE, "power of two");
    lq_gguf_writer_free(w);
}
END_TEST

START_TEST(typed_access_is_strict) {
    const lq_str file = assemble(HEAD(0, 2) "'a w5 w1 'b w9 w4 q1 w1");
    lq_gguf *g = NULL;
    uint32_t u = 77;
    float f;
    bool flag;
    char *text;
    ck_ok(lq_gguf_open_memory(&g, file.s, file.n, "typed"));
    ck_fails(lq_gguf_get_u32(g, "a", true, &u), LQ_EFORMAT, "key a is of type i32, must be u32");
    ck_fails(lq_gguf_get_f32(g, "b", false, &f), LQ_EFORMAT, "key b is of type array, must be f32");
    ck_fails(lq_gguf_get_bool(g, "a", false, &flag), LQ_EFORMAT, "must be bool");
    ck_fails(lq_gguf_get_string(g, "c", true, &text), LQ_EFORMAT, "key c is missing");
    ck_ok(lq_gguf_get_u32(g, "c", false, &u));
    ck_assert_uint_eq(u, 77);
    lq_gguf_close(g);
    lq_free(file.s);
}
END_TEST

START_TEST(wrong_tensors_are_not_written) {
    lq_gguf_writer *w = NULL;
    const int64_t ne[2] = {3, 2};
    char name[65] = "";
    memset(name, 'x', 64);
    ck_ok(lq_gguf_writer_new(&w));
    ck_fails(lq_gguf_writer_add(w, name, 0, 2, ne, numbers, 24), LQ_EVALUE, "1 to 63 bytes");
    ck_fails(lq_gguf_writer_add(w, "t", 0, 5, ne, numbers, 24), LQ_EVALUE, "5 dimensions");
    ck_fails(lq_gguf_writer_add(w, "t", 0, 2, ne, numbers, 20), LQ_EVALUE,
             "20 bytes given, its type and sizes make 24");
    ck_fails(lq_gguf_writer_add(w, "t", 2, 2, ne, numbers, 24), LQ_EFORMAT, "blocks of 32");
    ck_ok(lq_gguf_writer_add(w, "t", 0, 2, ne, numbers, 24));
    ck_fails(lq_gguf_writer_add(w, "t", 0, 2, ne, numbers, 24), LQ_EVALUE, "added twice");
    lq_gguf_writer_free(w);
}
END_TEST

START_TEST(every_truncation_is_noticed) {
    const char *path = test_path("whole.gguf");
    char *bytes = NULL;
    size_t n;
    ck_ok(write_everything(path));
    ck_ok(lq_read_file(&bytes, &n, path));
    const size_t needed = n - (32 - sizeof doubles % 32); /* the last padding is not required */
    for (size_t cut = 0; cut < needed; cut++) {
        lq_gguf *g = NULL;
        char *part = lq_alloc(cut); /* its own block, so that ASan sees a read behind the end */
        memcpy(part, bytes, cut);
        ck_fails(lq_gguf_open_memory(&g, part, cut, "cut"), LQ_EFORMAT, "cut: ");
        lq_free(part);
    }
    lq_free(bytes);
}
END_TEST

START_TEST(unreadable_paths_are_named) {
    lq_gguf *g = NULL;
    const char *empty = test_path("empty.gguf");
    ck_fails(lq_gguf_open(&g, "/no/such/file.gguf"), LQ_EIO, "/no/such/file.gguf: No such file");
    ck_fails(lq_gguf_open(&g, "/tmp"), LQ_EIO, "/tmp: not a file");
    ck_ok(lq_write_file(empty, "", 0));
    ck_fails(lq_gguf_open(&g, empty), LQ_EFORMAT, "the file is empty");
}
END_TEST

/* A limit on file sizes stands for a full disk: fwrite fails half-way. */
START_TEST(full_disk_keeps_the_old_file) {
    const char *path = test_path("full.gguf"), *tmp = test_path("full.gguf.tmp");
    ck_ok(write_everything(path));
    struct rlimit old, small;
    getrlimit(RLIMIT_FSIZE, &old);
    small = (struct rlimit){100, old.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    const lq_status status = write_everything(path);
    setrlimit(RLIMIT_FSIZE, &old);
    ck_assert_int_eq(status, LQ_EIO);
    ck_assert_msg(test_contains(lq_error(), "full.gguf: File too large"), "%s", lq_error());
    ck_assert(!lq_file_exists(tmp));
    check_everything(path);
}
END_TEST

static lq_status write_and_read(void *ctx) {
    const char *path = ctx;
    lq_gguf *g = NULL;
    LQ_TRY(write_everything(path));
    LQ_TRY(lq_gguf_open(&g, path));
    lq_gguf_close(g);
    return LQ_OK;
}

START_TEST(failed_allocations_are_clean) {
    test_alloc_failures(write_and_read, (void *)test_path("alloc.gguf"));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("gguf");
    TCase *tc = tcase_create("gguf");
    tcase_add_loop_test(tc, malformed_files_are_refused, 0, LQ_ARRAY_LEN(malformed));
    tcase_add_loop_test(tc, unusual_files_are_read, 0, LQ_ARRAY_LEN(wellformed));
    tcase_add_test(tc, written_files_read_back);
    tcase_add_test(tc, metadata_is_copied_verbatim);
    tcase_add_test(tc, other_alignments_are_kept);
    tcase_add_test(tc, typed_access_is_strict);
    tcase_add_test(tc, wrong_tensors_are_not_written);
    tcase_add_test(tc, every_truncation_is_noticed);
    tcase_add_test(tc, unreadable_paths_are_named);
    tcase_add_test(tc, full_disk_keeps_the_old_file);
    tcase_add_test(tc, failed_allocations_are_clean);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
