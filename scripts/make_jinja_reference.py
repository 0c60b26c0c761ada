#!/usr/bin/env python3
"""Small templates and what Hugging Face's Jinja environment makes of them: the oracle of check_jinja.c.

    make_jinja_reference.py > tests/reference/jinja.json

Writes {"variables": {...}, "cases": [[source, text or null], ...]}; null: the template is refused. Needed:
transformers, jinja2.
"""
import json
import sys

from transformers.utils.chat_template_utils import _compile_jinja_template

VARIABLES = {
    "s": "Hello, W\u00f6rld", "e": "", "n": 7, "neg": -3, "f": 2.5, "t": True, "no": False, "nil": None,
    "xs": [3, 1, 2], "words": ["b", "A", "c", "a"], "d": {"b": 2, "a": 1, "items": 5, "x y": [1, {"z": None}]},
    "us": [{"name": "Bob", "age": 30, "a": {"b": 1}}, {"name": "al", "age": 25}, {"name": "Cy", "age": 30, "a": {"b": 2}}],
    "big": 9007199254740993, "tiny": 1e-7, "huge": 1e22, "text": "one\ntwo\r\n\n three ", "q": "it's \"x\"\t\\",
}

EXPRESSIONS = r"""
1 + 2 * 3 - 4
2 ** 3 ** 2
2 ** -1
-2 ** 2
7 // 2
-7 // 2
-7 % 3
7 % -3
7.5 // 2
7.5 % -2
7 / 2
6 / 3
1 / 0
1 // 0
1e3
1.0
1_000
0x1F + 0b11 + 0o17
1.5e-3
1e16
1e15
123456789012345680.0
0.1 + 0.2
1e22
1e-5
0.0001
-0.0
huge
tiny
big
1 ~ 2 ~ nil ~ t
"a" ~ 1 + 2
"a" "b" 'c'
"a" + 1
"a" * 3
[1, 2] * 2
[1] + [2, 3]
(1, 2) + (3,)
(1,)
()
[]
{}
{"a": 1, 2: [3], none: true, 1.5: (1, "x")}
[1, 2.0, "x", 'it\'s', nil, t, no, undefined_name]
"tab\tnew\nuni\u00e9\x41\\ \q \101"
'sq \' dq "'
q
[q]
["\x00\x7f\u200b\u00a0\u00e9\U0001f600"]
s[0]
s[-1]
s[7]
s[99]
s[1:4]
s[::-1]
s[:-1]
s[-3:]
s[::2]
s[5:1:-2]
xs[1:]
xs[::-1]
xs[0]
xs[-1]
xs[9]
xs[-9]
xs["a"]
xs.0
us.0.name
us[0].a.b
d.a
d["b"]
d["items"]
d["x y"][1].z
d.missing
d.missing.more
d["missing"]
d["keys"] is defined
nil.x
nil["x"]
undefined_name
undefined_name.x
undefined_name + 1
undefined_name == undefined_name
undefined_name is defined
not undefined_name
undefined_name or "x"
undefined_name|length
"a" in undefined_name
1 < 2 < 3
1 < 2 > 3
1 == 1.0
1 == true
"a" < "b"
"a" < 1
[1, 2] < [1, 3]
(1, 2) == [1, 2]
{"a": 1, "b": 2} == {"b": 2, "a": 1}
nil == no
1 != 2
n >= 7 and n <= 7
"ell" in s
"z" not in s
1 in xs
1 not in xs
"a" in d
[1] in d
1 in s
1 in 5
not 1 == 2
not t and no
t or no and no
1 if t else 2
1 if no
(1 if no) is undefined
1 if no else 2 if no else 3
t is true
1 is true
n is number
t is number
f is float
n is integer
t is integer
t is boolean
s is string
d is mapping
xs is sequence
d is sequence
s is iterable
n is iterable
undefined_name is iterable
undefined_name is sequence
nil is none
nil is not none
n is odd
n is even
n is divisibleby 7
n is divisibleby(2)
n is eq 7
n is equalto 7
n is gt 3
n is lt(3)
n is in [7, 8]
"abc" is lower
"ABC" is upper
"123" is lower
range is callable
s is callable
nil is sameas nil
xs is sameas xs
"trim" is filter
"nope" is filter
"odd" is test
s is nosuchtest
s|nosuchfilter
s|length
d|length
xs|count
n|length
nil|length
"  x "|trim
"xxaxx"|trim("x")
s|upper
s|lower
"\u00df\u00e9"|upper
"hello world-foo (bar) it's"|title
"hELLO wORLD"|capitalize
""|capitalize
s|replace("l", "L")
s|replace("l", "L", 1)
"aaa"|replace("", "-")
xs|join(", ")
xs|join
us|join("; ", attribute="name")
d|join(",")
"abc"|join("-")
xs|first
xs|last
[]|first
[]|last
xs|list
"h\u00e9"|list
d|list
undefined_name|list
nil|list
n|string
"42"|int
"42.9"|int
"x"|int
"x"|int(5)
"0x1f"|int(0, 16)
" 7 "|int
2.9|int
-2.9|int
nil|int
"3.5"|float
"x"|float
n|float
"1e3"|float
"inf"|float
xs|tojson
d|tojson
d|tojson(indent=2)
{"a": [], "b": {}, "c": [1, {"d": "\u00e9\n\"\\/<>&\u007f\u0001"}]}|tojson(indent=4)
{"a": "\u00e9\U0001f600"}|tojson(ensure_ascii=true)
d|tojson(sort_keys=true)
[1.0, 1e22, 1e-7, true, none]|tojson
{1: 2, none: 3, true: 4, 1.5: 5}|tojson
d|tojson(separators=(",", ":"))
undefined_name|tojson
range(3)|tojson
(1, 2)|tojson
nil|default("x")
undefined_name|default("x")
undefined_name|d
e|default("x")
e|default("x", true)
us|map(attribute="name")|list
us|map(attribute="a.b")|list
us|map(attribute="a.b", default=0)|list
us|map(attribute="a", default="-")|list
words|map("upper")|list
words|map("replace", "a", "z")|join
xs|map("string")|list
xs|select("odd")|list
xs|select|list
[0, 1, "", "a"]|select|list
xs|reject("odd")|list
xs|select("gt", 1)|list
us|selectattr("age", "equalto", 30)|map(attribute="name")|list
us|selectattr("a")|list|length
us|rejectattr("a")|map(attribute="name")|list
us|rejectattr("age", "gt", 26)|list
us|selectattr("a", "defined")|list|length
xs|sort
xs|sort(reverse=true)
words|sort
words|sort(case_sensitive=true)
us|sort(attribute="age")|map(attribute="name")|list
us|sort(attribute="age,name")|map(attribute="name")|list
["b", 1]|sort
["a", "A", "b", "a"]|unique|list
us|unique(attribute="age")|map(attribute="name")|list
xs|reverse|list
s|reverse
d|items|list
d.items()|list
d.keys()|list
d.values()|list
d.items()
d.keys()
d|dictsort
{"b": 1, "A": 2, "a": 3}|dictsort
{"b": 1, "A": 2}|dictsort(true)
{"b": 1, "a": 2}|dictsort(by="value")
{"b": 1, "a": 2}|dictsort(reverse=true)
text|indent
text|indent(2, true)
"a\n\nb"|indent(2, blank=true)
"a\nb"|indent("> ")
"<a href='x'>&\"</a>"|e
"<b>"|escape|string
("<b>"|safe) ~ "<i>"
("<b>"|safe) + "<i>"
neg|abs
-2.5|abs
2.5|round
3.5|round
2.567|round(2)
2.567|round(2, "floor")
2.1|round(0, "ceil")
7|round
xs|sum
us|sum(attribute="age")
[1.5, 2]|sum
[]|sum
xs|min
xs|max
words|min
words|max
[]|max
us|max(attribute="age")
xs|batch(2)|list
xs|batch(2, "-")|list
range(7)|slice(3)|list
us|groupby("age")
us|groupby("age")|map(attribute="grouper")|list
(us|groupby("age")|first).list|length
"%s is %d and %.2f %5s|%-5s|%05d %x %%"|format("a", 3, 2.567, "r", "l", 42, 255)
"%(a)s-%(b)s"|format(a=1, b=2)
"%s" % "x"
"%s %s" % (1, 2)
"%r %s" % ("x", nil)
"%d" % "x"
"%s"|format
"a b  c"|wordcount
"x"|center(5)
"ab"|center(5)
d|attr("keys") is defined
"  x ".strip()
"xxabxx".strip("x")
"abc".lstrip("ab")
"abc".rstrip("bc")
" a\u3000".strip()
"a,b,,c".split(",")
"a,b,,c".split(",", 1)
"a,b,,c".rsplit(",", 1)
" a  b c ".split()
" a  b c ".split(none, 1)
" a  b c ".rsplit(none, 1)
" a  b c ".rsplit()
"".split()
"".split(",")
"a".split("")
"abc".startswith("ab")
"abc".startswith(("x", "a"))
"abc".endswith("bc")
"abc".startswith("b", 1)
"abcabc".find("c")
"abc".find("z")
"abcabc".rfind("c")
"abcabc".find("c", 3)
"\u00e9abc".index("a")
"abc".index("z")
"banana".count("an")
"banana".count("")
", ".join(["a", "b"])
", ".join(words|map("upper"))
"-".join("abc")
",".join(xs)
"abc".replace("b", "x")
"aXbX".replace("X", "-", 1)
"abc".upper() ~ "ABC".lower()
"they're bill's 3rd x".title()
"hELLO".capitalize()
"Hello".swapcase()
"123".isdigit()
"".isdigit()
"12a".isdigit()
"abc".isalpha()
"ab1".isalnum()
" \t".isspace()
"Abc".islower()
"ABC".isupper()
text.splitlines()
text.splitlines(true)
"prefix-x".removeprefix("prefix-")
"x.py".removesuffix(".py")
"a=b=c".partition("=")
"a=b=c".rpartition("=")
"abc".partition("z")
"5".zfill(3)
"-5".zfill(4)
"a".ljust(3) ~ "|"
"a".rjust(3, "*")
"ab".center(5, "-")
"{} {}".format(1, "x")
"{0} {1} {0}".format("a", "b")
"{a} {b.c} {x[0]}".format(a=1, b={"c": 2}, x=[3])
"{:>5}|{:<5}|{:^5}|{:05d}|{:.2f}|{:,}|{:x}|{!r}".format("r", "l", "m", 42, 2.567, 1234567, 255, "q")
"{{}} {}".format(1)
"{:%}".format(0.25)
"{}".format()
d.get("a")
d.get("zz")
d.get("zz", 5)
d.get("items")
d.update({"z": 1})
d.pop("a")
d.copy()
xs.append(1)
xs.append
xs.index(1)
xs.index(9)
xs.count(1)
range(5)|list
range(1, 4)|list
range(5, 0, -2)|list
range(3)
range(0, 10, 3)
range(1000000)
range(3)[1]
range(5)[1:3]|list
3 in range(5)
dict(a=1, b=2)
dict([("a", 1)], c=3)
dict({"x": 1}, y=2)
namespace(a=1).a
namespace(a=1).zz
namespace(a=1)
joiner("|")() ~ "x"
xs|map("nosuch")|list
none|upper
t|string ~ no
t + t
t * 3
f * 2
- neg
+ neg
-neg|abs
-1|abs
n.x
s.x
s.nosuchmethod()
s()
xs()
d.a.b.c
"abc"|first
"abc"|last
[1, 2, 3][xs[1]]
[[1, 2], [3]][0][1]
{"a": {"b": [10, 20]}}.a.b[1]
"\u00e9\u4f60"|length
"\u00e9\u4f60"[1]
[true, false, none, 1.5]
[1, "a", [2, "b"], {"k": (1,)}]|string
xs == [3, 1, 2]
xs is not string and xs is iterable
(xs|map("string"))|first
(1, 2)|first
"a" if "x" in s else "b" ~ "c"
n is number and s is string
n is odd and n > 3 or no
not n is odd
[n is odd, s is string]
"a"|upper ~ "b"|upper
"abc"[1:]|upper
us[0]["name"]|lower
us|map(attribute="name")|map("lower")|sort|join(",")
d.items()|map("first")|list
d|dictsort|map("last")|list
d|items|list|length
us|map(attribute="zz")|list
1.0|int
"1_000"|int
9223372036854775807
1 if [] else 2
1 if "0" else 2
1 if 0.0 else 2
"a\
b"
x.y if x is defined else "no x"
x is defined and x.y
(x or {}).y is defined
strftime_now is defined
raise_exception("no")
"a" == "a" == "a"
"A" < "a"
[] == []
s|trim|length > 3
{"a": 1}.a
{"get": 1}["get"]
none is defined
"<" | e ~ ">"
[1,2,3,]
{"a":1,}
(1,2,)
1,2
"""

