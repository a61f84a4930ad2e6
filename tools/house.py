"""Print what keeps the house in order: floors, upward imports, circles, class names used twice.

`python -m tools.house` reads the floors from pyproject.toml, where import-linter keeps them too,
and exits with 1 where a figure is not what it should be.
"""

import ast
import sys
import tomllib
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
MOST_FLOORS = 10


def main() -> None:
    """Print the figures and the offenders."""
    floors = read_floors()
    imports = read_imports()
    upward = [
        f"{importer} -> {imported}"
        for importer in sorted(imports)
        for imported in sorted(imports[importer])
        if floor_of(importer, floors) < floor_of(imported, floors)
    ]
    circle = find_circle(imports)
    homonyms = {name: places for name, places in class_places().items() if len(places) > 1}
    print(
        f"floors {len(floors)}, upward imports {len(upward)}, "
        f"import circles {int(bool(circle))}, class names in two modules {len(homonyms)}"
    )
    for line in upward:
        print(f"  upward: {line}")
    if circle:
        print(f"  circle: {' -> '.join(circle)}")
    for name, places in homonyms.items():
        print(f"  {name}: {', '.join(places)}")
    if len(floors) > MOST_FLOORS or upward or circle or homonyms:
        sys.exit(1)


def read_floors() -> list[set[str]]:
    """Read the rooms of each floor, the ground floor first."""
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    layers = next(c["layers"] for c in linter["contracts"] if c["type"] == "layers")
    return [set(layer.replace("|", ":").replace(" ", "").split(":")) for layer in reversed(layers)]


def floor_of(module: str, floors: list[set[str]]) -> int:
    """Return the floor of a module, from 0; the package itself lies below all."""
    room = module.partition(".")[2].partition(".")[0]
    return next((number for number, rooms in enumerate(floors) if room in rooms), -1)


def read_imports() -> dict[str, set[str]]:
    """Map each module to those that it imports anywhere.

    The package's own `__init__` only names what it offers, and imports it when it is asked for.
    """
    graph = grimp.build_graph("suffice")
    modules = graph.modules - {"suffice"}
    return {module: graph.find_modules_directly_imported_by(module) for module in modules}


def find_circle(imports: dict[str, set[str]]) -> list[str]:
    """Return modules that import each other in a circle; empty where there is none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def class_places() -> dict[str, list[str]]:
    """Map each class name of the product, its tools and benchmarks to the files that define it."""
    places = defaultdict(list)
    for folder in ("src", "tools", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.parse(path.read_text("utf-8")).body:
                if isinstance(node, ast.ClassDef):
                    places[node.name].append(str(path.relative_to(ROOT)))
    return places


if __name__ == "__main__":
    main()
