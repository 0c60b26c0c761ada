/* Single values: booleans, whole and real numbers, text. See schema.h. */
#include "schema.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- text to values -------------------------------------------------------------------------- */

static bool is_one_of(const char *text, const char *const *words) {
    for (; *words; words++)
        if (strcasecmp(text, *words) == 0) return true;
    return false;
}

bool lq_text_is_null(const char *text) {
    static const char *const words[] = {"", "~", "null", NULL};
    return is_one_of(text, words);
}

bool lq_text_to_bool(const char *text, bool *out) {
    static const char *const yes[] = {"true", "yes", "on", "y", "1", NULL};
    static const char *const no[] = {"false", "no", "off", "n", "0", NULL};
    *out = is_one_of(text, yes);
    return *out || is_one_of(text, no);
}

/* Decimal only: no hexadecimal, no infinity, nothing before or behind. 1e-5 is a number, as in
 * YAML 1.2. */
bool lq_text_to_real(const char *text, double *out) {
    char *end;
    if (!*text || text[strspn(text, "0123456789+-.eE")]) return false;
    *out = strtod(text, &end);
    return !*end && isfinite(*out);
}

static bool text_to_int(const char *text, int64_t *out) {
    char *end;
    double real;
    if (!lq_text_to_real(text, &real)) return false;
    errno = 0;
    *out = strtoll(text, &end, 10);
    if (!*end) return errno == 0;
    if (real != floor(real) || fabs(real) > 9007199254740992.0) return false; /* 1e4 is fine */
    *out = (int64_t)real;
    return true;
}

bool lq_within_bounds(lq_slot *s, double value, const char *text) {
    const lq_key *k = s->key;
    const bool above = k->flags & LQ_KEY_ABOVE_MIN;
    if ((above ? value > k->min : value >= k->min) && value <= k->max) {
        if (!(k->flags & LQ_KEY_SHARE) || value < 1 || value == floor(value)) return true;
        lq_slot_mistake(s, "found %s, wanted a share below 1 or a whole number", text);
    } else if (isfinite(k->max)) {
        lq_slot_mistake(s, "found %s, wanted %s %.10g and at most %.10g", text,
                        above ? "more than" : "at least", k->min, k->max);
    } else {
        lq_slot_mistake(s, "found %s, wanted %s %.10g", text, above ? "more than" : "at least",
                        k->min);
    }
    return false;
}

/* ---- numbers --------------------------------------------------------------------------------- */

static lq_status wrong_kind(lq_slot *s, const char *text) {
    lq_slot_mistake(s, "found '%.200s', wanted %s", text, s->key->kind->wanted);
    return LQ_OK;
}

static lq_status bool_from_text(lq_slot *s, const char *text) {
    bool value;
    if (!lq_text_to_bool(text, &value)) return wrong_kind(s, text);
    *(bool *)s->field = value != s->inverted;
    return LQ_OK;
}

static lq_status int_from_text(lq_slot *s, const char *text) {
    int64_t value;
    if (!text_to_int(text, &value)) return wrong_kind(s, text);
    if (lq_within_bounds(s, (double)value, text)) *(int64_t *)s->field = value;
    return LQ_OK;
}

static lq_status real_from_text(lq_slot *s, const char *text) {
    double value;
    if (!lq_text_to_real(text, &value)) return wrong_kind(s, text);
    if (lq_within_bounds(s, value, text)) *(double *)s->field = value;
    return LQ_OK;
}

static void bool_write(const void *field, lq_str *out) {
    lq_str_puts(out, *(const bool *)field ? " true" : " false");
}
static void int_write(const void *field, lq_str *out) {
    lq_str_printf(out, " %lld", (long long)*(const int64_t *)field);
}

static void real_write(const void *field, lq_str *out) {
    lq_str_putc(out, ' ');
    lq_write_real(out, *(const double *)field);
}

static void bool_clear(void *field) { *(bool *)field = false; }
static void int_clear(void *field) { *(int64_t *)field = 0; }
static void real_clear(void *field) { *(double *)field = 0; }

static bool bool_equal(const void *a, const void *b) {
    return *(const bool *)a == *(const bool *)b;
}
static bool int_equal(const void *a, const void *b) {
    return *(const int64_t *)a == *(const int64_t *)b;
}
static bool real_equal(const void *a, const void *b) {
    return *(const double *)a == *(const double *)b;
}

