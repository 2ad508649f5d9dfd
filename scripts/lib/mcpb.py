"""mcpb.py BINARY_OR_FOLDER OUT.mcpb NODE CLI: completes packaging/mcpb/manifest.json and packs the bundle with MCPB's official tool."""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

from package import ROOT, package

NAME = "llama-mcp-server"

# The first bytes of a program identify its operating system. The names are those that bundles use.
SYSTEMS = {
    b"\x7fELF": "linux",
    b"MZ": "win32",
    b"\xcf\xfa\xed\xfe": "darwin",
    b"\xca\xfe\xba\xbe": "darwin",
}


def program_in(folder):
    """Returns the program in `folder`, or `None`."""
    files = (folder / name for name in (NAME, f"{NAME}.exe"))
    return next((file for file in files if file.is_file()), None)


def system_of(program):
    with program.open("rb") as file:
        begin = file.read(4)
    for magic, system in SYSTEMS.items():
        if begin.startswith(magic):
            return system
    sys.exit(f"error: {program} is not a program for Linux, macOS or Windows")


def programs_of(place):
    """Returns the programs by operating system."""
    if place.is_file():
        found = [place]
    elif program := program_in(place):
        found = [program]
    else:
        found = [program for folder in sorted(place.iterdir()) if (program := program_in(folder))]
    if not found:
        sys.exit(f"error: {place} contains no {NAME}, and neither do its subfolders")
    programs = {}
    for program in found:
        system = system_of(program)
        if system in programs:
            sys.exit(f"error: {programs[system]} and {program} are both for {system}, and a bundle has only one program for each system; "
                     "join two macOS programs with `lipo -create`")
        programs[system] = program
    return programs


def copy(program, whole, to):
    """Copies `program`. If `whole`, copies its whole folder."""
    if whole:
        shutil.copytree(program.parent, to, symlinks=False)
    else:
        to.mkdir(parents=True)
        shutil.copy2(program, to / (NAME + program.suffix))


def complete(manifest, programs):
    about = package()
    manifest["version"] = about["version"]
    manifest["license"] = about["license"]
    if about["repository"]:
        manifest["repository"] = {"type": "git", "url": about["repository"]}
        manifest["homepage"] = about["repository"]
    paths = {system: f"server/{system}/{NAME}{'.exe' if system == 'win32' else ''}" for system in programs}
    first, *others = paths
    manifest["compatibility"] = {"platforms": [*paths]}
    manifest["server"]["entry_point"] = paths[first]
    config = manifest["server"]["mcp_config"]
    config["command"] = "${__dirname}/" + paths[first]
    if others:
        config["platform_overrides"] = {system: {"command": "${__dirname}/" + paths[system]} for system in others}


def main():
    place, bundle = map(pathlib.Path, sys.argv[1:3])
    tool = sys.argv[3:]
    programs = programs_of(place)
    manifest = json.loads((ROOT / "packaging/mcpb/manifest.json").read_text())
    complete(manifest, programs)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=2))
        for system, program in programs.items():
            copy(program, place.is_dir(), folder / "server" / system)
        for command in (["validate", folder / "manifest.json"], ["pack", folder, bundle]):
            subprocess.run([*tool, *command], check=True, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    print(bundle)


main()
