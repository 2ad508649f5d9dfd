"""How one model grows with its slots, its context and its tools.

All rows but the first use a tiny model, so that the server's own work shows: the prefix cache, its saved states, and admission. Its header
is changed, since the server caps `n_ctx` to the trained context. Beyond its true context the model writes nonsense, at the same speed.
"""

import copy
import re
import statistics
import struct
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import texts
from process import WorkerAlone, resident, timed, wait_until_idle
from rows import all_at_once, note
from sides import Ours, plain_tool

TINY = Path(__file__).parents[3] / "tests/models/tiny-crab-chat.Q8_0.gguf"
CONTEXT = 140_000
# The context of each of many streams, and for how long they are observed.
STREAM_CONTEXT, STREAM_SECONDS = 512, 5


@contextmanager
def tiny(options):
    """Yields options with a tiny model whose header says that it was trained for `CONTEXT` tokens. Calibrates the texts for it."""
    key = b"llama.context_length" + struct.pack("<I", 4)
    model = re.sub(re.escape(key) + b"....", key + struct.pack("<I", CONTEXT), TINY.read_bytes(), flags=re.DOTALL)
    with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
        file.write(model)
        file.flush()
        changed = copy.copy(options)
        changed.model = file.name
        with server(changed, {}) as side:
            texts.calibrate(side)
        yield changed


def server(options, model, tools={}):
    """Starts a server with a model that has these settings, and with tools that have these keys, by name."""
    tables = {"server": {"max_queue": 1000},
              "models.chat": {"path": options.model, "n_threads": options.threads, "n_ctx": 8192, **model}}
    for name, keys in tools.items():
        tables |= {f"tools.{name}": {"model": "chat", **keys},
                   f"tools.{name}.arguments.question": {"description": "What is asked."}}
    return Ours.configured(options, tables)


def streams(options, slots):
    """Returns the time until all slots generate, and then the speed of all streams together, the worst inter-token latency, and the
    memory."""
    with WorkerAlone(options, slots, STREAM_CONTEXT) as worker:
        worker.generate(texts.story(), max_tokens=1)
        worker.read_until(b'"done":{')
        sent = time.perf_counter()
        waiting = set(worker.generate(*(texts.story() for _ in range(slots)), max_tokens=STREAM_CONTEXT))
        while waiting:
            call, _ = next_delta(worker)
            waiting.discard(call)
        begin, last, gaps, tokens = time.perf_counter(), {}, [], 0
        while (now := time.perf_counter()) < begin + STREAM_SECONDS:
            call, now = next_delta(worker)
            gaps.append(now - last.get(call, now))
            last[call], tokens = now, tokens + 1
        return begin - sent, tokens / (now - begin), max(gaps) * 1000, resident(worker.process.pid)


def next_delta(worker):
    """Returns the call of the next piece of text, and when it arrived."""
    while True:
        call, update = worker.news()
        if update.done:
            sys.exit("error: a stream ended before all had begun")
        if update.delta:
            return call, time.perf_counter()


def shared(options, slots):
    """Returns the time of each of `slots` calls at once that share a warm prefix: of chats, and of a tool."""
    with tiny(options) as changed:
        prefix = texts.prompt_of(1500)
        with server(changed, {"parallel": slots, "n_ctx": 4096}) as side:
            chats = each_call(lambda question: side.call(f"{prefix} {question}", 1), slots)
        with server(changed, {"parallel": slots, "n_ctx": 4096}, {"ask": plain_tool(prefix, 1)}) as side:
            tools = each_call(side.ask, slots)
    return chats, tools


def each_call(ask, calls):
    """Returns the milliseconds per call, once the same number of calls has been answered."""
    for _ in range(2):
        answers, seconds = all_at_once(ask, [texts.story() for _ in range(calls)])
    if min(answer.cached_tokens for answer in answers) < 1000:
        note("not every call found the shared prefix in the cache")
    return 1000 * seconds / calls


def long_prompt(options, tokens):
    """Returns the times to the first token of a long prompt: nothing cached, cached in its sequence, and restored. The last value is the
    memory of its saved state."""
    with tiny(options) as changed, server(changed, {"parallel": 1, "n_ctx": CONTEXT, "cache_ram": "1GiB"}) as side:
        side.call("Hi", 1)
        prefix = texts.prompt_of(tokens)
        cold, seconds = timed(lambda: side.call(prefix, 1))
        own = timed(lambda: side.call(f"{prefix} Why?", 1))[1]
        worker = side.pids()["worker"]
        before = resident(worker)
        side.call(texts.story(), 1)
        saved = resident(worker) - before
        again, restored = timed(lambda: side.call(f"{prefix} How?", 1))
    if again.cached_tokens < 0.9 * cold.prompt_tokens:
        note(f"the prompt of {cold.prompt_tokens} tokens was not restored: {again.cached_tokens} tokens came from the cache")
    return seconds * 1000, seconds * 1e6 / cold.prompt_tokens, own * 1000, restored * 1000, saved


def many_tools(options, tools):
    """Returns the share of tools that are warm before their first call, the times of the first and the second call, the time until all
    shared prefixes are warm, and the memory of the server and of the model."""
    with tiny(options) as changed:
        keys = {f"ask{number}": plain_tool(texts.prompt_of(1500), 1) for number in range(tools)}
        start = time.perf_counter()
        with server(changed, {"preload": True}, keys) as side:
            worker = side.pids()["worker"]
            wait_until_idle(worker)
            # `wait_until_idle` waits for a second without work.
            warm = time.perf_counter() - start - 1
            # About eight tools are called, since each call of a cold tool decodes its whole prefix.
            asked = list(keys)[::max(1, tools // 8)]
            calls = [[timed(lambda: side.answer(name, {"question": texts.story()})) for name in asked] for _ in range(2)]
            memory = [resident(pid) for pid in side.pids().values()]
    found = sum(answer.cached_tokens > 1000 for answer, _ in calls[0])
    return 100 * found / len(asked), *(1000 * statistics.median(seconds for _, seconds in of_round) for of_round in calls), warm, *memory
