"""Fail where a distribution installed beside this interpreter may be used under the GPL or AGPL only.

Reads each distribution's metadata: its licence expression, else its licence classifiers, else the first line of its
licence field. `OR` in an expression offers a choice; the LGPL asks nothing of who only imports.
"""

import re
import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions

COPYLEFT = re.compile(r"\bA?GPL|GNU (Affero )?General Public", re.IGNORECASE)
# Distributions whose metadata cannot say that there is a choice.
CHOSEN = {"text-unidecode": "Artistic License"}


def licence(distribution: Distribution) -> str:
    """Return what the metadata says; empty where it says nothing."""
    classifiers = [text for text in fields(distribution, "Classifier") if text.startswith("License ::")]
    if expressions := fields(distribution, "License-Expression"):
        return expressions[0]
    if classifiers:
        return "; ".join(text.rpartition(" :: ")[2] for text in classifiers)
    return "".join(fields(distribution, "License")).partition("\n")[0]


def fields(distribution: Distribution, name: str) -> list[str]:
    """Return the values of a field of the metadata."""
    return distribution.metadata.get_all(name) or []


def is_copyleft(text: str) -> bool:
    """Tell whether every choice that a licence offers is the GPL or AGPL."""
    return all(COPYLEFT.search(choice) for choice in re.split(r"\bOR\b", text))


def main(found: Iterable[Distribution]) -> None:
    """Print what cannot be judged, and fail with what may not be used."""
    licences = {one.name: licence(one) for one in found} | CHOSEN
    refused = sorted(f"{name}: {text}" for name, text in licences.items() if is_copyleft(text))
    unknown = sorted(name for name, text in licences.items() if not text)
    print(f"{len(licences)} distributions; no licence in the metadata of {len(unknown)}: {', '.join(unknown) or '-'}")
    if refused:
        sys.exit("under the GPL or AGPL; replace them, or name the choice in CHOSEN:\n  " + "\n  ".join(refused))


if __name__ == "__main__":
    main(distributions())
