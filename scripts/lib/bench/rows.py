"""The rows that both servers have. Each function measures one side; the first ones use a running server, the last ones start one."""

import statistics
import sys
import time
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor

from process import all_at_once, resident, timed
from setting import SLOTS
from sides import DELTAS
from typed import CLASSIFY, EXTRACT, answers
from texts import begun_story, long_text, prompt_of, some_words, story

# `measure` returns a value for each of the names. A fresh row starts its own servers.
Row = namedtuple("Row", "names unit measure fresh", defaults=[False])


def note(text):
    print(f"note: {text}", file=sys.stderr)


def check_length(side, answers, tokens):
    written = [answer.completion_tokens for answer in answers]
    if min(written) < tokens:
        note(f"{side.name}: answers ended early ({written} tokens)")
    return sum(written)


def check_prompt(side, tokens, wanted):
    if not 0.9 * wanted < tokens < 1.1 * wanted:
        note(f"{side.name}: the prompt has {tokens} tokens, not {wanted}")


def prompt_speed(side):
    answer, seconds = timed(lambda: side.call(prompt_of(2000), 1))
    return answer.prompt_tokens / seconds


def generation_speed(calls):
    """Counts the tokens after the first, and the time after the first token, so that prompts do not count."""
    def measure(side):
        _, prompts = all_at_once(lambda text: side.call(text, 1), [story() for _ in range(calls)])
        answers, seconds = all_at_once(lambda text: side.call(text, 192), [story() for _ in range(calls)])
        return (check_length(side, answers, 128) - calls) / (seconds - prompts)
    return measure


def first_token(side):
    return timed(lambda: side.call(story(), 1))[1] * 1000


def short_call(side):
    return timed(lambda: side.call(story(), 48))[1] * 1000


def short_call_beside(side):
    with ThreadPoolExecutor(1) as pool:
        text, prompt = story(), prompt_of(3000)
        short = pool.submit(lambda: timed(lambda: side.call(text, 48))[1])
        # The short call starts just before the prompt is sent.
        time.sleep(0.05)
        check_prompt(side, side.call(prompt, 1).prompt_tokens, 3000)
        return short.result() * 1000


def worst_gap(side):
    """Returns the longest gap, from the piece after which the prompt is sent to the first piece after its answer."""
    for _ in range(5):
        pieces, end = side.stream_beside(story(), prompt_of(3000))
        if end and pieces[-1] >= end:
            pieces = pieces[DELTAS - 1:]
            return max(after - before for before, after in zip(pieces, pieces[1:])) * 1000
    sys.exit(f"{side.name}: five streams ended before the prompt beside them was read")


def same_tool(side):
    """Sends eight questions at once to a tool with a system prompt, then eight others. The first eight arrive as soon as the server listens,
    before it can have prefilled the prompt; this server loads its model then."""
    with side.fresh_with_tool(prompt_of(1500), 32) as server:
        seconds = []
        for _ in range(2):
            answers, took = all_at_once(server.ask, [begun_story() for _ in range(8)])
            check_length(side, answers, 32)
            check_prompt(side, answers[0].prompt_tokens, 1530)
            seconds.append(took)
        return tuple(seconds)


class Chat:
    """A conversation with fixed answers, so that it has the same length on both sides."""

    def __init__(self):
        self.messages = []

    def turn(self, server):
        """Asks the next question, and returns the milliseconds to the first token of its answer."""
        self.messages.append({"role": "user", "content": long_text(14)})
        _, seconds = timed(lambda: server.chat(self.messages, 1))
        self.messages.append({"role": "assistant", "content": some_words(60)})
        return seconds * 1000


def chats(side):
    """Two clients with two chats each, turn by turn, so there are more chats than sequences. First turns are left out: nothing is cached for
    them."""
    def client(chats):
        return [[chat.turn(server) for chat in chats] for _ in range(10)]

    with side.fresh(slots=2) as server:
        server.call("Hi", 1)
        with ThreadPoolExecutor(2) as pool:
            turns = list(pool.map(client, [[Chat(), Chat()], [Chat(), Chat()]]))
    return statistics.median(took for of_client in turns for turn in of_client[1:] for took in turn)


def memory_when_busy(side):
    """Returns the peak memory while the server writes eight answers."""
    with side.fresh() as server:
        server.call("Hi", 1)
        pids, most = server.pids().values(), 0
        with ThreadPoolExecutor(SLOTS) as pool:
            calls = [pool.submit(server.call, story(), 192) for _ in range(SLOTS)]
            while not all(call.done() for call in calls):
                most = max(most, resident(*pids))
                time.sleep(0.05)
        check_length(side, [call.result() for call in calls], 128)
        return most


def cold_call(side):
    start = time.perf_counter()
    return (side.cold_call() - start) * 1000


ROWS = [
    Row(["prompt of 2,000 tokens"], "tok/s", prompt_speed),
    *(Row([f"generation, {calls} at once"], "tok/s", generation_speed(calls)) for calls in (1, 2, 4, 8)),
    Row(["time to first token"], "ms", first_token),
    Row(["48-token call alone"], "ms", short_call),
    Row(["48-token call during a 3,000-token prompt"], "ms", short_call_beside),
    Row(["worst inter-token latency of a running stream during a 3,000-token prompt"], "ms", worst_gap),
    Row(["8 calls of one tool with a 1,500-token system prompt, nothing cached",
         "the same again, warm, distinct questions"], "s", same_tool, fresh=True),
    Row(["16 texts classified by choices, 8 at once"], "s", answers(CLASSIFY, 16, 8), fresh=True),
    Row(["8 tickets of 6 fields, 8 at once"], "s", answers(EXTRACT, 8, 8), fresh=True),
    Row(["8 tickets of 6 fields, one by one"], "s", answers(EXTRACT, 8, 1), fresh=True),
    Row(["4 chats of 10 turns over 2 sequences: time to first token"], "ms", chats, fresh=True),
    Row(["resident memory, 8 sequences busy"], "MiB", memory_when_busy, fresh=True),
    Row(["process start to first token of a cold call"], "ms", cold_call, fresh=True),
]
