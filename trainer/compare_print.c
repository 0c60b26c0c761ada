/* The table of compare.h as text, CSV, Markdown and JSON. Of several seeds a column is the mean
 * and, where it can vary, the standard deviation. */
#include "compare.h"

#include "json_text.h"

#include <math.h>
#include <string.h>

enum { CELL = 80 };

typedef struct column {
    const char *title, *key;
    size_t at;               /* in lq_compare_cell: a double */
    int decimals;
} column;

static const column columns[] = {
    {"loss", "loss", offsetof(lq_compare_cell, loss), 4},
    {"KL", "kl_divergence", offsetof(lq_compare_cell, kl), 5},
    {"same top", "same_top", offsetof(lq_compare_cell, same_top), 4},
    {"exact match", "exact_match", offsetof(lq_compare_cell, exact_match), 3},
    {"bytes", "bytes", offsetof(lq_compare_cell, bytes), 0},
    {"seconds", "seconds", offsetof(lq_compare_cell, seconds), 1},
};

static double value(const lq_compare_cell *cell, const column *c) {
    double v;
    memcpy(&v, (const char *)cell + c->at, sizeof v);
    return v;
}

static double mean(const lq_compare_row *r, const column *c) {
    double sum = 0;
    for (int64_t i = 0; i < r->n; i++) sum += value(&r->cell[i], c);
    return sum / (double)r->n;
}

/* Over seeds, with n - 1; NaN for one. */
static double deviation(const lq_compare_row *r, const column *c) {
    const double m = mean(r, c);
    double sum = 0;
    for (int64_t i = 0; i < r->n; i++) sum += pow(value(&r->cell[i], c) - m, 2);
    return r->n > 1 ? sqrt(sum / (double)(r->n - 1)) : NAN;
}

/* ---- for people ------------------------------------------------------------------------------ */

static bool is_empty(const lq_compare_table *t, const column *c) {
    for (int64_t i = 0; i < t->n; i++)
        if (isfinite(mean(&t->row[i], c))) return false;
    return true;
}

static void cell_text(char out[CELL], const lq_compare_row *r, const column *c) {
    const double m = mean(r, c), sd = deviation(r, c);
    if (!isfinite(m)) snprintf(out, CELL, "-");
    else if (!isfinite(sd) || c->decimals == 0) snprintf(out, CELL, "%.*f", c->decimals, m);
    else snprintf(out, CELL, "%.*f +- %.*f", c->decimals, m, c->decimals, sd);
}

static void difference_text(char out[CELL], const lq_compare_table *t, int64_t row) {
    const lq_interval *d = &t->row[row].interval;
    if (row == t->baseline) snprintf(out, CELL, "baseline");
    else snprintf(out, CELL, "%+.4f [%+.4f, %+.4f]", d->difference, d->low, d->high);
}

/* Column j of row i (-1: the title) as text; false: there is no such column. */
static bool text_at(char out[CELL], const lq_compare_table *t, int64_t i, int j) {
    const bool title = i < 0;
    if (j == 0) snprintf(out, CELL, "%s", title ? "run" : t->row[i].name);
    else if (j == 1 && title) snprintf(out, CELL, "seeds");
    else if (j == 1) snprintf(out, CELL, "%lld", (long long)t->row[i].n);
    else if (j == 3 && title) snprintf(out, CELL, "difference, 95 %%");
    else if (j == 3) difference_text(out, t, i);
    else {
        const int k = j < 3 ? j - 2 : j - 3;
        if (k >= LQ_ARRAY_LEN(columns)) return false;
        if (is_empty(t, &columns[k])) *out = 0;
        else if (title) snprintf(out, CELL, "%s", columns[k].title);
        else cell_text(out, &t->row[i], &columns[k]);
    }
    return true;
}

static int width_of(const lq_compare_table *t, int j) {
    char text[CELL];
    int width = 0;
    for (int64_t i = -1; i < t->n; i++)
        if (text_at(text, t, i, j) && (int)strlen(text) > width) width = (int)strlen(text);
    return width;
}

static void print_aligned(const lq_compare_table *t, bool markdown, lq_str *out) {
    char text[CELL];
    for (int64_t i = -1; i < t->n; i++) {
        for (int j = 0; text_at(text, t, i, j); j++) {
            const int width = width_of(t, j);
            if (width) lq_str_printf(out, "%s%-*s", markdown ? "| " : j ? "  " : "", width, text);
            if (width && markdown) lq_str_putc(out, ' ');
        }
        lq_str_puts(out, markdown ? "|\n" : "\n");
        if (i >= 0 || !markdown) continue;
        for (int j = 0; text_at(text, t, i, j); j++)
            if (width_of(t, j)) lq_str_puts(out, "|-");
        lq_str_puts(out, "|\n");
    }
}