/* ---- text ------------------------------------------------------------------------------------ */

/* A canonical spelling; word NULL: none. */
typedef struct choice {
    const char *word;
    size_t n;
} choice;

static choice find_spelled(const char *choices, const char *text,
                           int (*compare)(const char *, const char *, size_t)) {
    const size_t n_text = strlen(text);
    for (const char *p = choices + strspn(choices, " "); *p; p += strspn(p, " ")) {
        const choice canonical = {p, strcspn(p, " =")};
        while (*p && *p != ' ') {
            const size_t n = strcspn(p, " =");
            if (n == n_text && compare(p, text, n) == 0) return canonical;
            p += n + (p[n] == '=');
        }
    }
    return (choice){NULL, 0};
}

/* As it is written, or in any case. */
static choice find_choice(const char *choices, const char *text) {
    const choice exact = find_spelled(choices, text, strncmp);
    return exact.word ? exact : find_spelled(choices, text, strncasecmp);
}

/* "a, b, c" of "a=x b c". */
static void list_choices(const char *choices, char *out, size_t bytes) {
    size_t used = 0;
    out[0] = 0;
    for (const char *p = choices; *p && used < bytes; p += strcspn(p, " "), p += strspn(p, " ")) {
        const int n = snprintf(out + used, bytes - used, "%s%.*s", used ? ", " : "",
                               (int)strcspn(p, " ="), p);
        used += (size_t)n;
    }
}

lq_status lq_choose(char **out, lq_slot *s, const char *choices, const char *supported,
                    const char *text) {
    char known[512];
    *out = NULL;
    const choice found = find_choice(choices, text);
    if (found.word) {
        *out = lq_strndup(found.word, found.n);
        if (!*out) return LQ_EMEM;
        if (!supported || find_choice(supported, *out).word) return LQ_OK;
        lq_free(*out);
        *out = NULL;
    }
    list_choices(supported ? supported : choices, known, sizeof known);
    if (found.word)
        lq_slot_mistake(s, "'%s' is not supported by this version yet, wanted one of: %s", text,
                        known);
    else lq_slot_mistake(s, "found '%.200s', wanted one of: %s", text, known);
    return LQ_OK;
}

static lq_status text_from_text(lq_slot *s, const char *text) {
    const lq_key *k = s->key;
    char *copy = NULL;
    if (!*text && k->init) return wrong_kind(s, text);
    if (*text && k->choices) LQ_TRY(lq_choose(&copy, s, k->choices, k->supported, text));
    else if (*text && !(copy = lq_strdup(text))) return LQ_EMEM;
    if (*text && !copy) return LQ_OK; /* a mistake: keeps what it had */
    lq_free(*(char **)s->field);
    *(char **)s->field = copy;
    return LQ_OK;
}

static void text_write(const void *field, lq_str *out) {
    const char *text = *(char *const *)field;
    lq_str_putc(out, ' ');
    if (text) lq_write_text(out, text);
    else lq_str_puts(out, "null");
}

static void text_clear(void *field) {
    lq_free(*(char **)field);
    *(char **)field = NULL;
}

static bool text_equal(const void *a, const void *b) {
    const char *x = *(char *const *)a, *y = *(char *const *)b;
    return x && y ? strcmp(x, y) == 0 : x == y;
}

const lq_kind lq_kind_bool = {.wanted = "true or false",
                              .placeholder = "true|false",
                              .from_text = bool_from_text,
                              .write = bool_write,
                              .clear = bool_clear,
                              .equal = bool_equal};
const lq_kind lq_kind_int = {.wanted = "a whole number",
                             .placeholder = "N",
                             .from_text = int_from_text,
                             .write = int_write,
                             .clear = int_clear,
                             .equal = int_equal};
const lq_kind lq_kind_real = {.wanted = "a number",
                              .placeholder = "X",
                              .from_text = real_from_text,
                              .write = real_write,
                              .clear = real_clear,
                              .equal = real_equal};
const lq_kind lq_kind_text = {.wanted = "text",
                              .placeholder = "TEXT",
                              .from_text = text_from_text,
                              .write = text_write,
                              .clear = text_clear,
                              .equal = text_equal};
