#!/usr/bin/env python3
"""Expected outputs of chat templates, rendered by Hugging Face transformers: the oracle of check_template.c.

    make_template_reference.py TEMPLATE_DIR > tests/reference/templates.json

Writes the conversations, and for each template file and conversation either the hash of the text (64-bit
FNV-1a of its UTF-8 bytes, with its length) or "error" where the template refuses. The templates themselves
belong to their models and are not part of this repository. Needed: transformers, jinja2.
"""
import datetime
import json
import pathlib
import sys

from transformers.utils import chat_template_utils

NOW = 1750000000  # 2025-06-15, 15:06 UTC: the same date in every time zone from -12 to +8


class FixedDate(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.fromtimestamp(NOW, tz)


chat_template_utils.datetime = FixedDate

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather in a city, \"now\".",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Name of the city, e.g. K\u00f6ln"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
                "days": {"type": "integer", "nullable": True},
                "where": {"type": "object", "properties": {"lat": {"type": "number"}, "lon": {"type": "number"}},
                          "required": ["lat", "lon"]},
                "tags": {"type": "array", "items": {"type": "string"}},
                "any": {"oneOf": [{"type": "string"}, {"type": "object", "description": "x"}]},
                "flag": {"type": "boolean", "default": False},
            },
            "required": ["city"],
        },
    },
}
NO_PARAMETERS = {"type": "function", "function": {"name": "now", "description": "The time.",
                                                  "parameters": {"type": "object", "properties": {}}}}


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def system(text):
    return {"role": "system", "content": text}


def call(name, arguments, id="abcdef123"):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


CITY = {"city": "K\u00f6ln", "days": 2, "deep": {"a": [1, 2.5, None, True]}}
CALLS = [user("Weather?"), assistant("", tool_calls=[call("get_weather", CITY)]),
         {"role": "tool", "content": "12 \u00b0C", "tool_call_id": "abcdef123", "name": "get_weather"}]
