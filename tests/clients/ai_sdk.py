"""ai_sdk.py SERVER MODEL NODE: an agent of the AI SDK 6, whose converter makes Gemini's function declarations of the tools."""

import os
import subprocess
import sys

from calls import TOOLS, report
from gemini_schema import faults_of_all
from scripted_model import scripted_model
from serving import flags, serving

server, model, node = sys.argv[1:]


def run(target):
    with scripted_model() as scripted:
        command = [f"{node}/node", __file__.replace(".py", ".js"), scripted.url, *target]
        environment = {**os.environ, "NODE_PATH": f"{node}/node_modules"}
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, timeout=120)
        return faults_of_all(scripted.declarations()) + scripted.faults()


report("AI SDK 6 with @ai-sdk/google, stdio", run([server, *flags(TOOLS, model)]))
with serving([server, *flags(TOOLS, model)]) as url:
    report("AI SDK 6 with @ai-sdk/google, HTTP", run([url]))
