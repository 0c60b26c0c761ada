/* Exact match: the last trained run of every example, generated greedily and compared to the letter
 * but for white space around. */
#include "exact_match.h"

#include "atomic_file.h"
#include "json_text.h"

#include <string.h>

/* The last trained run of an example: [start, end) within its tokens. */
static void last_trained_run(const lq_dataset *d, const lq_example *e, int64_t *start,
                             int64_t *end) {
    const uint8_t *mask = d->mask + e->first;
    *end = e->n;
    while (*end > 0 && !mask[*end - 1]) --*end;
    *start = *end;
    while (*start > 0 && mask[*start - 1]) --*start;
}

static bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

/* Equal but for white space around. */
static bool same_answer(const char *a, size_t na, const char *b, size_t nb) {
    while (na && is_space(a[na - 1])) na--;
    while (nb && is_space(b[nb - 1])) nb--;
    while (na && is_space(*a)) a++, na--;
    while (nb && is_space(*b)) b++, nb--;
    return na == nb && memcmp(a, b, na) == 0;
}

typedef struct answer { lq_str prompt, expected, got; } answer;

static lq_status answer_example(loquat_model *s, const lq_dataset *d, const lq_example *e,
                                const loquat_generate_options *generate, answer *a) {
    const lq_tokenizer *tok = s->model->tokenizer;
    const int32_t *ids = d->ids + e->first;
    int64_t start, end;
    last_trained_run(d, e, &start, &end);
    lq_str_reset(&a->prompt);
    lq_str_reset(&a->expected);
    lq_str_reset(&a->got);
    if (start == 0)
        return lq_fail(LQ_EVALUE,
                       "record %lld: everything is trained, nothing is left as the prompt of an "
                       "exact match",
                       (long long)e->line);
    while (end > start && lq_token_is_eog(tok, ids[end - 1])) end--;
    LQ_TRY(lq_detokenize(tok, ids, start, true, &a->prompt));
    for (int64_t t = start; t < end; t++) LQ_TRY(lq_token_piece(tok, ids[t], false, &a->expected));
    LQ_TRY(lq_session_continue(s, ids, start, generate, &a->got));
    return LQ_OK;
}

static lq_status put_prediction(lq_str *lines, const answer *a, bool match) {
    json_t *o = json_pack("{s:o, s:o, s:o, s:b}", "prompt", lq_json_string(&a->prompt),
                          "expected", lq_json_string(&a->expected), "got", lq_json_string(&a->got),
                          "match", match);
    const lq_status status = lq_json_print(lines, o, JSON_COMPACT);
    lq_str_putc(lines, '\n');
    json_decref(o);
    return status;
}

lq_status lq_exact_match(loquat_model *s, const lq_dataset *d, int64_t max_new_tokens,
                         const char *predictions, double *out_share) {
    const loquat_generate_options generate = {.max_new_tokens =
                                                  max_new_tokens > 0 ? max_new_tokens : 128};
    answer a = {LQ_STR_INIT, LQ_STR_INIT, LQ_STR_INIT};
    lq_str lines = LQ_STR_INIT;
    lq_status status = LQ_OK;
    int64_t matches = 0;
    for (int64_t i = 0; i < d->n; i++) {
        LQ_GOTO(status, answer_example(s, d, &d->example[i], &generate, &a));
        const bool match =
            same_answer(lq_str_text(&a.expected), a.expected.n, lq_str_text(&a.got), a.got.n);
        matches += match;
        if (predictions) LQ_GOTO(status, put_prediction(&lines, &a, match));
    }
    if (predictions)
        LQ_GOTO(status, lq_write_file(predictions, lq_str_text(&lines), lines.n));
    *out_share = (double)matches / (double)d->n;
done:
    lq_str_clear(&lines);
    lq_str_clear(&a.prompt);
    lq_str_clear(&a.expected);
    lq_str_clear(&a.got);
    return status;
}
