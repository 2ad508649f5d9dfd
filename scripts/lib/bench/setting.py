"""The command line, and the settings of both servers."""

import argparse
import os
import re

SLOTS = 8
# The context of one sequence.
CONTEXT = 4096
# This server's defaults.
SAMPLING = {"temperature": 0.7, "top_p": 0.9, "top_k": 40, "min_p": 0.0, "repeat_penalty": 1.1, "seed": 42}


def parser(about):
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--default-model", help=argparse.SUPPRESS)
    parser.add_argument("--model", help="the GGUF to measure (default: the model of the demo)")
    against = parser.add_mutually_exclusive_group()
    against.add_argument("--against-program", metavar="PATH", help="the program of a llama-server, which is started for all rows")
    against.add_argument("--against", metavar="URL", help="a running llama-server with the same model, for the rows that require no fresh server")
    parser.add_argument("--against-pid", type=int, metavar="PID", help="its process id, to measure its memory")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="compute threads of each server (default: all)")
    parser.add_argument("--runs", type=int, default=5, help="measurements of each row (default: 5)")
    parser.add_argument("--calls", type=int, default=1000, help="calls before memory is measured again (default: 1000)")
    parser.add_argument("--scale", action="store_true", help="measure growth instead: with slots, prompts, tools, models and connections")
    parser.add_argument("--rows", default="", metavar="PATTERN", help="only rows whose name this regular expression matches")
    style = parser.add_mutually_exclusive_group()
    style.add_argument("--json", action="store_true", help="print JSON, with every value, medians and ratios")
    style.add_argument("--markdown", action="store_true", help="print the table of docs/performance.md")
    return parser


def parse(about):
    command_line = parser(about)
    options = command_line.parse_args()
    if options.runs < 1:
        command_line.error("--runs: must be at least 1")
    try:
        re.compile(options.rows)
    except re.error as error:
        command_line.error(f"--rows: {error}")
    if not os.access(options.server, os.X_OK):
        command_line.error(f"--server: {options.server} does not exist; build it first")
    program = options.against_program
    if program and not (os.path.isfile(program) and os.access(program, os.X_OK)):
        command_line.error(f"--against-program: {program} is not an executable file")
    if options.scale and (program or options.against):
        command_line.error("--scale: cannot be combined with --against or --against-program")
    options.model = options.model or options.default_model
    options.compared = bool(options.against or program)
    return options
