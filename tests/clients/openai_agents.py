"""openai_agents.py SERVER MODEL: OpenAI's Agents SDK for Python, whose converter makes the strict schemas of functions."""

import asyncio
import copy
import sys

from agents import Agent, OpenAIChatCompletionsModel, Runner, set_tracing_disabled
from agents.mcp import MCPServerStdio
from agents.strict_schema import ensure_strict_json_schema
from openai import AsyncOpenAI

from calls import TOOLS, brief, report
from scripted_model import scripted_model
from serving import flags

server, model = sys.argv[1:]


def convert(declarations):
    """Returns the tools whose arguments cannot be made strict."""
    faults = []
    for tool, schema in declarations.items():
        try:
            ensure_strict_json_schema(copy.deepcopy(schema))
        except Exception as error:
            faults.append(f"{tool}: {brief(error)}")
    return faults


async def run(scripted):
    set_tracing_disabled(True)
    openai = AsyncOpenAI(base_url=f"{scripted.url}/v1", api_key="none")
    parameters = {"command": server, "args": flags(TOOLS, model), "env": {"RUST_LOG": "warn"}}
    async with MCPServerStdio(parameters, client_session_timeout_seconds=60) as tools:
        listed = {tool.name: getattr(tool, "input_schema", None) or tool.inputSchema for tool in await tools.list_tools()}
        agent = Agent(
            name="agent",
            model=OpenAIChatCompletionsModel("scripted", openai),
            mcp_servers=[tools],
            mcp_config={"convert_schemas_to_strict": True},
        )
        result = await Runner.run(agent, "Do it.")
        assert result.final_output == "Done.", result
    return convert(listed) + scripted.faults()


with scripted_model() as scripted:
    report("OpenAI Agents", asyncio.run(run(scripted)))
