"""Prints the results: a line for each row as text, or JSON or a Markdown table at the end."""

import json
import os
import statistics
import sys

from setting import CONTEXT, SLOTS

WIDTH = 74


def spread(values):
    median = f"{statistics.median(values):10.1f}"
    return median if len(values) == 1 else f"{median} ({min(values):.1f} to {max(values):.1f}, {len(values)})"


def amount(value, unit):
    """Formats a value with three significant digits, or with all digits before the point."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}" + ("" if unit == "ratio" else f" {unit}")


class Report:
    def __init__(self, options):
        self.options = options
        self.table = []
        self.setting = (f"{os.path.basename(options.model)}, {options.threads} threads, "
                        f"{SLOTS} sequences of {CONTEXT:,} tokens")
        self.is_text = not (options.json or options.markdown)
        if self.is_text:
            print(f"{self.setting}; median (least to greatest, number of values)")
            print(f"{'':{WIDTH}} {'':6} {'this server':34}" + (f" {'against':34}  ratio" if options.compared else ""))

    def measuring(self, name):
        if sys.stderr.isatty():
            print(f"\033[Kmeasuring: {name} ...", end="\r", file=sys.stderr)

    def add(self, name, unit, ours, against=()):
        row = {"row": name, "unit": unit, "ours": ours, "median": statistics.median(ours)}
        if against:
            row |= {"against": list(against), "against_median": statistics.median(against)}
            row["ratio"] = row["median"] / row["against_median"]
        self.table.append(row)
        if self.is_text:
            line = f"{name:{WIDTH}} {unit:6} {spread(ours):34}"
            if against:
                line += f" {spread(against):34} {row['ratio']:6.2f}"
            print(line.rstrip(), flush=True)

    def markdown(self):
        print(f"{self.setting}; medians of {self.options.runs} runs, the servers in turns:\n")
        print("| | llama-mcp-server | llama-server | ratio |\n| --- | ---: | ---: | ---: |")
        for row in self.table:
            cells = [row["row"], amount(row["median"], row["unit"])]
            cells += [amount(row["against_median"], row["unit"]), f"{row['ratio']:.2f}"] if "ratio" in row else ["", ""]
            print("| " + " | ".join(cells) + " |")

    def end(self):
        if not self.table:
            sys.exit(f"error: no row matches --rows {self.options.rows}")
        if self.options.markdown:
            self.markdown()
        if self.options.json:
            print(json.dumps({"model": os.path.basename(self.options.model), "threads": self.options.threads,
                              "runs": self.options.runs, "rows": self.table}, indent=1))
