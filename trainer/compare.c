/* loquat_compare: every run's model, and every rounding of the plain ones, on the same held-out
 * data. The divergence is from the plain run of the same seed, so it shows quantization alone. */
#include "compare.h"

#include "exact_match.h"
#include "example_scores.h"
#include "export.h"
#include "types.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

typedef struct comparison {
    const loquat_compare_options *o;
    lq_compare_run *run; int n;
    loquat_model *first;         /* whose vocabulary the data is in */
    loquat_model *reference;     /* --reference; NULL: the plain run of the same seed */
    lq_dataset data;
    lq_compare_table table;
} comparison;

static void table_clear(lq_compare_table *t) {
    for (int64_t i = 0; i < t->n; i++) {
        for (int64_t k = 0; k < t->row[i].n; k++) lq_free(t->row[i].cell[k].nll);
        lq_free(t->row[i].cell);
        lq_free(t->row[i].name);
    }
    lq_free(t->row);
    lq_free(t->tokens);
    *t = (lq_compare_table){0};
}

static void comparison_clear(comparison *c) {
    for (int i = 0; i < c->n; i++) lq_compare_run_clear(&c->run[i]);
    lq_free(c->run);
    loquat_model_close(c->first);
    loquat_model_close(c->reference);
    lq_dataset_clear(&c->data);
    table_clear(&c->table);
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* The row's name: as given; of one run its path; of several what their paths share: "out/plain-*".
 */
static char *group_name(const comparison *c, int group) {
    const lq_compare_run *first = &c->run[group];
    const size_t n_first = strlen(first->path);
    size_t head = n_first, tail = n_first, n;
    bool several = false;
    if (first->name) return lq_strdup(first->name);
    for (int i = group + 1; i < c->n; i++) {
        const char *path = c->run[i].path;
        if (c->run[i].group != group) continue;
        several = true;
        for (n = 0; n < head && path[n] == first->path[n];) n++;
        head = n;
        const size_t length = strlen(path);
        for (n = 0; n < tail && n + head < length && n + head < n_first &&
                    path[length - 1 - n] == first->path[n_first - 1 - n];)
            n++;
        tail = n;
    }
    return several ? lq_sprintf("%.*s*%s", (int)head, first->path, first->path + n_first - tail)
                   : lq_strdup(first->path);
}

static lq_status find_row(comparison *c, int group, const char *variant, lq_compare_row **out) {
    lq_compare_table *t = &c->table;
    for (int64_t i = 0; i < t->n; i++)
        if (t->row[i].group == group && strcmp(t->row[i].variant, variant) == 0) {
            *out = &t->row[i];
            return LQ_OK;
        }
    LQ_TRY(lq_reserve((void **)&t->row, &t->cap, t->n + 1, sizeof *t->row));
    char *name = group_name(c, group);
    *out = &t->row[t->n];
    **out = (lq_compare_row){.group = group, .variant = variant};
    (*out)->name = name && *variant ? lq_sprintf("%s %s", name, variant) : name;
    if (name && *variant) lq_free(name);
    if (!(*out)->name) return LQ_EMEM;
    t->n++;
    return LQ_OK;
}

/* ---- one model on the data ------------------------------------------------------------------- */

static lq_status score(const comparison *c, loquat_model *s, loquat_model *reference,
                       lq_compare_cell *cell) {
    const lq_compare_table *t = &c->table;
    lq_divergence d = {0};
    lq_divergence_summary kl;
    lq_status status = LQ_OK;
    double nll = 0;
    LQ_GOTO(status, lq_session_same_vocabulary(c->first, s));
    if (reference) LQ_GOTO(status, lq_session_same_vocabulary(c->first, reference));
    if (reference) LQ_GOTO(status, lq_divergence_init(&d, t->n_tokens));
    LQ_GOTO(status, lq_score_examples(s, reference, &c->data, cell->nll, &d));
    for (int64_t i = 0; i < t->n_examples; i++) nll += cell->nll[i];
    cell->loss = nll / (double)t->n_tokens;
    if (reference) {
        lq_divergence_summarize(&d, &kl);
        cell->kl = kl.kl_mean;
        cell->same_top = kl.same_top;
    }
    if (c->o->exact_match)
        LQ_GOTO(status, lq_exact_match(s, &c->data, c->o->max_new_tokens, NULL,
                                       &cell->exact_match));
done:
    lq_divergence_clear(&d);
    return status;
}

/* seconds: of rounding, besides the run's training. */
static lq_status add_cell(comparison *c, int run, const char *variant, loquat_model *s,
                          loquat_model *reference, int64_t bytes, double seconds) {
    const lq_compare_run *r = &c->run[run];
    lq_compare_row *row;
    LQ_TRY(find_row(c, r->group, variant, &row));
    LQ_TRY(lq_reserve((void **)&row->cell, &row->cap, row->n + 1, sizeof *row->cell));
    lq_compare_cell *cell = &row->cell[row->n];
    *cell = (lq_compare_cell){.seed = lq_compare_run_seed(r), .bytes = (double)bytes,
                              .seconds = r->seconds + seconds, .kl = NAN, .same_top = NAN,
                              .exact_match = NAN};
    cell->nll = lq_alloc_array(c->table.n_examples, sizeof *cell->nll);
    if (!cell->nll) return LQ_EMEM;
    row->n++;
    const lq_status status = score(c, s, reference, cell);
    lq_log(LQ_LOG_INFO, "%s, seed %lld: loss %.5f", row->name, (long long)cell->seed, cell->loss);
    return status == LQ_OK ? LQ_OK : lq_fail_context(status, "%s: ", row->name);
}

/* ---- rounding a plain run -------------------------------------------------------------------- */

/* The run's model in a type, as a file that lives as long as it is measured. */
static lq_status add_rounded(comparison *c, int run, loquat_model *plain, const char *type,
                             const char *imatrix, const char *variant) {
    const lq_compare_run *r = &c->run[run];
    const lq_types_text text = {.what = "--quantize", .type = type, .imatrix = imatrix};
    const lq_lineage lineage = {.base_path = r->config->base_model, .version = loquat_version(),
                                .chat_template = plain->template_source};
    lq_types types = {0};
    loquat_model *rounded = NULL;
    int64_t bytes;
    lq_status status = LQ_OK;
    char *path = lq_sprintf("%s/compare-%lld.gguf", r->path, (long long)getpid());
    LQ_GOTO(status, path ? LQ_OK : LQ_EMEM);
    LQ_GOTO(status, lq_types_open(&types, &text));
    const double started = lq_seconds();
    LQ_GOTO(status, lq_export_merged(plain->lora, path, &types.request, &lineage));
    const double seconds = lq_seconds() - started;
    LQ_GOTO(status, lq_file_bytes(&bytes, path));
    LQ_GOTO(status, (lq_status)loquat_model_open(&rounded, path, NULL, 0));
    LQ_GOTO(status, add_cell(c, run, variant, rounded, c->reference ? c->reference : plain, bytes,
                             seconds));
done:
    loquat_model_close(rounded);
    lq_types_clear(&types);
    if (path) unlink(path);
    lq_free(path);
    return status;
}

static lq_status add_roundings(comparison *c, int run, loquat_model *plain,
                               const char *const *with_imatrix) {
    for (size_t i = 0; i < c->o->n_types; i++) {
        const char *type = c->o->types[i];
        LQ_TRY(add_rounded(c, run, plain, type, NULL, type));
        if (c->o->imatrix)
            LQ_TRY(add_rounded(c, run, plain, type, c->o->imatrix, with_imatrix[i]));
    }
    return LQ_OK;
}

/* ---- all runs -------------------------------------------------------------------------------- */

/* The plain run to measure divergence from: of the same seed; NULL: none. */
static const lq_compare_run *plain_of(const comparison *c, const lq_compare_run *r) {
    for (int i = 0; i < c->n; i++)
        if (c->run[i].plain && &c->run[i] != r && r->config &&
            c->run[i].config->seed == r->config->seed)
            return &c->run[i];
    return NULL;
}

static lq_status add_run(comparison *c, int i, const char *const *with_imatrix) {
    const lq_compare_run *r = &c->run[i], *plain = r->plain ? NULL : plain_of(c, r);
    loquat_model *s = NULL, *reference = NULL;
    lq_status status = LQ_OK;
    LQ_GOTO(status, lq_compare_run_session(&s, r));
    if (!c->reference && plain) LQ_GOTO(status, lq_compare_run_session(&reference, plain));
    LQ_GOTO(status, add_cell(c, i, "", s, c->reference ? c->reference : reference, r->bytes, 0));
    if (r->plain) LQ_GOTO(status, add_roundings(c, i, s, with_imatrix));
done:
    loquat_model_close(reference);
    loquat_model_close(s);
    return status;
}

static lq_status read_runs(comparison *c) {
    bool plain = false;
    c->run = lq_alloc_array((int64_t)c->o->n_runs, sizeof *c->run);
    if (!c->run) return LQ_EMEM;
    for (; c->n < (int)c->o->n_runs; c->n++) {
        lq_compare_run *r = &c->run[c->n];
        LQ_TRY(lq_compare_run_read(r, c->o->runs[c->n]));
        r->group = c->n;
        plain = plain || r->plain;
        for (int j = 0; j < c->n && r->group == c->n; j++) {
            bool alike;
            LQ_TRY(lq_compare_run_alike(&c->run[j], r, &alike));
            if (alike) r->group = c->run[j].group;
        }
    }
    if (c->o->n_types && !plain)
        return lq_fail(LQ_ECONFIG, "--quantize: none of the runs was trained without qat");
    return LQ_OK;
}

static lq_status load_data(comparison *c) {
    lq_compare_table *t = &c->table;
    LQ_TRY(lq_compare_run_session(&c->first, &c->run[0]));
    LQ_TRY(lq_session_dataset(&c->data, c->first, c->o->data));
    t->n_examples = c->data.n;
    t->tokens = lq_alloc_array(t->n_examples, sizeof *t->tokens);
    if (!t->tokens) return LQ_EMEM;
    for (int64_t i = 0; i < t->n_examples; i++) {
        t->tokens[i] = lq_trained_tokens(&c->data, &c->data.example[i]);
        t->n_tokens += t->tokens[i];
    }
    return LQ_OK;
}

/* ---- differences ----------------------------------------------------------------------------- */

static lq_status find_baseline(comparison *c) {
    lq_compare_table *t = &c->table;
    lq_str names = LQ_STR_INIT;
    if (!c->o->baseline) return LQ_OK;
    for (t->baseline = 0; t->baseline < t->n; t->baseline++) {
        const char *name = t->row[t->baseline].name;
        if (strcmp(name, c->o->baseline) == 0) return LQ_OK;
        lq_str_printf(&names, "%s'%s'", names.n ? ", " : "", name);
    }
    const lq_status status =
        lq_fail(LQ_ECONFIG, "--baseline: found '%s', wanted one of the rows: %s", c->o->baseline,
                lq_str_text(&names));
    lq_str_clear(&names);
    return status;
}

static bool same_seeds(const lq_compare_row *a, const lq_compare_row *b) {
    if (a->n != b->n) return false;
    for (int64_t i = 0; i < a->n; i++)
        if (a->cell[i].seed != b->cell[i].seed) return false;
    return true;
}

static lq_status compare_rows(const lq_compare_table *t, lq_compare_row *row) {
    const lq_compare_row *base = &t->row[t->baseline];
    const double **nll = lq_alloc_array(row->n + base->n, sizeof *nll);
    if (!nll) return LQ_EMEM;
    for (int64_t i = 0; i < row->n; i++) nll[i] = row->cell[i].nll;
    for (int64_t i = 0; i < base->n; i++) nll[row->n + i] = base->cell[i].nll;
    const lq_bootstrap_side a = {nll, (int)row->n}, b = {nll + row->n, (int)base->n};
    const lq_status status = lq_bootstrap(&row->interval, &a, &b, same_seeds(row, base), t->tokens,
                                          t->n_examples);
    lq_free(nll);
    return status;
}

static lq_status compare_all(comparison *c, const char *const *with_imatrix, lq_str *out) {
    LQ_TRY(read_runs(c));
    LQ_TRY(load_data(c));
    if (c->o->reference)
        LQ_TRY((lq_status)loquat_model_open(&c->reference, c->o->reference, NULL, 0));
    for (int i = 0; i < c->n; i++) LQ_TRY(add_run(c, i, with_imatrix));
    LQ_TRY(find_baseline(c));
    for (int64_t i = 0; i < c->table.n; i++) LQ_TRY(compare_rows(&c->table, &c->table.row[i]));
    return lq_compare_print(&c->table, c->o->format, out);
}

loquat_status loquat_compare(const loquat_compare_options *options, char **out_text) {
    comparison c = {.o = options};
    lq_str text = LQ_STR_INIT;
    lq_status status = LQ_OK;
    *out_text = NULL;
    char **with_imatrix = lq_alloc_array((int64_t)options->n_types, sizeof *with_imatrix);
    LQ_GOTO(status, with_imatrix ? LQ_OK : LQ_EMEM);
    for (size_t i = 0; i < options->n_types; i++) {
        with_imatrix[i] = lq_sprintf("%s imatrix", options->types[i]);
        LQ_GOTO(status, with_imatrix[i] ? LQ_OK : LQ_EMEM);
    }
    if (!options->data)
        LQ_GOTO(status, lq_fail(LQ_ECONFIG, "compare needs --data FILE.jsonl: examples that none "
                                            "of the runs was trained on"));
    if (options->imatrix && !options->n_types)
        LQ_GOTO(status, lq_fail(LQ_ECONFIG, "--imatrix needs --quantize TYPE"));
    LQ_GOTO(status, compare_all(&c, (const char *const *)with_imatrix, &text));
    *out_text = lq_str_take(&text);
    if (!*out_text) status = LQ_EMEM;
done:
    comparison_clear(&c);
    lq_str_clear(&text);
    for (size_t i = 0; with_imatrix && i < options->n_types; i++) lq_free(with_imatrix[i]);
    lq_free(with_imatrix);
    return (loquat_status)status;
}