static lq_status print_text(const lq_compare_table *t, lq_str *out) {
    print_aligned(t, false, out);
    lq_str_printf(out,
                  "%lld examples, %lld scored tokens; loss in nats per token; difference of the "
                  "loss from '%s'\n",
                  (long long)t->n_examples, (long long)t->n_tokens,
                  t->row[t->baseline].name);
    return lq_str_status(out);
}

static lq_status print_markdown(const lq_compare_table *t, lq_str *out) {
    print_aligned(t, true, out);
    return lq_str_status(out);
}

/* ---- for programs ---------------------------------------------------------------------------- */

static void csv_number(lq_str *out, double x) {
    if (isfinite(x)) lq_str_printf(out, ",%.9g", x);
    else lq_str_putc(out, ',');
}

static void csv_text(lq_str *out, const char *text) {
    lq_str_putc(out, '"');
    for (; *text; text++) {
        if (*text == '"') lq_str_putc(out, '"');
        lq_str_putc(out, *text);
    }
    lq_str_putc(out, '"');
}

static lq_status print_csv(const lq_compare_table *t, lq_str *out) {
    lq_str_puts(out, "run,seeds,difference,difference_low,difference_high");
    for (int j = 0; j < LQ_ARRAY_LEN(columns); j++)
        lq_str_printf(out, ",%s,%s_sd", columns[j].key, columns[j].key);
    lq_str_putc(out, '\n');
    for (int64_t i = 0; i < t->n; i++) {
        const lq_compare_row *r = &t->row[i];
        csv_text(out, r->name);
        lq_str_printf(out, ",%lld", (long long)r->n);
        csv_number(out, r->interval.difference);
        csv_number(out, r->interval.low);
        csv_number(out, r->interval.high);
        for (int j = 0; j < LQ_ARRAY_LEN(columns); j++) {
            csv_number(out, mean(r, &columns[j]));
            csv_number(out, deviation(r, &columns[j]));
        }
        lq_str_putc(out, '\n');
    }
    return lq_str_status(out);
}

static json_t *row_json(const lq_compare_row *r) {
    json_t *seeds = json_array();
    for (int64_t i = 0; i < r->n; i++) json_array_append_new(seeds, json_integer(r->cell[i].seed));
    json_t *o = json_pack("{s:s, s:o, s:o, s:o, s:o}", "run", r->name, "seeds", seeds, "difference",
                          lq_json_number(r->interval.difference), "difference_low",
                          lq_json_number(r->interval.low), "difference_high",
                          lq_json_number(r->interval.high));
    for (int j = 0; o && j < LQ_ARRAY_LEN(columns); j++) {
        char key[CELL];
        snprintf(key, sizeof key, "%s_sd", columns[j].key);
        json_object_set_new(o, columns[j].key, lq_json_number(mean(r, &columns[j])));
        json_object_set_new(o, key, lq_json_number(deviation(r, &columns[j])));
    }
    return o;
}

static lq_status print_json(const lq_compare_table *t, lq_str *out) {
    json_t *rows = json_array();
    for (int64_t i = 0; i < t->n; i++) json_array_append_new(rows, row_json(&t->row[i]));
    json_t *o = json_pack("{s:I, s:I, s:s, s:o}", "examples", (json_int_t)t->n_examples, "tokens",
                          (json_int_t)t->n_tokens, "baseline", t->row[t->baseline].name, "rows",
                          rows);
    const bool whole = json_array_size(rows) == (size_t)t->n;
    const lq_status status = whole ? lq_json_print(out, o, JSON_INDENT(2) | JSON_REAL_PRECISION(10))
                                   : LQ_EMEM;
    lq_str_putc(out, '\n');
    json_decref(o);
    return status == LQ_OK ? lq_str_status(out) : status;
}

lq_status lq_compare_print(const lq_compare_table *t, loquat_table_format format, lq_str *out) {
    static lq_status (*const print[])(const lq_compare_table *t, lq_str *out) = {
        [LOQUAT_TABLE_TEXT] = print_text, [LOQUAT_TABLE_CSV] = print_csv,
        [LOQUAT_TABLE_MARKDOWN] = print_markdown, [LOQUAT_TABLE_JSON] = print_json};
    return print[format](t, out);
}
