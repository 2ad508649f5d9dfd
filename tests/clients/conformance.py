"""conformance.py SERVER MODEL NODE: the official conformance suite over HTTP, in every revision that it knows.

Expected failures are listed in tests/conformance/baseline-*.yml, each with its reason. Any other failure is an error, and so is a
listed test that passes. NODE is the folder that scripts/get-node-packages prints.
"""

import pathlib
import subprocess
import sys

from serving import edit, editable, flags, serving

data = pathlib.Path(__file__).parent.parent / "conformance"
server, model, node = sys.argv[1:]
suite = [f"{node}/node", f"{node}/node_modules/@modelcontextprotocol/conformance/dist/index.js", "server"]
runs = [
    # The requirements of the revision when it was released; no other failure counts.
    ("--requirements 2025-11-25", "2025-11-25"),
    ("--requirements 2026-07-28", "2026-07-28"),
    # All tests, also those added later, such as header validation.
    ("--suite all --spec-version 2025-03-26", "2025-11-25"),
    ("--suite all --spec-version 2025-06-18", "2025-11-25"),
    ("--suite all --spec-version 2025-11-25", "2025-11-25"),
    ("--suite all --spec-version 2026-07-28", "2026-07-28"),
]
failed = []

with editable(data / "server.toml") as config:

    def on_log(line):
        # The test expects that this tool changes the list of tools; the edit of the configuration does.
        if "asked" in line and "test_trigger_tool_change" in line:
            edit(config)

    with serving([server, *flags(config, model)], on_log) as url:
        for selection, baseline in runs:
            command = [*suite, "--url", url, *selection.split(), "--expected-failures", data / f"baseline-{baseline}.yml"]
            run = subprocess.run(command, cwd=config.parent, stdout=subprocess.PIPE, text=True)
            print(f"conformance, {selection}: {'failed' if run.returncode else 'ok'}", flush=True)
            if run.returncode:
                print(run.stdout.partition("=== SUMMARY ===")[2] or run.stdout)
                failed.append(selection)
sys.exit(f"error: not conformant: {', '.join(failed)}" if failed else 0)
