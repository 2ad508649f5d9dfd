"""The rows of --scale: how this server grows. Each row is measured at several sizes, so that its growth can be read."""

from collections import namedtuple

import scale_model
import scale_server

# `measure` gets the options and a size, and returns a value for each of the names.
Growth = namedtuple("Growth", "names units sizes measure")

# Prompts of 128,000 tokens are left out: attention grows with the square of the length, so one takes 7 minutes on 2 cores.
ROWS = [
    Growth(["all slots called at once: time until all generate", "generation, all slots busy",
            "worst inter-token latency, all slots busy", "resident memory of the model, all slots busy"],
           ["s", "tok/s", "ms", "MiB"], [8, 128], scale_model.streams),
    Growth(["chats that begin with the same 1,500 tokens, all slots at once: each call",
            "calls of one tool with 1,500 shared tokens, all slots at once: each call"], ["ms", "ms"], [8, 128], scale_model.shared),
    Growth(["long prompt, nothing cached: time to first token", "long prompt, nothing cached: each token",
            "long prompt, cached in its sequence: time to first token", "long prompt, restored from `cache_ram`: time to first token",
            "memory of a long prompt in `cache_ram`"],
           ["ms", "µs", "ms", "ms", "MiB"], [8_000, 32_000], scale_model.long_prompt),
    Growth(["tools with 1,500 shared tokens each: warm before the first call",
            "tools with 1,500 shared tokens each: first call of a tool", "tools with 1,500 shared tokens each: second call of a tool",
            "tools with 1,500 shared tokens each: start until all are warm", "tools with 1,500 shared tokens each: memory of the server",
            "tools with 1,500 shared tokens each: memory of the model"],
           ["%", "ms", "ms", "s", "MiB", "MiB"], [8, 64], scale_model.many_tools),
    Growth(["models in the configuration: start to initialize answered", "models in the configuration: tools/list",
            "models in the configuration: memory of the server"], ["ms", "ms", "MiB"], [20, 200], scale_server.many_models),
    Growth(["idle connections with a session: memory of each", "idle connections with a session: tools/list beside them",
            "idle connections with a session: 1-token call beside them"], ["KiB", "ms", "ms"], [200, 2_000],
           scale_server.idle_connections),
    Growth(["open event streams: memory of each", "open event streams: tools/list beside them",
            "open event streams: 1-token call beside them"], ["KiB", "ms", "ms"], [200, 2_000], scale_server.event_streams),
    Growth(["tools/list over HTTP", "tools/list over stdio", "size of the list of tools"], ["ms", "ms", "KiB"], [20, 200],
           scale_server.lists),
]


def measure(growth, options):
    """Yields the name and unit of each row, and its values by size."""
    values = {size: [growth.measure(options, size) for _ in range(options.runs)] for size in growth.sizes}
    for index, (name, unit) in enumerate(zip(growth.names, growth.units)):
        yield name, unit, {size: [of_run[index] for of_run in runs] for size, runs in values.items()}
