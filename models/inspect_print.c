/* An inspection report for people. */
#include "inspect_parts.h"

#include <string.h>

/* A text of several lines, as a run's configuration, would hide all the rest. */
static bool is_long(const json_t *v) {
    return json_is_string(v) && strchr(json_string_value(v), '\n') != NULL;
}

static void print_value(lq_str *out, const json_t *v) {
    if (is_long(v))
        lq_str_puts(out, "(several lines)");
    else if (json_is_string(v))
        lq_str_add(out, json_string_value(v), json_string_length(v));
    else if (json_is_integer(v))
        lq_str_printf(out, "%lld", (long long)json_integer_value(v));
    else if (json_is_real(v))
        lq_str_printf(out, "%.6g", json_real_value(v));
    else
        lq_str_puts(out, json_is_true(v) ? "yes" : json_is_null(v) ? "-" : "no");
}

/* Objects, as a run's files: one a line, "kind merged, type Q4_0". */
static void print_rows(lq_str *out, const json_t *list, int indent) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *key, *comma = "";
        json_t *v;
        lq_str_printf(out, "\n%*s", indent, "");
        json_object_foreach(json_array_get(list, i), key, v) {
            lq_str_printf(out, "%s%s ", comma, key);
            print_value(out, v);
            comma = ", ";
        }
    }
}

static void print_list(lq_str *out, const json_t *list) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (i) lq_str_puts(out, ", ");
        print_value(out, json_array_get(list, i));
    }
}

/* Numbers by name, as of the types of a role: on one line. */
static bool print_counts(lq_str *out, const json_t *object) {
    const char *key, *comma = " ";
    json_t *v;
    json_object_foreach((json_t *)object, key, v) if (!json_is_integer(v)) return false;
    json_object_foreach((json_t *)object, key, v) {
        lq_str_printf(out, "%s%s %lld", comma, key, (long long)json_integer_value(v));
        comma = ", ";
    }
    lq_str_putc(out, '\n');
    return true;
}

static void print_object(lq_str *out, const json_t *object, int indent) {
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)object, key, v) {
        if (strcmp(key, "tensors") == 0 || (json_is_array(v) && !json_array_size(v))) continue;
        lq_str_printf(out, "%*s%s:", indent, "", key);
        if (json_is_object(v) && indent && print_counts(out, v)) continue;
        if (json_is_object(v)) {
            lq_str_putc(out, '\n');
            print_object(out, v, indent + 2);
            continue;
        }
        if (json_is_object(json_array_get(v, 0))) {
            print_rows(out, v, indent + 2);
            lq_str_putc(out, '\n');
            continue;
        }
        lq_str_putc(out, ' ');
        if (json_is_array(v))
            print_list(out, v);
        else
            print_value(out, v);
        lq_str_putc(out, '\n');
    }
}

void lq_inspect_print(lq_str *out, const json_t *report) { print_object(out, report, 0); }
