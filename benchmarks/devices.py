"""How far the device model can be trusted: every bar of the device side, printed.

    python -m benchmarks.devices [SECTION ...] [--rounds N] [--json] [--fit-catalogue]

Sections: public iphone apple jetson energy sglang sparse speed jax llamacpp executorch (all by
default). Those that need public tables look for them beside the repository and say so where they
are absent; the last three measure this machine in N rounds (12, 5 and 3), so run them on a quiet
one. llamacpp takes about half an hour, executorch lowers eleven shapes first.
"""

import json
import sys
from collections.abc import Callable

from benchmarks import devices_measured, devices_public, devices_published


def sections() -> dict[str, Callable[[], list[str]]]:
    """Name -> what prints its lines."""
    return {
        "public": devices_public.public,
        "iphone": devices_published.iphone,
        "apple": devices_published.apple,
        "jetson": devices_published.jetson,
        "energy": devices_published.energy,
        "sglang": devices_published.sglang,
        "sparse": devices_published.sparse,
        "speed": devices_published.speed,
        "jax": devices_measured.jax_engine,
        "llamacpp": devices_measured.llamacpp_engine,
        "executorch": devices_measured.executorch_engine,
    }


def main(arguments: list[str]) -> int:
    """Run the sections asked for. Exit code 2 for a name that is none."""
    if "--fit-catalogue" in arguments:
        from benchmarks.write_catalogue import write_catalogue

        print("\n".join(write_catalogue()))
        return 0
    known = sections()
    arguments = list(arguments)
    as_json = "--json" in arguments
    arguments = [argument for argument in arguments if argument != "--json"]
    if "--rounds" in arguments:
        at = arguments.index("--rounds")
        if at + 1 == len(arguments) or not arguments[at + 1].isdigit() or arguments[at + 1] == "0":
            print("--rounds: a whole number above 0 is needed", file=sys.stderr)
            return 2
        devices_measured.ROUNDS = dict.fromkeys(devices_measured.ROUNDS, int(arguments[at + 1]))
        del arguments[at : at + 2]
    wanted = arguments or list(known)
    for name in wanted:
        if name not in known:
            print(f"section {name!r}: one of {', '.join(known)}", file=sys.stderr)
            return 2
    if as_json:
        found: dict[str, object] = {name: known[name]() for name in wanted}
        if "public" in wanted:
            found["public_figures"] = devices_public.public_figures()
        print(json.dumps(found))
        return 0
    for name in wanted:
        print(f"== {name}")
        for line in known[name]():
            print(f"   {line}")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
