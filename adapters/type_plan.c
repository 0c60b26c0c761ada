/* The format of each weight, and how it is said in the log. See type_plan.h. */
#include "type_plan.h"

#include "str.h"

static const lq_format *wanted(const lq_type_plan *plan, const lq_weight *w) {
    if (w->role == LQ_ROLE_TOKEN_EMBD) return plan->embd;
    if (w->role == LQ_ROLE_OUTPUT) return plan->output;
    return lq_weight_is_linear(w) ? plan->linear : NULL;
}

const lq_format *lq_type_plan_format(const lq_type_plan *plan, const lq_weight *w) {
    const lq_format *fmt = w->is_bias || w->rows == 1 ? NULL : wanted(plan, w);
    return fmt && w->cols % fmt->block != 0 ? &lq_f16 : fmt;
}

/* How many matrices get `fmt`, and of those how many because their rows do not divide. */
static int count(const lq_model *m, const lq_type_plan *plan, const lq_format *fmt, int *odd_rows) {
    int n = 0;
    for (int i = 0; i < m->n_weights; i++) {
        const lq_weight *w = &m->weight[i];
        if (lq_type_plan_format(plan, w) != fmt) continue;
        n++;
        *odd_rows += wanted(plan, w) != fmt;
    }
    return n;
}

lq_status lq_type_plan_log(const lq_model *m, const lq_type_plan *plan, const char *what) {
    lq_str line = LQ_STR_INIT;
    for (int f = 0; lq_formats[f]; f++) {
        int odd_rows = 0;
        const int n = count(m, plan, lq_formats[f], &odd_rows);
        if (n == 0) continue;
        lq_str_printf(&line, "%s%d %s %s", line.n ? ", " : "", n, n == 1 ? "matrix" : "matrices",
                      lq_formats[f]->label);
        if (odd_rows)
            lq_str_printf(&line, " (%d of them: no block divides their rows)", odd_rows);
    }
    if (line.n)
        lq_log(LQ_LOG_INFO, "%s: %s; everything else as in the base file", what,
               lq_str_text(&line));
    const lq_status status = lq_str_status(&line);
    lq_str_clear(&line);
    return status;
}
