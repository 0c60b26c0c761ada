/* An inspection report for people. */
#include "inspect_parts.h"

#include <string.h>

static int count_lines(const char *s) {
    int n = 1;
    for (; *s; s++) n += *s == '\n' && s[1];
    return n;
}

/* One line of an object in a list. */
static void print_members(lq_str *out, const json_t *object);

static void print_value(lq_str *out, const json_t *v) {
    if (json_is_object(v))
        print_members(out, v);
    else if (json_is_null(v))
        lq_str_puts(out, "-");
    else if (json_is_string(v) && strchr(json_string_value(v), '\n'))
        lq_str_printf(out, "(%d lines, in --json)", count_lines(json_string_value(v)));
    else if (json_is_string(v))
        lq_str_add(out, json_string_value(v), json_string_length(v));
    else if (json_is_integer(v))
        lq_str_printf(out, "%lld", (long long)json_integer_value(v));
    else if (json_is_real(v))
        lq_str_printf(out, "%.6g", json_real_value(v));
    else
        lq_str_puts(out, json_is_true(v) ? "yes" : json_is_null(v) ? "-" : "no");
}

static void print_members(lq_str *out, const json_t *object) {
    const char *key, *comma = "";
    json_t *v;
    json_object_foreach((json_t *)object, key, v) {
        lq_str_printf(out, "%s%s ", comma, key);
        print_value(out, v);
        comma = ", ";
    }
}

static void print_list(lq_str *out, const json_t *list) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (i) lq_str_puts(out, ", ");
        print_value(out, json_array_get(list, i));
    }
}

/* No lists or objects in it: it goes on one line, as the types of a role do. */
static bool is_flat(const json_t *object) {
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)object, key, v)
        if (json_is_object(v) || json_is_array(v)) return false;
    return true;
}

/* Of a list of objects each has its line. */
static void print_objects(lq_str *out, const json_t *list, int indent) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        lq_str_printf(out, "\n%*s", indent, "");
        print_members(out, json_array_get(list, i));
    }
}

static bool is_empty(const json_t *v) {
    return (json_is_array(v) && !json_array_size(v)) || (json_is_object(v) && !json_object_size(v));
}

static void print_warnings(lq_str *out, const json_t *list) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        lq_str_puts(out, "warning: ");
        print_value(out, json_array_get(list, i));
        lq_str_putc(out, '\n');
    }
}

static void print_object(lq_str *out, const json_t *object, int indent) {
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)object, key, v) {
        if (strcmp(key, "tensors") == 0 || is_empty(v)) continue;
        if (strcmp(key, "warnings") == 0) {
            print_warnings(out, v);
            continue;
        }
        lq_str_printf(out, "%*s%s:", indent, "", key);
        if (json_is_object(v) && !(indent && is_flat(v))) {
            lq_str_putc(out, '\n');
            print_object(out, v, indent + 2);
            continue;
        }
        if (json_is_object(json_array_get(v, 0))) {
            print_objects(out, v, indent + 2);
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
