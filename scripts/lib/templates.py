"""templates.py ARCHIVE OUT: the chat templates in llama.cpp's source archive, and what jinja2 renders of each.

The environment is that of Hugging Face's transformers (utils/chat_template_utils.py). A date is written as ⟦FORMAT⟧, for
the reader to fill in."""

import json
import sys
import tarfile

from jinja2 import nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

archive, out = sys.argv[1:]
BOS, EOS = "<s>", "</s>"


def message(role, content):
    return {"role": role, "content": content}


USER = message("user", "What is 2 + 2?  Say it in Ünïcode 🦀. ")
SYSTEM = message("system", "You are brief.\n\nNever <b>bold</b> & never {{ braces }}.")
ANSWER = message("assistant", "Four.")
NEXT = message("user", "\nAnd 3 + 3?")
CONVERSATIONS = [[USER], [SYSTEM, USER], [USER, ANSWER, NEXT], [SYSTEM, USER, ANSWER, NEXT, ANSWER, USER]]


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


templates = []
with tarfile.open(archive) as files:
    for member in files:
        if "/models/templates/" in member.name and member.name.endswith(".jinja"):
            source = files.extractfile(member).read().decode()
            template = environment.from_string(source)
            cases = [{"messages": messages, "rendered": render(template, messages)} for messages in CONVERSATIONS]
            templates.append({"name": member.name.rsplit("/", 1)[1], "source": source, "cases": cases})
templates.sort(key=lambda template: template["name"])
with open(out, "w", encoding="utf-8") as file:
    json.dump({"bos": BOS, "eos": EOS, "templates": templates}, file, ensure_ascii=False)
print(f"{len(templates)} chat templates", file=sys.stderr)
