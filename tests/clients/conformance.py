"""conformance.py SERVER MODEL NODE [REVISION...]: the official conformance suite over HTTP, by the requirements of each revision.

What is expected to fail stands in tests/conformance/baseline-*.yml, each with its reason; another failure is an error, and
so is an entry that passes. NODE is what scripts/get-node-packages prints.
"""

import pathlib
import subprocess
import sys

from serving import edit, editable, serving

data = pathlib.Path(__file__).parent.parent / "conformance"
server, model, node, *revisions = sys.argv[1:]
suite = [f"{node}/node", f"{node}/node_modules/@modelcontextprotocol/conformance/dist/index.js", "server"]
failed = []

with editable(data / "server.toml") as config:

    def on_log(line):
        # This tool is to change the list of tools: the edit is what changes it.
        if "asked" in line and "test_trigger_tool_change" in line:
            edit(config)

    with serving([server, "--config", config, "--set", f"models.chat.path={pathlib.Path(model).resolve()}"], on_log) as url:
        for revision in revisions or ("2025-11-25", "2026-07-28"):
            baseline = data / f"baseline-{revision}.yml"
            command = [*suite, "--url", url, "--requirements", revision, "--expected-failures", baseline]
            run = subprocess.run(command, cwd=config.parent, stdout=subprocess.PIPE, text=True)
            print(run.stdout.partition("=== SUMMARY ===")[2] if run.returncode else f"conformance, {revision}: ok")
            if run.returncode:
                failed.append(revision)
sys.exit(f"error: not conformant to {', '.join(failed)}" if failed else 0)
