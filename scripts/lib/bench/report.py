"""Prints the results: a line for each row as text, or JSON or a Markdown table at the end. Names the machine, and what disturbed a row."""

import json
import os
import statistics
import sys

import machine
from setting import CONTEXT, SLOTS

WIDTH = 74


def spread(values):
    median = f"{statistics.median(values):10.1f}"
    return median if len(values) == 1 else f"{median} ({min(values):.1f} to {max(values):.1f}, {len(values)})"


def amount(value, unit):
    """Formats a value with three significant digits, or with all digits before the point."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}" + ("" if unit == "ratio" else f" {unit}")


def growth_text(row):
    growth = "" if row["growth"] is None else f" → value ×{row['growth']:.2f}"
    return f"size ×{row['size_growth']:.3g}{growth}"


class Report:
    def __init__(self, options):
        self.options = options
        self.table, self.machine = [], machine.describe()
        self.noise = machine.Noise([options.against_pid] if options.against_pid else [])
        self.setting = f"{os.path.basename(options.model)}, {options.threads} threads"
        if not options.scale:
            self.setting += f", {SLOTS} sequences of {CONTEXT:,} tokens"
        self.is_text = not (options.json or options.markdown)
        if self.is_text:
            print(machine.as_text(self.machine))
            print(f"{self.setting}; median (least to greatest, number of values)")
        if self.is_text and not options.scale:
            print(f"{'':{WIDTH}} {'':6} {'this server':34}" + (f" {'against':34}  ratio" if options.compared else ""))

    def measuring(self, name):
        if sys.stderr.isatty():
            print(f"\033[Kmeasuring: {name} ...", end="\r", file=sys.stderr)

    def add(self, name, unit, ours, against=()):
        row = {"row": name, "unit": unit, "ours": ours, "median": statistics.median(ours)}
        if against:
            row |= {"against": list(against), "against_median": statistics.median(against)}
            row["ratio"] = row["median"] / row["against_median"]
        self.append(row, ours, against)
        if self.is_text:
            line = f"{name:{WIDTH}} {unit:6} {spread(ours):34}"
            if against:
                line += f" {spread(against):34} {row['ratio']:6.2f}"
            print(line.rstrip(), flush=True)
            self.print_noise(row)

    def grow(self, name, unit, values):
        """Adds a row with the values of each size, smallest first."""
        medians = {size: statistics.median(of_size) for size, of_size in values.items()}
        sizes = list(medians)
        growth = [sizes[-1] / sizes[0], medians[sizes[-1]] / medians[sizes[0]] if medians[sizes[0]] else None]
        row = {"row": name, "unit": unit, "values": values, "medians": medians, "size_growth": growth[0], "growth": growth[1]}
        self.append(row, *values.values())
        if self.is_text:
            cells = "".join(f"  {size:>7,}: {spread(of_size):34}" for size, of_size in values.items())
            print(f"{name:{WIDTH}} {unit:6} {cells} {growth_text(row)}", flush=True)
            self.print_noise(row)

    def append(self, row, *sides):
        """Adds a row with these values to the table, together with the noise while it was measured."""
        row["noise"] = self.noise.row(*sides)
        row["noisy"] = machine.reasons(row["noise"])
        self.table.append(row)

    @staticmethod
    def print_noise(row):
        for reason in row["noisy"]:
            print(f"  noisy: {reason}", flush=True)

    def summary(self):
        """Returns the noise of the whole run in words, and whether the run was noisy."""
        noise, noisy = self.noise.run(), [row for row in self.table if row["noisy"]]
        is_noisy = bool(noisy or machine.reasons(noise))
        return (f"{'noisy' if is_noisy else 'quiet'} run: {len(noisy)} of {len(self.table)} rows are noisy; on average, other processes used "
                f"{noise['others']:.2f} CPUs, the hypervisor took {noise['steal']:.2f}; "
                f"the cgroup was throttled {noise['throttled']} times"), noise, is_noisy

    def markdown(self):
        print(f"{machine.as_text(self.machine)}\n")
        self.grown() if self.options.scale else self.compared()
        print()
        for row in self.table:
            for reason in row["noisy"]:
                print(f"- noisy: {row['row']}: {reason}")

    def grown(self):
        print(f"{self.setting}; medians of {self.options.runs} runs:\n")
        print("| | sizes | values | growth |\n| --- | ---: | ---: | --- |")
        for row in self.table:
            sizes = " → ".join(f"{size:,}" for size in row["medians"])
            values = " → ".join(amount(value, row["unit"]) for value in row["medians"].values())
            print(f"| {row['row']} | {sizes} | {values} | {growth_text(row)} |")

    def compared(self):
        print(f"{self.setting}; medians of {self.options.runs} runs, the servers in turns:\n")
        print("| | llama-mcp-server | llama-server | ratio |\n| --- | ---: | ---: | ---: |")
        for row in self.table:
            cells = [row["row"], amount(row["median"], row["unit"])]
            cells += [amount(row["against_median"], row["unit"]), f"{row['ratio']:.2f}"] if "ratio" in row else ["", ""]
            print("| " + " | ".join(cells) + " |")

    def end(self):
        if not self.table:
            sys.exit(f"error: no row matches --rows {self.options.rows}")
        summary, noise, is_noisy = self.summary()
        if self.options.markdown:
            self.markdown()
        if self.options.json:
            print(json.dumps({"scale": self.options.scale, "model": os.path.basename(self.options.model), "threads": self.options.threads,
                              "runs": self.options.runs, "machine": self.machine, "noise": noise, "noisy": is_noisy,
                              "rows": self.table}, indent=1))
        else:
            print(summary)
