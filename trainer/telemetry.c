/* See telemetry.h. Tensors of one name and type, over all layers, are one kind: attn_q.Q4_0. */
#include "json_text.h"
#include "telemetry.h"

#include <math.h>
#include <string.h>

enum { MAX_KINDS = 64, NAME = 48 };

typedef struct kind {
    char name[NAME];           /* "attn_q" */
    const lq_format *fmt;
    bool rebuilt;              /* else quantized once */
    int64_t weights;
    lq_watch_sums sums;
} kind;

typedef struct kinds { kind v[MAX_KINDS]; int n; } kinds;

/* blk.3.attn_q.weight -> attn_q; token_embd.weight -> token_embd */
static void kind_name(char out[NAME], const char *tensor) {
    const char *start = tensor;
    if (strncmp(tensor, "blk.", 4) == 0 && strchr(tensor + 4, '.'))
        start = strchr(tensor + 4, '.') + 1;
    const char *dot = strrchr(start, '.');
    const int n = dot ? (int)(dot - start) : (int)strlen(start);
    snprintf(out, NAME, "%.*s", n, start);
}

static kind *find(kinds *k, const char *name, const lq_patch *patch) {
    for (int i = 0; i < k->n; i++)
        if (strcmp(k->v[i].name, name) == 0 && k->v[i].fmt == patch->fmt &&
            k->v[i].rebuilt == patch->merged)
            return &k->v[i];
    if (k->n == MAX_KINDS) return NULL;
    kind *new = &k->v[k->n++];
    *new = (kind){.fmt = patch->fmt, .rebuilt = patch->merged};
    snprintf(new->name, NAME, "%s", name);
    return new;
}

static void gather(kinds *k, const lq_adapter *a) {
    k->n = 0;
    for (int i = 0; a->watched && i < a->model->n_weights; i++) {
        const lq_weight *w = &a->model->weight[i];
        char name[NAME];
        if (!(a->watched[i].norm > 0)) continue;
        kind_name(name, w->name);
        kind *one = find(k, name, &a->patch[i]);
        if (!one) continue;
        one->weights += w->rows * w->cols;
        lq_watch_add(&one->sums, &a->watched[i]);
    }
}

static void put_number(lq_str *line, const char *key, double value) {
    if (isfinite(value)) lq_str_printf(line, "\"%s\": %.6g", key, value);
    else lq_str_printf(line, "\"%s\": null", key);
}

void lq_telemetry_line(const lq_adapter *a, lq_str *line) {
    kinds k;
    lq_watch_sums all = {0};
    gather(&k, a);
    for (int i = 0; i < k.n; i++)
        if (k.v[i].rebuilt) lq_watch_add(&all, &k.v[i].sums);
    if (!(all.norm > 0)) return;
    lq_str_puts(line, ", ");
    put_number(line, "codes_changed", lq_watch_changed(&all));
    lq_str_puts(line, ", ");
    put_number(line, "codes_saturated", lq_watch_saturated(&all));
    lq_str_puts(line, ", ");
    put_number(line, "weight_distance", lq_watch_distance(&all));
    lq_str_puts(line, ", \"codes_changed_by_tensor\": {");
    const char *comma = "";
    for (int i = 0; i < k.n; i++) {
        char key[NAME + 16];
        if (!k.v[i].rebuilt || !k.v[i].sums.codes) continue;
        snprintf(key, sizeof key, "%s.%s", k.v[i].name, k.v[i].fmt->label);
        lq_str_puts(line, comma);
        put_number(line, key, lq_watch_changed(&k.v[i].sums));
        comma = ", ";
    }
    lq_str_puts(line, "}");
}

json_t *lq_telemetry_json(const lq_adapter *a) {
    kinds k;
    json_t *list = json_array();
    gather(&k, a);
    for (int i = 0; i < k.n && list; i++) {
        const kind *one = &k.v[i];
        json_t *item = json_pack("{s:s, s:s, s:I, s:o, s:o}", "tensor", one->name, "type",
                                 one->fmt->label, "weights", (json_int_t)one->weights, "saturated",
                                 lq_json_number(lq_watch_saturated(&one->sums)), "distance",
                                 lq_json_number(lq_watch_distance(&one->sums)));
        if (json_array_append_new(list, item) == 0) continue;
        json_decref(list);
        list = NULL;
    }
    return list;
}
