"""The machine of a measurement: its CPU, the limits of this process, its load, and what disturbed a row."""

import ctypes
import os
import re
import time
from pathlib import Path

# CPU features for which llama.cpp has code of its own. On ARM: NEON, FP16, dot products, matrix products, BF16, SVE and SME.
FEATURES = re.compile(r"(avx2|avx512(f|_vnni|_bf16|_fp16)|avx_vnni|amx_\w+|f16c|fma|asimd|asimdhp|asimddp|i8mm|bf16|sve2?|sme2?)")
# A row is noisy if other processes used more CPUs than this on average, or if the hypervisor took more.
OTHERS_LIMIT = 0.1
STEAL_LIMIT = 0.05
# A row is noisy if its greatest value divided by its least is above this. Quiet servers vary by 5 to 10 % from start to start.
SPREAD_LIMIT = 1.3
# Shortest period in seconds for which the use of CPUs is measured, since the kernel counts CPU time in ticks of 10 ms.
SHORTEST = 0.2
TICKS = os.sysconf("SC_CLK_TCK")
# prctl(2): processes whose parent ends become children of this one. Otherwise, helpers of a stopped server would count as others.
PR_SET_CHILD_SUBREAPER = 36


def read(path):
    """Returns the text of a file, or an empty text if it cannot be read: not every kernel has every file."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def cpu_info(*names):
    """Returns the value of the first of these names that /proc/cpuinfo has."""
    info = dict(re.findall(r"^(.+?)\s*:[ \t]*(.*)$", read("/proc/cpuinfo"), re.MULTILINE))
    return next((info[name] for name in names if name in info), "")


def cgroup_folders():
    """Returns the folders that limit the CPU time of this process: its cgroup, and those around it. Supports v1, v2 and both at once."""
    paths = {}
    for line in read("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        paths |= dict.fromkeys(controllers.split(","), path)
    for line in read("/proc/mounts").splitlines():
        _, mount, kind, settings = line.split()[:4]
        controller = {"cgroup": "cpu", "cgroup2": ""}.get(kind)
        if controller in paths and (not controller or "cpu" in settings.split(",")):
            # In a container, the path may be that of the host, and the mount is the process's own folder.
            own = Path(mount + paths[controller])
            yield from (folder for folder in [own, *own.parents] if folder.is_relative_to(mount) and folder.is_dir())


def cpu_limit():
    """Returns the lowest limit of the cgroups as `quota/period` in microseconds, or `None`."""
    limits = []
    for folder in cgroup_folders():
        quota = read(folder / "cpu.max") or f"{read(folder / 'cpu.cfs_quota_us')} {read(folder / 'cpu.cfs_period_us')}"
        if found := re.match(r"(\d+)\s+(\d+)", quota):
            limits.append((int(found[1]) / int(found[2]), f"{found[1]}/{found[2]}"))
    return min(limits)[1] if limits else None


def load():
    """Returns the load average of a minute, the number of running processes, and the share of time in which a process waited for a CPU."""
    average, _, _, processes, _ = (read("/proc/loadavg") or "0 0 0 0/0 0").split()
    pressure = re.match(r"some avg10=([\d.]+)", read("/proc/pressure/cpu"))
    return {"loadavg": float(average), "running": int(processes.split("/")[0]), "pressure": float(pressure[1]) if pressure else None}


def describe():
    """Returns what decides the speed of a measurement on this machine."""
    features = cpu_info("flags", "Features").split()
    return {
        "cpu": cpu_info("model name", "Model", "CPU part") or os.uname().machine,
        "features": [feature for feature in features if FEATURES.fullmatch(feature)],
        "governor": read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip() or None,
        "cpus": len(os.sched_getaffinity(0)),
        "cgroup_limit": cpu_limit(),
        **load(),
    }


def as_text(machine):
    governor = f"governor {machine['governor']}" if machine["governor"] else "no frequency governor"
    limit = f"cgroup limit {machine['cgroup_limit']} µs" if machine["cgroup_limit"] else "no cgroup limit"
    pressure = "" if machine["pressure"] is None else f", CPU pressure {machine['pressure']:.1f} %"
    return (f"{machine['cpu']} ({' '.join(machine['features']) or 'no known features'}), {governor}, {machine['cpus']} CPUs, {limit}; "
            f"load {machine['loadavg']:.2f}, {machine['running']} running{pressure} before the first row")


def own_ticks(roots):
    """Returns the CPU ticks of these processes and all their descendants, including those that have ended."""
    parents, ticks = {}, {}
    for process in filter(str.isdigit, os.listdir("/proc")):
        if fields := read(f"/proc/{process}/stat").rsplit(") ", 1)[1:]:
            fields = fields[0].split()
            parents.setdefault(int(fields[1]), []).append(int(process))
            # Its own time, and that of the children for which it has waited.
            ticks[int(process)] = sum(map(int, fields[11:15]))
    total, pending = 0, list(roots)
    while pending:
        process = pending.pop()
        total += ticks.get(process, 0)
        pending += parents.get(process, [])
    return total


def throttled():
    """Returns how often the cgroups of this process were throttled."""
    stats = " ".join(read(folder / "cpu.stat") for folder in cgroup_folders())
    return sum(map(int, re.findall(r"nr_throttled (\d+)", stats)))


class Sample:
    """Counters of the machine at one time."""

    def __init__(self, roots):
        self.time = time.perf_counter()
        # Interrupts do not count: those of this bench's own connections are in them, too.
        user, nice, system, *_, steal = map(int, (read("/proc/stat") or "cpu" + " 0" * 8).split()[1:9])
        self.steal, self.others, self.throttled = steal, user + nice + system - own_ticks(roots), throttled()

    def until(self, later):
        seconds = later.time - self.time
        cpus = {name: max(getattr(later, name) - getattr(self, name), 0) / TICKS / seconds for name in ("others", "steal")}
        return {**cpus, "throttled": later.throttled - self.throttled}


class Noise:
    """Finds out what disturbed each row, and the run. `roots` are the processes that are measured, besides this one."""

    def __init__(self, roots=()):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
        self.roots = [os.getpid(), *roots]
        self.first = self.last = Sample(self.roots)
        self.of_row = {"others": 0.0, "steal": 0.0, "throttled": 0}

    def row(self, *sides):
        """Returns the noise since the last row, and the spread of these values. Rows of one measurement have the same noise."""
        if time.perf_counter() - self.last.time > SHORTEST:
            now = Sample(self.roots)
            self.of_row, self.last = self.last.until(now), now
        spreads = [max(values) / min(values) for values in sides if values and min(values) > 0]
        return {**self.of_row, "spread": max(spreads, default=1.0)}

    def run(self):
        return self.first.until(Sample(self.roots))


def reasons(noise):
    """Returns why a row or a run with this noise is noisy, each reason with its number; empty if it is quiet."""
    tests = [
        ("others", OTHERS_LIMIT, "other processes used {:.2f} CPUs (limit {})"),
        ("steal", STEAL_LIMIT, "the hypervisor took {:.2f} CPUs (limit {})"),
        ("throttled", 0, "the cgroup was throttled {} times"),
        ("spread", SPREAD_LIMIT, "the greatest value is {:.2f} times the least (limit {})"),
    ]
    return [text.format(noise[name], limit) for name, limit, text in tests if noise.get(name, 0) > limit]
