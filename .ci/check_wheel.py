"""Check an installed package from outside the repository, in an environment that holds only what it brings.

check_wheel.py locations PACKAGE    its code locations are listed, load and bring no engine it does not declare
check_wheel.py extras PACKAGE       print its extras, comma-separated
check_wheel.py modules PACKAGE      every module can be imported, with no network; needs the extras
"""

import importlib
import json
import pkgutil
import re
import subprocess
import sys
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

GROUP = "ol_data_platform.code_locations"
ENGINES = ("airbyte", "dbt", "duckdb")


def locations(package: str) -> None:
    """Check a package's code locations with the installed `ol` command."""
    names = {point.name for point in distribution(package).entry_points if point.group == GROUP}
    listed = {one["name"] for one in json.loads(ol("locations", "--json")) if one["distribution"] == package}
    if listed != names:
        sys.exit(f"{package}: `ol locations` lists {sorted(listed)}, the package declares {sorted(names)}")
    if not names:
        return
    if brought := undeclared_engines(distribution(package)):
        sys.exit(
            f"{package} brings {', '.join(brought)}, which it does not declare; a domain must install without them"
        )
    print(ol("check", *sorted(names)), end="")


def extras(package: str) -> None:
    """Print the extras that a package declares."""
    print(",".join(distribution(package).metadata.get_all("Provides-Extra") or []))


def modules(package: str) -> None:
    """Import every module of a package; one that cannot be imported is the error."""
    from ol_core.check import refuse_network

    sys.addaudithook(refuse_network)
    root = importlib.import_module(package.replace("-", "_"))
    names = [
        module.name
        for module in pkgutil.walk_packages(root.__path__, f"{root.__name__}.", onerror=importlib.import_module)
    ]
    for name in names:
        if not name.endswith(".__main__"):
            importlib.import_module(name)
    print(f"{package}: {len(names)} modules imported from {Path(root.__path__[0]).parent.name}")


def undeclared_engines(package: Distribution) -> list[str]:
    """Return the installed engines that a package does not itself require, extras left aside."""
    required = [re.split(r"[^\w.-]", text)[0] for text in package.requires or [] if "extra ==" not in text]
    engines = [engine for engine in ENGINES if not any(engine in name for name in required)]
    return sorted(one.name for one in distributions() if any(engine in one.name for engine in engines))


def ol(*arguments: str) -> str:
    """Run the `ol` command of this interpreter's environment and return what it prints; its failure is ours."""
    command = [str(Path(sys.executable).with_name("ol")), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"`ol {' '.join(arguments)}` failed\n{done.stdout}")
    return done.stdout


if __name__ == "__main__":
    {"locations": locations, "extras": extras, "modules": modules}[sys.argv[1]](sys.argv[2])
