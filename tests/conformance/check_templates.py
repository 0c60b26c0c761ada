#!/usr/bin/env python3
"""Random conversations through real chat templates, by Loquat and by transformers: every text must be the same.

    check_templates.py BUILD/tests/render_templates TEMPLATE_DIR [COUNT [SEED]]

COUNT (default 200) conversations for each template. Needed: transformers, jinja2.
"""
import json
import pathlib
import random
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "scripts"))
from make_template_reference import NOW, NO_PARAMETERS, WEATHER, call, render  # noqa: E402

PIECES = ["Hello", " ", "\n", "\t", "<think>", "</think>", "\u00e9\u4f60", "\U0001f600", "'", '"', "\\", "{{ x }}", "{% y %}",
          "<|im_end|>", "</s>", "&<>", "\u3000", "\u2028", "\x1f", "None", "1.5", "# a\n- b", "<tool_response>", "/no_think", "a\r\nb"]
VALUES = [1, -2.5, 1e22, 1e-7, True, None, "x", [], {}, [1, "b", None], {"k": {"n": [1.0]}}, 123456789012345678]


def text(rng):
    return "".join(rng.choice(PIECES) for _ in range(rng.randrange(6)))


def arguments(rng):
    if rng.random() < 0.2:
        return text(rng)
    return {rng.choice(["city", "Days", "\u00fc b", "zz", "A"]): rng.choice(VALUES + [text(rng)]) for _ in range(rng.randrange(4))}


def message(rng, role):
    m = {"role": role, "content": text(rng)}
    if role == "assistant":
        if rng.random() < 0.2:
            m["tool_calls"] = [call(rng.choice(["f", "now"]), arguments(rng)) for _ in range(rng.randrange(1, 3))]
            if rng.random() < 0.3:
                m["content"] = None
        if rng.random() < 0.2:
            m[rng.choice(["reasoning_content", "thinking", "reasoning"])] = rng.choice([text(rng), None])
    if role == "tool":
        m.update(tool_call_id="abcdef123", name="f")
    if rng.random() < 0.05:
        m["content"] = [{"type": "text", "text": text(rng)}]
    if rng.random() < 0.02:
        m["content"] = rng.choice(VALUES)
    if rng.random() < 0.02:
        del m["content"]
    return m


def conversation(rng):
    roles = (["system"] if rng.random() < 0.4 else []) + ["user"]
    while rng.random() < 0.8:
        follows = {"user": ["assistant"] * 5 + ["user"], "assistant": ["user"] * 4 + ["tool", "tool", "assistant"],
                   "tool": ["assistant"] * 3 + ["tool"], "system": ["user"]}
        roles.append(rng.choice(follows[roles[-1]]))
    return [message(rng, role) for role in roles]


def main():
    program, directory = sys.argv[1:3]
    count, seed = (int(a) for a in (sys.argv[3:] + ["200", "1"][len(sys.argv) - 3:])[:2])
    rng = random.Random(seed)
    jobs, wanted = [], []
    for path in sorted(pathlib.Path(directory).glob("*.jinja")):
        source = path.read_text(encoding="utf-8")
        for _ in range(count):
            tools = rng.choice([None, None, [WEATHER], [WEATHER, NO_PARAMETERS]])
            variables = rng.choice([{}, {}, {"enable_thinking": rng.random() < 0.5}, {"builtin_tools": ["browser"]}])
            messages, prompt = conversation(rng), rng.random() < 0.5
            jobs.append({"template": source, "messages": messages, "tools": tools, "variables": variables,
                         "prompt": prompt, "bos": "<s>", "eos": "</s>", "now": NOW})
            wanted.append((path.name, render(source, messages, tools, prompt, variables)))
    result = subprocess.run([program], input="".join(json.dumps(j) + "\n" for j in jobs), capture_output=True, text=True,
                            check=True)
    wrong = texts = 0
    for (name, want), job, line in zip(wanted, jobs, result.stdout.split("\n"), strict=False):
        reply = json.loads(line)
        texts += want is not None
        if reply.get("text") != want:
            wrong += 1
            print(name, json.dumps(job["messages"]), "\n  wanted", repr(want), "\n  got   ", repr(reply))
    print(f"{len(jobs)} conversations, {texts} with a text, {wrong} differ")
    sys.exit(wrong != 0)


if __name__ == "__main__":
    main()
