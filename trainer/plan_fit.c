/* Which settings would make a run fit into memory. Tried in the order of what they cost: a smaller
 * micro-batch only time, checkpointing a second forward pass, then rank and length, which change
 * what is learned. */
#include "atomic_file.h"
#include "plan_parts.h"

#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

enum { SMALL_RANK = 8, SHORT_SEQUENCE = 256 };

/* Changes c and says how; NULL: there is nothing to change. The caller's. */
typedef char *(*change)(lq_config *c);

static char *smaller_batch(lq_config *c) {
    if (c->micro_batch_size <= 1) return NULL;
    c->gradient_accumulation_steps *= c->micro_batch_size;
    c->micro_batch_size = 1;
    return lq_sprintf("micro_batch_size: 1, gradient_accumulation_steps: %lld",
                      (long long)c->gradient_accumulation_steps);
}

static char *checkpointing(lq_config *c) {
    if (c->gradient_checkpointing) return NULL;
    c->gradient_checkpointing = true;
    return lq_strdup("gradient_checkpointing: true");
}

static char *smaller_rank(lq_config *c) {
    if (c->lora_r <= SMALL_RANK) return NULL;
    c->lora_alpha *= (double)SMALL_RANK / (double)c->lora_r;
    c->lora_r = SMALL_RANK;
    return lq_sprintf("lora_r: %d, lora_alpha: %g", SMALL_RANK, c->lora_alpha);
}

static char *shorter_sequences(lq_config *c) {
    if (c->sequence_len <= SHORT_SEQUENCE) return NULL;
    c->sequence_len = c->sequence_len / 2 > SHORT_SEQUENCE ? c->sequence_len / 2 : SHORT_SEQUENCE;
    return lq_sprintf("sequence_len: %lld", (long long)c->sequence_len);
}

static const change changes_in_order[] = {smaller_batch,     checkpointing,     smaller_rank,
                                          shorter_sequences, shorter_sequences, shorter_sequences};

static lq_status try_change(json_t *list, const char *set, size_t *peak, const lq_config *c,
                            lq_dev *dev, lq_model *m, const lq_prepared *data) {
    lq_run_plan p;
    LQ_TRY(lq_plan_estimate(&p, dev, c, m, data));
    if (p.peak >= *peak) return LQ_OK; /* it does not help here */
    *peak = p.peak;
    json_t *one = json_pack("{s:s, s:I}", "set", set, "peak_bytes", (json_int_t)p.peak);
    return one && json_array_append_new(list, one) == 0 ? LQ_OK
                                                        : lq_fail(LQ_EMEM, "plan: out of memory");
}

lq_status lq_plan_fit(json_t **changes, bool *fits, size_t memory, lq_dev *dev, lq_config *c,
                      lq_model *m, const lq_prepared *data, const lq_run_plan *as_is) {
    size_t peak = as_is->peak;
    lq_status status = LQ_OK;
    *changes = json_array();
    if (!*changes) return lq_fail(LQ_EMEM, "plan: out of memory");
    for (int i = 0; i < LQ_ARRAY_LEN(changes_in_order) && peak > memory && status == LQ_OK; i++) {
        char *set = changes_in_order[i](c);
        if (set) status = try_change(*changes, set, &peak, c, dev, m, data);
        lq_free(set);
    }
    *fits = peak <= memory;
    return status;
}

/* ---- how much there is ---- */

static lq_status machine_memory(size_t *out) {
    char *text = NULL;
    size_t n;
    *out = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
    if (!lq_file_exists("/sys/fs/cgroup/memory.max")) return LQ_OK;
    LQ_TRY(lq_read_file(&text, &n, "/sys/fs/cgroup/memory.max"));
    const unsigned long long limit = strtoull(text, NULL, 10); /* "max": 0 */
    if (limit > 0 && limit < *out) *out = (size_t)limit;
    lq_free(text);
    return LQ_OK;
}

lq_status lq_plan_memory(size_t *out, lq_dev *dev, const char *text) {
    static const struct { const char *name; double bytes; } units[] = {
        {"", 1}, {"K", 1e3}, {"M", 1e6}, {"G", 1e9}, {"T", 1e12}, {"KB", 1e3}, {"MB", 1e6},
        {"GB", 1e9}, {"TB", 1e12}, {"KiB", 1024}, {"MiB", 1048576}, {"GiB", 1073741824},
    };
    size_t total;
    if (!text && dev->id != LQ_CPU) return dev->row->memory(dev, out, &total);
    if (!text) return machine_memory(out);
    char *end;
    const double n = strtod(text, &end);
    for (int i = 0; i < LQ_ARRAY_LEN(units); i++) {
        if (end == text || strcasecmp(end, units[i].name) != 0 || !(n > 0 && n < 1e15)) continue;
        *out = (size_t)(n * units[i].bytes);
        return LQ_OK;
    }
    return lq_fail(LQ_ECONFIG,
                   "memory: found '%s', wanted a number of bytes, as 4G, 512M or 3.5GiB", text);
}
