"""Measures this server, and optionally a llama-server in turns with it, as their clients see them.

All times are measured by the client, in the same way for both servers: complete calls over HTTP with this server's sampling defaults.
The only exception is the gap between tokens, which is measured at this server's model process, since MCP reports new text at time
intervals. No prompt is used twice, so caches do not matter, except in rows about caches. Some rows start their own servers, and are
compared only with a llama-server that is started here. Rows without a counterpart exist for this server only. The rows "MCP and pipe"
send the same texts to a worker directly and through the server, over standard input.

With --scale, it measures how times and memory of this server grow: each row has values for several sizes (scale.py).

Each row is measured --runs times (the start ten times, the pipe three times as often), the servers in turns. The output has medians,
with the least and the greatest value. It begins with a description of the machine. A row is marked as noisy, with the numbers, if other
processes, a throttled cgroup or a wide spread of its values make it unreliable (machine.py has the limits).
"""

import re
import statistics

import alone
import repeating
import scale
import texts
from process import resident, wait_until_idle
from report import Report
from rows import ROWS, note
from setting import parse
from sides import LlamaProgram, LlamaServer, Ours

# A row that is computed from two others.
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
        """Measures the sides in turns. The side that begins changes with each run."""
        values = [[] for _ in sides]
        for run in range(self.options.runs):
            order = list(range(len(sides)))
            for side in order if run % 2 == 0 else reversed(order):
                measured = row.measure(sides[side])
                if len(sides) > 1 and not row.fresh:
                    # The other side would compete with its threads, which may spin for a while after a call.
                    for pid in sides[side].pids().values():
                        wait_until_idle(pid)
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
        """Returns the names of the rows for memory at rest, before all other rows, and after many calls."""
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
        """Measures the rows of running servers."""
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
        name = "first call of a tool after its shared prefix was warmed: time to first token"
        if self.wanted(name):
            add(name, "ms", self.runs(alone.warmed_first_token, options))
        name = "CPU while idle, model loaded"
        if self.wanted(name):
            add(name, "%", self.runs(alone.cpu_when_idle, options))
        if self.wanted("start to initialize answered"):
            runs = max(options.runs, 5) * 2
            add("start to initialize answered", "ms", [alone.start_to_initialize(options) for _ in range(runs)])
        if self.wanted("tools/list while the model loads"):
            took = [ms for _ in range(10) for ms in alone.lists_while_loading(options, 50)]
            add("tools/list while the model loads", "ms", took)
        for name in filter(self.wanted, repeating.ROWS):
            add(name, "ratio", repeating.gain(options, name))
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
        # All of them have ended before a fresh server starts.
        self.rows([side for side in sides if hasattr(side, "fresh")], fresh=True)
        self.alone()
        self.report.end()

    def scale(self):
        for growth in scale.ROWS:
            if any(map(self.wanted, growth.names)):
                self.report.measuring(growth.names[0])
                for name, unit, values in scale.measure(growth, self.options):
                    if self.wanted(name):
                        self.report.grow(name, unit, values)
        self.report.end()


def main():
    options = parse(__doc__)
    bench = Bench(options)
    bench.scale() if options.scale else bench.run()


main()
