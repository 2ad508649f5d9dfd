"""with_mcpo.py SERVER MODEL: mcpo, the bridge to OpenAPI that Open WebUI uses."""

import asyncio
import json
import sys
import urllib.error
import urllib.request

from bridging import bridging
from calls import TOOLS, make_every_call, report
from serving import flags, serving

server, model = sys.argv[1:]
MCPO = [sys.executable, "-c", "from mcpo import app; app()"]


def send(url, arguments=None):
    body = None if arguments is None else json.dumps(arguments).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": "application/json"})) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{error}: {error.read().decode()}") from None


def accepts_every_answer(*arguments):
    with bridging(MCPO, *arguments) as url:

        async def call(tool, arguments):
            answer = await asyncio.to_thread(send, f"{url}/{tool}", arguments)
            # mcpo reads texts that are JSON; this writes them as the server did.
            return (answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False, separators=(",", ":"))), None

        paths = send(f"{url}/openapi.json")["paths"]
        return asyncio.run(make_every_call([path.strip("/") for path in paths], call))


report("mcpo, stdio", accepts_every_answer("--", server, *flags(TOOLS, model)))
with serving([server, *flags(TOOLS, model)]) as url:
    report("mcpo, HTTP", accepts_every_answer("--server-type", "streamable-http", "--", url))
