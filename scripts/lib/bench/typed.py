"""The rows of typed tools. Both servers get the same prompts and schemas."""

import json
import sys
import time

from process import all_at_once
from setting import SLOTS
from texts import WORDS, drawn, number

LABELS = ["invoice or payment", "broken product", "delivery is late", "question about an account"]


def one_of(*values):
    return {"type": "string", "enum": list(values)}


FIELDS = {
    "category": one_of("billing", "technical", "delivery", "account"),
    "priority": one_of("low", "medium", "high"),
    "sentiment": one_of("positive", "neutral", "negative"),
    "product": {"type": "string", "maxLength": 16},
    "days_waiting": {"type": "integer", "minimum": 0, "maximum": 99},
    "needs_reply": {"type": "boolean"},
}
TICKET = {"type": "object", "properties": FIELDS, "required": list(FIELDS), "additionalProperties": False}

# A typed tool: its prompt before the text, and the schema of its answer.
CLASSIFY = ("What is this message about?\n\n", {"type": "string", "enum": LABELS})
EXTRACT = ("Describe this support ticket as JSON.\n\n", TICKET)


def ticket():
    product, days = drawn.choice(WORDS), drawn.randrange(2, 30)
    return f"Ticket {next(number)}. The {product} that I ordered {days} days ago is broken. Please send me another one, or my money back."


def answers(tool, count, at_once):
    """Measures the seconds for `count` texts, `at_once` at a time, once the server has answered others."""
    def measure(side):
        with side.fresh_with_typed(*tool) as server:
            for _ in range(2):
                all_at_once(server.ask, [ticket() for _ in range(SLOTS)])
            # This server prefills the tool's prompt as soon as it is idle.
            time.sleep(0.5)
            texts = [ticket() for _ in range(count)]
            given, seconds = all_at_once(server.ask, texts, at_once)
        for answer in given:
            try:
                json.loads(answer.text)
            except ValueError:
                sys.exit(f"{side.name}: an answer is not complete: {answer.text}")
        return seconds
    return measure