STATEMENTS = [
    "a\n{% if t %}\nb\n{% endif %}\nc\n", "  {% if t %}x{% endif %}  \n", "a {%- if t -%} b {%- endif -%} c",
    "a {%+ if t %} b {% endif +%}\nc", "{{ 1 }}\n{{ 2 }}\n\n", "{# c #}\nx {#- c -#} y", "x\n  {# c #}\ny",
    "{% raw %}{{ x }}{% y %}{% endraw %}", "a {%- raw -%} {{ x }} {%- endraw -%} b", "{{ '{{' }}{{ '%}' }}",
    "  {{ 1 }}\n  {% set x = 1 %}\n  {{ x }}", "{{- 1 -}}  \n {{ 2 }}", "a\r\nb\rc\r\n", "\n\n",
    "{% for x in xs %}{{ x }}{% if not loop.last %},{% endif %}{% endfor %}",
    "{% for x in xs %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.depth0 }} {% endfor %}",
    "{% for x in xs %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }} {% endfor %}",
    "{% for x in xs if x > 1 %}{{ loop.index }}:{{ x }}/{{ loop.length }} {% endfor %}",
    "{% for x in [] %}a{% else %}none{% endfor %}", "{% for x in xs if x > 9 %}a{% else %}none{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k in d %}{{ k }},{% endfor %}",
    "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for a, b in [(1, 2, 3)] %}{{ a }}{% endfor %}", "{% for x in nil %}{% endfor %}", "{% for x in zz %}a{% else %}b{% endfor %}",
    "{% for x in 'h\u00e9y' %}{{ x }}.{% endfor %}", "{% for x in xs %}{{ loop.cycle('a', 'b') }}{% endfor %}",
    "{% for x in [1, 1, 2] %}{{ loop.changed(x) }} {% endfor %}",
    "{% for x in xs %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in xs %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in xs %}{% for y in xs %}{% if y == 1 %}{% break %}{% endif %}{{ x }}{{ y }} {% endfor %}{% endfor %}",
    "{% for x in xs %}{% for y in [1] %}{{ loop.index }}{% endfor %}{{ loop.index }}{% endfor %}",
    "{% set y = 1 %}{% for x in xs %}{{ y }}{% set y = x %}{{ y }} {% endfor %}{{ y }}",
    "{% set ns = namespace(n=0) %}{% for x in xs %}{% set ns.n = ns.n + x %}{% endfor %}{{ ns.n }}",
    "{% set ns = namespace() %}{% set ns.a = 1 %}{{ ns.a }}{{ ns.b is defined }}{{ ns['a'] }}",
    "{% set q = 1 %}{% set q.a = 1 %}", "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a = 1, 2 %}{{ a }}",
    "{% set x %}  a {{ n }} {% endset %}[{{ x }}]", "{% set x | upper | trim %} abc {% endset %}[{{ x }}]",
    "{% if no %}a{% elif n == 7 %}b{% else %}c{% endif %}", "{% if no %}a{% elif no %}b{% elif no %}c{% else %}d{% endif %}",
    "{% if t %}{% set z = 5 %}{% endif %}{{ z }}", "{% if xs and d and not e %}y{% endif %}",
    "{% macro m(a, b=2, c='x') %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }} {{ m(1, 3) }} {{ m(1, c='z') }} {{ m(b=1, a=0) }}",
    "{% macro m(a) %}[{{ a }}]{% endmacro %}{{ m() }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(z=2) }}", "{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(4) }}",
    "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, k=3) }}",
    "{% macro m(x) %}{{ x }}{% if x > 0 %}{{ m(x - 1) }}{% endif %}{% endmacro %}{{ m(3) }}",
    "{% macro m() %}{{ n }}{{ zz }}{% endmacro %}{% set zz = 4 %}{{ m() }}",
    "{% macro m() %}{% set n = 9 %}{{ n }}{% endmacro %}{{ m() }}{{ n }}",
    "{% macro m(t) %}<{{ caller(t) }}>{% endmacro %}{% call(x) m('T') %}body {{ x }}{% endcall %}",
    "{% macro m() %}<{{ caller() }}>{% endmacro %}{% call m() %}b{{ n }}{% endcall %}",
    "{% macro m() %}{{ caller is defined }}{% endmacro %}{{ m() }}", "{% call zz() %}{% endcall %}",
    "{% macro m() %}  a  {% endmacro %}[{{ m()|trim }}]{{ m().strip()|length }}{{ m.name }}",
    "{% filter upper %}abc {{ s }}{% endfilter %}", "{% filter replace('a', 'b')|upper %}aa{% endfilter %}",
    "{% with a = 1, b = n %}{{ a }}{{ b }}{% endwith %}{{ a }}", "{% with %}{% set q1 = 1 %}{{ q1 }}{% endwith %}{{ q1 }}",
    "{% generation %}abc{{ n }}{% endgeneration %}", "{% for x in xs %}{% generation %}{{ x }}{{ loop.index }}{% endgeneration %}{% endfor %}",
    "{% print 1 %}", "{{ 1 }}{{ }}", "{{", "{% if %}", "{% if t %}", "{% endif %}", "{% for x %}{% endfor %}", "{% nosuch %}",
    "{{ 'abc }}", "{# abc", "{% set 1 = 2 %}", "{% set %}", "{{ 1 2 }}", "{{ (1 }}", "{{ 1) }}", "{{ a b }}", "{{ a. }}",
    "{{ [1, }}", "{% break %}", "{{ {'a' 1} }}", "{{ x is }}", "{{ x| }}", "{{ f(a=1, 2) }}", "{% macro m(a=1, b) %}{% endmacro %}",
    "{% set l = [1] %}{{ l.append(2) }}", "{% set x = xs|map('string') %}{{ x|list }}{{ x|list }}",
    "{% set j = joiner() %}{{ j() }}{{ j() }}",
    "{% set c = cycler(1, 2) %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.reset() }}{{ c.next() }}",
    "{% for m in us %}{{ m.name }}{% if m.a is defined %}:{{ m.a.b }}{% endif %}\n{% endfor %}",
    "{%- for x in xs -%}\n  {{ x }}\n{%- endfor -%}", "{% for x in xs %}\n  {%- set y = x %}\n  {{- y }}\n{% endfor %}",
    "{{ dict(**d) }}", "{{ range(*[1, 4])|list }}",
    "{% set messages = xs[1:] %}{{ messages }}", "{{ caller }}", "{{ loop }}", "{% for i in range(3) %}{{ loop['index'] }}{% endfor %}",
    "{% for a in xs %}{% if loop.first %}{% set z = a %}{% endif %}{{ z }}{% endfor %}",
    "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}",
    "{% for x in xs %}{% macro m() %}{{ x }}{% endmacro %}{{ m() }}{% endfor %}",
    "{% if 'a' in d and d['a'] == 1 and 'zz' not in d %}ok{% endif %}", "{% set d2 = dict(d, z=1) %}{{ d2|length }}{{ d|length }}",
    "{{ us|selectattr('age', '>', 26)|list|length }}{{ us|selectattr('name', 'in', ['al'])|list|length }}",
    "x{% if t %}\n\ny{% endif %}\n\nz", "\t {%- if t %}\t{% endif %}|", "{{ '\\n' }}|{{ \"\\n\" }}", "{{ \"a\nb\" }}",
    "\u4f60\u597d {{ '\u4f60' ~ s }} \U0001f600", "{{ 'x' }} {{- ' y' }}\n{%- if t %} z{% endif %}",
]


def render(source):
    try:
        return _compile_jinja_template(source).render(**VARIABLES)
    except Exception:
        return None


def main():
    sources = ["{{ " + line + " }}" for line in EXPRESSIONS.strip("\n").replace("\\\nb", "\0b").split("\n")]
    sources = [s.replace("\0b", "\\\nb") for s in sources] + STATEMENTS
    json.dump({"variables": VARIABLES, "cases": [[s, render(s)] for s in sources]}, sys.stdout, ensure_ascii=False, indent=0)
    print()


if __name__ == "__main__":
    main()