CONVERSATIONS = {
    "one": [user("Hello")],
    "turn": [user("Hello"), assistant("Hi there.")],
    "system": [system("You are terse."), user("Hello"), assistant("Hi.")],
    "long": [system("  Be kind. "), user("One?"), assistant("1"), user("Two?"), assistant("2"), user("Three?"),
             assistant("Three is 3.")],
    "no_system_long": [user("One?"), assistant("1"), user("Two?"), assistant("2"), user("Three?")],
    "same_answers": [user("a"), assistant("OK"), user("b"), assistant("OK"), user("OK"), assistant("OK")],
    "spaces": [user("  lead and trail \n"), assistant("\n\n  answer \t\n")],
    "empty": [user(""), assistant("")],
    "unicode": [system("\u4f60\u597d"), user("\U0001f600 \u00e9\u0301 \u00df \u0130 \u3000"),
                assistant("\u041f\u0440\u0438\u0432\u0435\u0442 \U0001f1e9\U0001f1ea\u200d <b>&'\"</b> \\n {{ x }} {% y %}")],
    "think_inline": [user("2+2?"), assistant("<think>\nIt is 4.\n</think>\n\n4"), user("3+3?"),
                     assistant("<think>\nSix.\n</think>\n\n6")],
    "think_field": [user("2+2?"), assistant("4", reasoning_content="It is 4."), user("3+3?"),
                    assistant("6", reasoning_content="\nSix.\n")],
    "thinking_field": [user("2+2?"), assistant("4", thinking="It is 4.")],
    "no_think": [system("/no_think Be brief."), user("2+2?"), assistant("4")],
    "special": [user("<|im_end|>\n<|im_start|>assistant"), assistant("a <|im_end|> b </s> <|eot_id|>")],
    "calls": CALLS + [assistant("It is 12 degrees.")],
    "calls_open": CALLS,
    "calls_think": [user("Weather?"), assistant("", reasoning_content="Ask.", tool_calls=[call("get_weather", CITY)]),
                    CALLS[2], assistant("12.", reasoning_content="Got it.")],
    "calls_none": [user("Weather?"), {"role": "assistant", "content": None, "tool_calls": [call("now", {})]},
                   CALLS[2], assistant("12."), user("Thanks"), assistant("Welcome.")],
    "calls_text": [user("Weather?"), assistant("Let me see.", tool_calls=[call("get_weather", "{\"city\": \"Rome\"}")]),
                   CALLS[2], assistant("12.")],
    "calls_two": [user("Weather?"), assistant("", tool_calls=[call("get_weather", CITY), call("now", {}, "123456789")]),
                  CALLS[2], {"role": "tool", "content": "noon", "tool_call_id": "123456789", "name": "now"},
                  assistant("12 at noon.")],
    "calls_missing_content": [user("Weather?"), {"role": "assistant", "tool_calls": [call("now", {})]}, CALLS[2]],
    "tool_json": [CALLS[0], CALLS[1], {**CALLS[2], "content": {"t": 12, "ok": True}}, assistant("12.")],
    "parts": [user([{"type": "text", "text": "Look: "}, {"type": "text", "text": "here"}]),
              assistant([{"type": "text", "text": "I see."}])],
    "image": [user([{"type": "image"}, {"type": "text", "text": " What is it? "}]), assistant("A cat.")],
    "assistant_first": [assistant("Welcome!"), user("Hi"), assistant("How are you?")],
    "two_users": [user("a"), user("b"), assistant("c")],
    "two_assistants": [user("a"), assistant("b"), assistant("c"), user("d"), assistant("e")],
    "late_system": [user("a"), system("Now in French."), assistant("b")],
    "developer": [{"role": "developer", "content": "Be formal."}, user("a"), assistant("b")],
    "no_messages": [],
}
# name, tools, generation prompt, further variables
SETTINGS = [
    ("plain", None, False, {}),
    ("prompt", None, True, {}),
    ("tools", [WEATHER, NO_PARAMETERS], False, {}),
    ("tools_prompt", [WEATHER], True, {}),
    ("no_thinking", None, True, {"enable_thinking": False}),
    ("thinking", None, True, {"enable_thinking": True, "keep_past_thinking": True, "thinking": True}),
    ("variables", [NO_PARAMETERS], False, {"tools_in_user_message": False, "date_string": "1 Jan 2025",
                                           "builtin_tools": ["browser", "python"], "reasoning_effort": "high",
                                           "model_identity": "You are X.", "controls": {"length": "short", "n": 1.0},
                                           "documents": [{"doc_id": 1, "title": "T", "text": "Text."}]}),
]
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


def render(source, messages, tools, prompt, variables, tokens=TOKENS):
    """The text, or None where the template refuses."""
    more = dict(variables)
    documents = more.pop("documents", None)
    try:
        texts, _ = chat_template_utils.render_jinja_template(
            conversations=[messages], tools=tools, documents=documents, chat_template=source,
            add_generation_prompt=prompt, **tokens, **more)
    except Exception:
        return None
    return texts[0]


def fnv(data):
    h = 0xCBF29CE484222325
    for b in data:
        h = (h ^ b) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h


def main():
    expected = {}
    for path in sorted(pathlib.Path(sys.argv[1]).glob("*.jinja")):
        source = path.read_text(encoding="utf-8")
        for setting, tools, prompt, variables in SETTINGS:
            row = expected.setdefault(path.name, {}).setdefault(setting, {})
            for name, messages in CONVERSATIONS.items():
                text = render(source, messages, tools, prompt, variables)
                data = text.encode() if text is not None else b""
                row[name] = "error" if text is None else f"{fnv(data):016x} {len(data)}"
    json.dump({"now": NOW, **TOKENS, "conversations": CONVERSATIONS,
               "settings": {n: {"tools": t, "prompt": p, "variables": v} for n, t, p, v in SETTINGS},
               "expected": expected}, sys.stdout, ensure_ascii=False, indent=0)
    print()


if __name__ == "__main__":
    main()
