"""opencode.py SERVER MODEL OPENCODE: the coding agent opencode with a Gemini model. OPENCODE is its program."""

import json
import os
import subprocess
import sys
import tempfile

from calls import TOOLS, report
from gemini_schema import faults_of_all
from scripted_model import scripted_model
from serving import flags

server, model, opencode = (os.path.abspath(argument) for argument in sys.argv[1:])

with scripted_model() as scripted, tempfile.TemporaryDirectory() as home:
    config = {
        "model": "google/gemini-2.5-flash",
        "provider": {"google": {"options": {"baseURL": f"{scripted.url}/v1beta", "apiKey": "none"}}},
        "mcp": {"llama": {"type": "local", "command": [server, *flags(TOOLS, model)]}},
        "autoupdate": False,
        "share": "disabled",
    }
    settings = {"OPENCODE_CONFIG_CONTENT": json.dumps(config), "OPENCODE_DISABLE_MODELS_FETCH": "1"}
    environment = {"PATH": os.environ["PATH"], "HOME": home, **settings}
    command = [opencode, "run", "--print-logs", "Do it."]
    run = subprocess.run(command, cwd=home, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
    if run.returncode:
        print(run.stderr, file=sys.stderr)
    report("opencode", faults_of_all(scripted.declarations()) + scripted.faults())
