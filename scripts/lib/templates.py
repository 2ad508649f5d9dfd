"""templates.py LLAMA_CPP AXOLOTL OUT: writes the chat templates in llama.cpp's source archive and in axolotl's wheel to OUT, each with
the prompts that jinja2 renders and the messages whose text is missing from them.

The Jinja environment is that of Hugging Face's transformers (utils/chat_template_utils.py). A date is written as ⟦FORMAT⟧; the test that
reads the file fills it in."""

import json
import sys
import tarfile
import zipfile

from jinja2 import nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

llama_cpp, axolotl, out = sys.argv[1:]
BOS, EOS = "<s>", "</s>"


def message(role, content):
    return {"role": role, "content": content}


def system(content):
    return message("system", content)


def user(content):
    return message("user", content)


def answer(content):
    return message("assistant", content)


QUESTION = user("What is 2 + 2?  Say it in Ünïcode 🦀. ")
SYSTEM = system("You are brief.\n\nNever <b>bold</b> & never {{ braces }}.")
WORD = system("The secret word is zanuko.")
ODD = "{{ messages }} {% if x %} </think> [INST] 'q' \"d\" \\n <tool_call>x</tool_call> /no_think"
CONVERSATIONS = [
    [QUESTION],
    [SYSTEM, QUESTION],
    [SYSTEM, QUESTION, answer("Four."), user("\nAnd 3 + 3?"), answer("Six."), user("Thanks!")],
    [user(ODD), answer("a {{ b }}"), user("日本語 ﷽ \u200d a\u0301 \t end\n")],
    [user("Hi"), answer("<think>\nHm, greet.\n</think>\n\nHello!"), user("Again")],
    [user("first"), user("second one"), answer("ok"), user("third")],
    [WORD],
    [system("Be kind."), user("Hi"), answer("Hello!"), WORD, user("What is it?")],
    [system("Be kind."), WORD, user("What is it?")],
    [system("Be kind."), user("Hi"), answer("Hello!")],
]


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.Scope(body).set_lineno(line)


def raise_exception(text):
    raise TemplateError(text)


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
environment.filters["tojson"] = tojson
environment.globals["raise_exception"] = raise_exception
environment.globals["strftime_now"] = lambda format: f"⟦{format}⟧"


def render(template, messages):
    try:
        return template.render(messages=messages, add_generation_prompt=True, bos_token=BOS, eos_token=EOS)
    except Exception:
        return None


def left_out(template, messages):
    """Returns the positions of the messages whose end is missing from the prompt."""
    positions = []
    for at, one in enumerate(messages):
        text = one["content"].rstrip()
        marked = dict(one, content=text + "ZQJX" + one["content"][len(text) :])
        if "ZQJX" not in (render(template, [*messages[:at], marked, *messages[at + 1 :]]) or ""):
            positions.append(at)
    return positions


def case(template, messages):
    rendered = render(template, messages)
    missing = [] if rendered is None else left_out(template, messages)
    return {"messages": messages, "rendered": rendered, "left_out": missing}


def sources():
    with tarfile.open(llama_cpp) as files:
        for member in files:
            if "/models/templates/" in member.name and member.name.endswith(".jinja"):
                yield member.name.rsplit("/", 1)[1], files.extractfile(member).read().decode()
    with zipfile.ZipFile(axolotl) as files:
        for name in files.namelist():
            if "/chat_templates/templates/" in name and name.endswith(".jinja"):
                yield "axolotl/" + name.rsplit("/", 1)[1], files.read(name).decode()


templates = []
for name, source in sorted(sources()):
    template = environment.from_string(source)
    cases = [case(template, messages) for messages in CONVERSATIONS]
    templates.append({"name": name, "source": source, "cases": cases})
with open(out, "w", encoding="utf-8") as file:
    json.dump({"bos": BOS, "eos": EOS, "templates": templates}, file, ensure_ascii=False)
print(f"{len(templates)} chat templates", file=sys.stderr)
