"""The calls of calls.json to the tools of tools.toml: every client makes all of them and must accept every answer."""

import dataclasses
import json
import pathlib
import sys

TOOLS = pathlib.Path(__file__).with_name("tools.toml")


@dataclasses.dataclass
class Call:
    """One call. `text` is the whole answer, or `None` if the answer is an object."""

    tool: str
    arguments: dict
    text: str | None

    def check(self, text, structured=None):
        """Checks the answer, as far as the client passes it on."""
        if self.text is not None:
            assert text == self.text, f"answered {text!r}"
            return
        value = json.loads(text)
        assert isinstance(value, dict), f"answered {text!r}"
        assert structured in (None, value), f"the text is {text!r}, the structured value {structured!r}"


def every_call():
    """Returns all calls. An entry with `count_to` N stands for N calls, with the numbers from 1 to N as `number`."""
    calls = []
    for entry in json.loads(pathlib.Path(__file__).with_name("calls.json").read_text()):
        numbers = [{"number": number + 1} for number in range(entry.get("count_to", 0))]
        calls += [Call(entry["tool"], entry["arguments"] | number, entry.get("text")) for number in numbers or [{}]]
    return calls


async def make_every_call(names, call):
    """Makes all calls and returns the faults. `call` takes a tool's name and arguments, and returns the text and the structured
    value of the answer. It raises if the client does."""
    wanted = sorted({each.tool for each in every_call()})
    faults = [] if sorted(names) == wanted else [f"lists {sorted(names)} instead of {wanted}"]
    for each in every_call():
        try:
            each.check(*await call(each.tool, each.arguments))
        except Exception as error:
            faults.append(f"{each.tool}: {brief(error)}")
    return faults


def brief(error):
    """Returns the type and the first line of an exception."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def report(client, faults):
    """Prints the result of a client, and exits with 1 if there are faults."""
    if faults:
        print(f"{client}: {len(faults)} faults", *faults, sep="\n  ", file=sys.stderr)
        sys.exit(1)
    print(f"{client}: ok, {len(every_call())} answers", flush=True)
