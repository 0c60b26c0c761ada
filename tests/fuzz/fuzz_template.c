/* Chat templates made of anything: parsing and rendering end with a text or a message, never a
 * crash or hang. */
#include "fuzz.h"

#include "template.h"

#include <stdlib.h>
#include <string.h>

static const char *const seeds[] = {
    "{%- set ns = namespace(a=0, s='') -%}\n{% for m in messages %}{% if m['role'] == 'user' and "
    "not loop.last %}"
    "{{- '<|' + m.role + '|>\\n' ~ m.content | trim }}{% elif loop.first %}{% set ns.a = ns.a + 1 "
    "%}{% else %}"
    "{{ m.content.split('x')[-1].lstrip('\\n')[::-1] }}{% endif %}{% endfor %}{{ ns.s ~ ns.a }}",
    "{% macro f(x, y=[1, 2.5, none], z='\\u00e9') -%}{% if x is mapping %}{{ x | tojson(indent=2) "
    "}}{% else %}"
    "{{ x | string | upper }}{% endif %}{{ caller() if caller }}{%- endmacro %}{% call f({'a': (1, "
    "2)}) %}q{% endcall %}"
    "{{ f(messages[0], y=3) }}{{ f(messages | length ** 2 // 3 % 4) }}",
    "{# c #}{% raw %}{{ x }}{% endraw %}{{ messages | selectattr('role', 'equalto', 'user') | "
    "map(attribute='content') | "
    "list | join(', ') }}{{ 'a b c'.split() | sort(reverse=true) | first }}{{ '%s %05.2f' % ('a', "
    "3) }}"
    "{{ '{:>5} {x[a]!r}'.format(1, x={'a': 2}) }}{% filter replace('a', 'b') %}aa{% endfilter %}",
    "{% for k, v in messages[0].items() if v is string %}{{ loop.index }}{{ k }}={{ v | indent(2) "
    "}}{{ loop.nextitem }}"
    "{% break %}{% else %}none{% endfor %}{% set t | trim %} x {% endset %}{{ range(3, 0, -1) | "
    "list }}"
    "{% with a = -1 if t else 2 %}{{ a }}{% endwith %}{% generation %}g{% endgeneration %}{{ "
    "strftime_now('%Y') }}"};

const uint8_t *fuzz_seed(int i, size_t *size) {
    if (i >= LQ_ARRAY_LEN(seeds)) return NULL;
    *size = strlen(seeds[i]);
    return (const uint8_t *)seeds[i];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    lq_template *t = NULL;
    lq_str out = LQ_STR_INIT;
    lq_spans spans = LQ_SPANS_INIT;
    json_t *messages = json_loads(
        "[{\"role\": \"user\", \"content\": \"axb \xC3\xA9\"}, {\"role\": \"assistant\", "
        "\"content\": \"y\", \"n\": [1, 2.5, null, true, {\"k\": {}}]}]",
        0, NULL);
    char *source = malloc(size + 1);
    if (!messages || !source) abort();
    for (size_t i = 0; i < size; i++)
        source[i] = (char)(data[i] & 0x7F ? data[i] & 0x7F : ' '); /* text only */
    source[size] = 0;
    if (lq_template_parse(&t, source) != LQ_OK) {
        if (t || !*lq_error()) abort();
    } else {
        lq_error_clear();
        if (lq_template_render(t, messages, NULL, &out) != LQ_OK && !*lq_error()) abort();
        lq_template_render_spans(t, messages, NULL, NULL, &out, &spans);
        for (int64_t i = 0; i < spans.n; i++)
            if (spans.span[i].start < 0 || spans.span[i].end < spans.span[i].start ||
                spans.span[i].end > (int64_t)out.n)
                abort();
    }
    lq_template_free(t);
    lq_str_clear(&out);
    lq_spans_clear(&spans);
    json_decref(messages);
    free(source);
    return 0;
}
