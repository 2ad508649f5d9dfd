"""The rows that only this server has. Each function returns its values."""

import os
import statistics
import time

from process import OverStdio, WorkerAlone, cpu_seconds, rpc, timed, wait_until_idle
from rows import note
from setting import SAMPLING
from sides import Ours, plain_tool
from texts import prompt_of, story

SCHEMA = {"type": "object", "required": ["title", "summary"], "properties": {
    name: {"type": "string", "minLength": 300, "maxLength": 600} for name in ("title", "summary")}}
IDLE_SECONDS = 5
PIPE_CALLS = 16
PIPE_TOKENS = 64


def writing_speed(side, more):
    _, usage = side.tool("chat", {"text": story(), "max_tokens": 192, **SAMPLING, **more})
    return (usage["completion_tokens"] - 1) / usage["decode_ms"] * 1000


def forced_share(side):
    """Returns the speed with a grammar, in percent of the speed without. Measures both in turns."""
    pairs = [(writing_speed(side, {"json_schema": SCHEMA}), writing_speed(side, {})) for _ in range(3)]
    return 100 * statistics.median(forced / free for forced, free in pairs)


def warmed_first_token(options):
    with Ours.with_tool(options, preload=True, **plain_tool(prompt_of(1500), 1)) as server:
        # Another text, to wait for the model.
        server.call("Hi", 1)
        wait_until_idle(server.pids()["worker"])
        answer, seconds = timed(lambda: server.ask(story()))
        if answer.cached_tokens < 0.9 * 1500:
            note(f"the shared prefix was not warmed: {answer.cached_tokens} of {answer.prompt_tokens} tokens came from the cache")
        return seconds * 1000


def cpu_when_idle(options):
    """Returns the percent of one CPU that the server and its loaded model use while idle. The kernel's clock limits the precision."""
    with Ours(options) as server:
        server.call("Hi", 1)
        pids = server.pids()
        wait_until_idle(pids["worker"])
        before = sum(map(cpu_seconds, pids.values()))
        time.sleep(IDLE_SECONDS)
        return 100 * (sum(map(cpu_seconds, pids.values())) - before) / IDLE_SECONDS


def start_to_initialize(options):
    start = time.perf_counter()
    with OverStdio(options) as server:
        server.write(rpc("initialize", {}))
        server.read_until(b'"serverInfo"')
        return (time.perf_counter() - start) * 1000


def lists_while_loading(options, lists):
    """Returns the milliseconds of each `tools/list` right after the start, before the model can be loaded."""
    def ask():
        server.write(rpc("tools/list", {}))
        server.read_until(b'"inputSchema"')

    with OverStdio(options) as server:
        server.write(rpc("initialize", {}))
        server.read_until(b'"serverInfo"')
        return [timed(ask)[1] * 1000 for _ in range(lists)]


def by_worker(worker, texts):
    worker.generate(*texts, max_tokens=PIPE_TOKENS)
    worker.read_until(b'"done":{', len(texts))


def by_server(server, texts):
    server.write(*(rpc("tools/call", {"name": "chat", "_meta": {"progressToken": text}, "arguments": {
        "text": text, "max_tokens": PIPE_TOKENS, **SAMPLING}}) for text in texts))
    server.read_until(b'"result":', len(texts))


def pipe_cost(options):
    """Measures the same calls to a worker alone and to a worker behind a server, in turns. Both are loaded, and one of them is idle."""
    texts = [f"Write a very long story, number {n}." for n in range(PIPE_CALLS)]
    with WorkerAlone(options) as alone, OverStdio(options) as through:
        sides = [(by_worker, alone, []), (by_server, through, [])]
        for answer, process, _ in sides:
            answer(process, texts[:2])
        before = cpu_seconds(through.process.pid)
        for run in range(options.runs * 3):
            for answer, process, seconds in sides if run % 2 == 0 else reversed(sides):
                seconds.append(timed(lambda: answer(process, texts))[1])
        spent = cpu_seconds(through.process.pid) - before
    (_, _, by_hand), (_, _, served) = sides
    yield f"MCP and pipe: {PIPE_CALLS} calls to the worker alone", "s", by_hand
    yield f"MCP and pipe: {PIPE_CALLS} calls through the server", "s", served
    yield "MCP and pipe: cost, pair by pair", "%", [100 * (b / a - 1) for a, b in zip(by_hand, served)]
    yield "MCP and pipe: the server's share of the CPUs", "%", [100 * spent / (sum(served) * os.cpu_count())]
