"""The rows of answers that repeat their prompt: this server with and without draft tokens, alternating."""

from sides import Ours

LETTER = """Anna Weber called on Tuesday because the lamp that she bought in our shop in Hamburg is broken. She has written to Peter Novak
twice, on the 3rd and on the 9th of May, but has not received an answer. Her order number is 4711-23, and the lamp cost 89 euros. She would
like to have her money back, or a new lamp of the same kind. Peter Novak should call her back before Friday, on 040 555 0199. If he does not
reach her, he should write to Maria Weber, her sister, who lives in the same house."""

REDACT = {"prompt": "Repeat the following text word for word, but replace the names of people with [NAME].\n\n{{ question }}",
          "max_tokens": 160}

FIELDS = ["customer", "contact", "order_number", "problem", "request", "phone"]
EXTRACT = {
    "prompt": "Extract the data of this message as JSON. Copy the words of the message.\n\n{{ question }}",
    "output": {"type": "object", "properties": {name: {"type": "string", "maxLength": 120} for name in FIELDS}, "required": FIELDS},
}

STORY = {"prompt": "{{ question }}", "max_tokens": 160}

ROWS = {
    "drafts: redaction of a letter": (REDACT, LETTER),
    "drafts: data of a letter as JSON": (EXTRACT, LETTER),
    "drafts: a story, which repeats nothing": (STORY, "Write a very long story about a crab and a river."),
}


def gain(options, row):
    """Returns the speedup through draft tokens, one value for each run: the time of a token without drafts divided by that with drafts."""
    tool, text = ROWS[row]
    servers = [Ours.with_tool(options, model={"speculative": speculative}, **tool, temperature=0.0, repeat_penalty=1.0)
               for speculative in ("auto", "off")]
    try:
        def seconds_per_token(server):
            _, usage = server.tool("ask", {"question": text})
            return usage["decode_ms"] / max(1, usage["completion_tokens"] - 1)

        for server in servers:
            seconds_per_token(server)
        times = [[seconds_per_token(server) for server in servers] for _ in range(options.runs)]
        return [off / auto for auto, off in times]
    finally:
        for server in servers:
            server.stop()
