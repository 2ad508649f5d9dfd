"""Measures this server, and alternately a llama-server beside it, as their clients see them.

Every figure is taken by the client's clock, the same way on both sides: whole calls over HTTP, sampled with this server's
defaults, but for the gap between tokens, which is that of this server's model process, since MCP tells of new text by time. No
prompt is used twice, so no cache answers but where a row is about it. Some rows start servers of their own, and are only
compared with a llama-server that is started here. What has no counterpart is this server's alone; the rows MCP and pipe are the same
texts to a worker by hand and through the server, over their standard input. Each row is measured --runs times (start ten
times, the pipe three times as often), the sides by turns; what is printed are medians, with the least and the greatest value.
"""

import re
import statistics

import alone
import texts
from process import resident
from report import Report
from rows import ROWS, note
from setting import parse
from sides import LlamaProgram, LlamaServer, Ours

# A row that is made of two others.
SHARED = "generation, 8 at once over 1"
SHARE = ["generation, 1 at once", "generation, 8 at once"]


class Bench:
    def __init__(self, options):
        self.options, self.report, self.medians = options, Report(options), {}

    def wanted(self, name):
        return re.search(self.options.rows, name)

    def runs(self, measure, *arguments):
        return [measure(*arguments) for _ in range(self.options.runs)]

    def measure(self, row, sides):
        """By turns: who begins changes with every run."""
        values = [[] for _ in sides]
        for run in range(self.options.runs):
            order = list(range(len(sides)))
            for side in order if run % 2 == 0 else reversed(order):
                measured = row.measure(sides[side])
                values[side].append(measured if isinstance(measured, tuple) else (measured,))
        for index, name in enumerate(row.names):
            of_sides = [[measured[index] for measured in of_side] for of_side in values]
            self.medians[name] = [statistics.median(of_side) for of_side in of_sides]
            if self.wanted(name):
                self.report.add(name, row.unit, *of_sides)

    def needs(self, row):
        return any(map(self.wanted, row.names)) or row.names[0] in SHARE and self.wanted(SHARED)

    def rows(self, sides, fresh):
        for row in ROWS:
            if row.fresh == fresh and self.needs(row):
                self.report.measuring(row.names[0])
                self.measure(row, sides)

    def memory_names(self, side, process):
        """At rest, which is before all other rows, and after many calls."""
        name = f"resident memory, {side.name}, {process}"
        return f"{name}, at rest", f"{name}, after {self.options.calls} calls"

    def memory(self, side, rest):
        for _ in range(self.options.calls):
            side.call(f"Hi {next(texts.number)}", 1)
        for process, pid in side.pids().items():
            for name, value in zip(self.memory_names(side, process), (rest[process], resident(pid))):
                if self.wanted(name):
                    self.report.add(name, "MiB", [value])

    def running(self, sides):
        """What servers that run are asked."""
        for side in sides:
            texts.calibrate(side)
        if len(tokens := {side.call("Hi", 1).prompt_tokens for side in sides}) > 1:
            note(f"the servers' templates differ: the same prompt has {' or '.join(map(str, tokens))} tokens")
        rest = [(side, {process: resident(pid) for process, pid in side.pids().items()}) for side in sides]
        self.rows(sides, fresh=False)
        if self.wanted("forced JSON: share of the free speed"):
            self.report.add("forced JSON: share of the free speed", "%", self.runs(alone.forced_share, sides[0]))
        if self.wanted(SHARED):
            one, eight = (self.medians[name] for name in SHARE)
            self.report.add(SHARED, "ratio", *([many / single] for many, single in zip(eight, one)))
        for side, processes in rest:
            if any(self.wanted(name) for process in processes for name in self.memory_names(side, process)):
                self.memory(side, processes)

    def alone(self):
        options, add = self.options, self.report.add
        name = "first call of a tool after its fixed prompt was warmed: time to first token"
        if self.wanted(name):
            add(name, "ms", self.runs(alone.warmed_first_token, options))
        name = "CPU while nobody asks, model loaded"
        if self.wanted(name):
            add(name, "%", self.runs(alone.cpu_when_idle, options))
        if self.wanted("start to initialize answered"):
            runs = max(options.runs, 5) * 2
            add("start to initialize answered", "ms", [alone.start_to_initialize(options) for _ in range(runs)])
        if self.wanted("tools/list while the model loads"):
            took = [ms for _ in range(10) for ms in alone.lists_while_loading(options, 50)]
            add("tools/list while the model loads", "ms", took)
        if self.wanted("MCP and pipe"):
            for row in alone.pipe_cost(options):
                add(*row)

    def run(self):
        sides = []
        try:
            sides.append(Ours(self.options))
            if self.options.against:
                sides.append(LlamaServer(self.options.against, self.options.against_pid))
            if self.options.against_program:
                sides.append(LlamaProgram(self.options))
            self.running(sides)
        finally:
            for side in sides:
                side.stop()
        # None of them runs beside a fresh one.
        self.rows([side for side in sides if hasattr(side, "fresh")], fresh=True)
        self.alone()
        self.report.end()


Bench(parse(__doc__)).run()
