"""Formats the output: the table of sets and the refusals by kind, for people and for programs."""

import json

WIDTH = 44


def percent(part, whole):
    return f"{100 * part / whole:5.1f} %" if whole else "      –"


COUNTS = "schemas", "accepted", "as_written"


def row(name, count, accepted, as_written):
    return f"{name:{WIDTH}} {count:7,} {accepted:9,} {percent(accepted, count)} {as_written:11,} {percent(as_written, count)}"


def head():
    print(f"{'':{WIDTH}} {'schemas':>7} {'accepted':>17} {'as written':>19}", flush=True)


def line(one):
    print(row(one["name"], *(one[key] for key in COUNTS)), flush=True)


def totals(sets):
    """Prints a line for each group of sets."""
    groups = {}
    for one in sets:
        groups.setdefault(one["group"], []).append(one)
    print()
    for group, members in groups.items():
        print(row(f"all of {group}", *(sum(one[key] for one in members) for key in COUNTS)))
    print("\nas written: without the schemas whose root is not an object, which are put under a property of one to be tried.")
    print(end="", flush=True)


def markdown(sets):
    """Prints the table of docs/tools.md."""
    print("| schemas | number | accepted |\n| --- | ---: | ---: |")
    groups = {}
    for one in (one for one in sets if one["group"] != "tests"):
        print(f"| {one['name']} | {one['schemas']:,} | {percent(one['as_written'], one['schemas']).strip()} |")
        groups.setdefault(one["group"], []).append(one)
    for group, members in groups.items():
        schemas, accepted = (sum(one[key] for one in members) for key in ("schemas", "as_written"))
        print(f"| **total of {group}** | **{schemas:,}** | **{percent(accepted, schemas).strip()}** |")


def reasons(title, kinds, most):
    print(f"\n{title}\n{'schemas':>8} {'only this':>9}")
    for one in kinds[:most]:
        print(f"{one['schemas']:8,} {one['alone']:9,}  {one['kind']}")
        for name, message in one["examples"]:
            print(f"{'':18}   {name}: {message}")
    if len(kinds) > most:
        print(f"{'':18}  … and {len(kinds) - most} kinds more")


def write(path, result):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1, ensure_ascii=False)
        file.write("\n")
