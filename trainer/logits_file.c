/* See logits_file.h. */
#include "logits_file.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>

static const char MAGIC[8] = "_logits_";

/* u16 elements of one row: two floats, then the codes padded to an even count. */
static int64_t row_codes(int64_t n_vocab) { return 2 * ((n_vocab + 1) / 2) + 4; }

static lq_status put(lq_logits_writer *w, const void *data, size_t bytes) {
    if (fwrite(data, 1, bytes, w->file.f) == bytes) return LQ_OK;
    return lq_fail(LQ_EIO, "%s: %s", w->file.path, strerror(errno));
}

lq_status lq_logits_create(lq_logits_writer *w, const char *path, int64_t n_ctx, int64_t n_vocab,
                           int64_t n_chunk, const int32_t *tokens) {
    const int32_t header[3] = {(int32_t)n_ctx, (int32_t)n_vocab, (int32_t)n_chunk};
    lq_status status = LQ_OK;
    *w = (lq_logits_writer){.n_vocab = n_vocab};
    w->row = lq_alloc_array(row_codes(n_vocab), sizeof *w->row);
    LQ_GOTO(status, w->row ? LQ_OK : LQ_EMEM);
    LQ_GOTO(status, lq_atomic_open(&w->file, path));
    LQ_GOTO(status, put(w, MAGIC, sizeof MAGIC));
    LQ_GOTO(status, put(w, header, sizeof header));
    LQ_GOTO(status, put(w, tokens, (size_t)(n_ctx * n_chunk) * sizeof *tokens));
done:
    if (status != LQ_OK) lq_logits_abort(w);
    return status;
}

lq_status lq_logits_write(lq_logits_writer *w, const float *logits) {
    const int64_t V = w->n_vocab;
    float max = logits[0], min = logits[0];
    for (int64_t i = 1; i < V; i++) {
        if (logits[i] > max) max = logits[i];
        if (logits[i] < min) min = logits[i];
    }
    if (min < max - 16) min = max - 16;
    double sum = 0;
    for (int64_t i = 0; i < V; i++) sum += (double)expf(logits[i] - max);
    const float scale = (max - min) / 65535.0f, min_log_p = min - max - logf((float)sum);
    const float inverse = scale > 0 ? 1 / scale : 0;
    memcpy(w->row, &scale, sizeof scale);
    memcpy(w->row + 2, &min_log_p, sizeof min_log_p);
    for (int64_t i = 0; i < V; i++)
        w->row[4 + i] = logits[i] > min ? (uint16_t)nearbyintf((logits[i] - min) * inverse) : 0;
    return put(w, w->row, (size_t)row_codes(V) * sizeof *w->row);
}

lq_status lq_logits_commit(lq_logits_writer *w) {
    const lq_status status = lq_atomic_commit(&w->file);
    lq_free(w->row);
    w->row = NULL;
    return status;
}

void lq_logits_abort(lq_logits_writer *w) {
    lq_atomic_abort(&w->file);
    lq_free(w->row);
    w->row = NULL;
}

static lq_status get(lq_logits_reader *r, void *data, size_t bytes) {
    if (fread(data, 1, bytes, r->f) == bytes) return LQ_OK;
    return lq_fail(LQ_EFORMAT, "%s: ends too early for its %lld chunks of %lld tokens", r->path,
                   (long long)r->n_chunk, (long long)r->n_ctx);
}

static lq_status check_header(lq_logits_reader *r, const char magic[8], const int32_t header[3]) {
    if (memcmp(magic, MAGIC, sizeof MAGIC) != 0)
        return lq_fail(LQ_EFORMAT, "%s: is not a logits file", r->path);
    r->n_ctx = header[0];
    r->n_vocab = header[1];
    r->n_chunk = header[2];
    if (r->n_ctx < 3 || r->n_vocab < 1 || r->n_chunk < 1 || r->n_ctx > 1 << 24 ||
        r->n_chunk > 1 << 24)
        return lq_fail(LQ_EFORMAT, "%s: context %d, vocabulary %d, chunks %d make no sense",
                       r->path, header[0], header[1], header[2]);
    return LQ_OK;
}

/* Before anything is computed: does the file hold all the rows that its header promises? */
static lq_status check_length(const lq_logits_reader *r) {
    const int64_t rows = r->n_ctx - 1 - r->n_ctx / 2, header = ftell(r->f);
    struct stat found;
    if (fstat(fileno(r->f), &found) != 0)
        return lq_fail(LQ_EIO, "%s: %s", r->path, strerror(errno));
    const double chunk = (double)r->n_ctx * sizeof *r->tokens +
                         (double)rows * (double)row_codes(r->n_vocab) * sizeof *r->row;
    const double wanted = (double)header + (double)r->n_chunk * chunk;
    if ((double)found.st_size >= wanted) return LQ_OK;
    return lq_fail(LQ_EFORMAT,
                   "%s: ends too early: %lld bytes, wanted %.0f for %lld chunks of %lld tokens",
                   r->path, (long long)found.st_size, wanted, (long long)r->n_chunk,
                   (long long)r->n_ctx);
}

lq_status lq_logits_open(lq_logits_reader *r, const char *path) {
    char magic[8] = "";
    int32_t header[3] = {0};
    lq_status status = LQ_OK;
    *r = (lq_logits_reader){.path = lq_strdup(path)};
    LQ_GOTO(status, r->path ? LQ_OK : LQ_EMEM);
    r->f = fopen(path, "rb");
    LQ_GOTO(status, r->f ? LQ_OK : lq_fail(LQ_EIO, "%s: %s", path, strerror(errno)));
    LQ_GOTO(status, get(r, magic, sizeof magic));
    LQ_GOTO(status, get(r, header, sizeof header));
    LQ_GOTO(status, check_header(r, magic, header));
    LQ_GOTO(status, check_length(r));
    r->tokens = lq_alloc_array(r->n_ctx * r->n_chunk, sizeof *r->tokens);
    r->row = lq_alloc_array(row_codes(r->n_vocab), sizeof *r->row);
    LQ_GOTO(status, r->tokens && r->row ? LQ_OK : LQ_EMEM);
    LQ_GOTO(status, get(r, r->tokens, (size_t)(r->n_ctx * r->n_chunk) * sizeof *r->tokens));
done:
    if (status != LQ_OK) lq_logits_close(r);
    return status;
}

lq_status lq_logits_read(lq_logits_reader *r, float *log_p) {
    float scale, min_log_p;
    LQ_TRY(get(r, r->row, (size_t)row_codes(r->n_vocab) * sizeof *r->row));
    memcpy(&scale, r->row, sizeof scale);
    memcpy(&min_log_p, r->row + 2, sizeof min_log_p);
    for (int64_t i = 0; i < r->n_vocab; i++) log_p[i] = scale * (float)r->row[4 + i] + min_log_p;
    return LQ_OK;
}

void lq_logits_close(lq_logits_reader *r) {
    if (r->f) fclose(r->f);
    lq_free(r->path);
    lq_free(r->tokens);
    lq_free(r->row);
    *r = (lq_logits_reader){0};
}
