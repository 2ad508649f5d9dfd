"""with_mcp_proxy.py SERVER MODEL: mcp-proxy, which makes HTTP of stdio or stdio of HTTP, before the official Python client."""

import sys

from bridging import bridging
from calls import TOOLS, report
from python_mcp1 import accepts_every_answer, over_http, over_stdio
from serving import flags, serving

server, model = sys.argv[1:]
PROXY = [sys.executable, "-m", "mcp_proxy"]

with bridging(PROXY, "--", server, *flags(TOOLS, model)) as url:
    report("mcp-proxy, stdio", accepts_every_answer(over_http(f"{url}/mcp")))
with serving([server, *flags(TOOLS, model)]) as url:
    report("mcp-proxy, HTTP", accepts_every_answer(over_stdio([*PROXY, "--transport", "streamablehttp", url])))
