"""Policy files: settings that override the XML, and the grading policy of each run."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from ol_openedx.archive.redaction import without_secrets
from ol_openedx.archive.values import json_text

_KINDS = {"policy.json": "policy", "grading_policy.json": "grading_policy"}


@dataclass(slots=True)
class PolicyFile:
    """A policy file.

    Attributes:
        run: The run it is for; None for one at the course root, which is for the archive's run.
        kind: `policy` or `grading_policy`.
        content: Canonical JSON without secrets.
    """

    run: str | None
    kind: str
    content: str = ""


class InvalidPolicy(Exception):
    """The file is not a JSON object."""


def policy_file(path: str) -> PolicyFile | None:
    """What kind of policy file a path below the course root is, None where it is none.

    Newer courses have `policies/RUN/policy.json`, older ones `policies/RUN.json`; a `grading_policy.json` at the root
    was the first form.
    """
    match path.split("/"):
        case ["policies", run, name] if name in _KINDS:
            return PolicyFile(run, _KINDS[name])
        case ["policies", name] if name.endswith(".json") and name != "assets.json":
            return PolicyFile(name.removesuffix(".json"), "policy")
        case ["grading_policy.json"]:
            return PolicyFile(None, "grading_policy")
        case _:
            return None


def read_policy(data: bytes) -> str:
    """Canonical JSON of a policy file, without secrets.

    Raises:
        InvalidPolicy: Not a JSON object; the message holds no text of the file.
    """
    try:
        parsed = json.loads(data, parse_constant=_refuse_constant)
        if not isinstance(parsed, dict):
            raise InvalidPolicy(f"a JSON object is expected, not {type(parsed).__name__}")
        return json_text(without_secrets(parsed))
    except json.JSONDecodeError as error:
        raise InvalidPolicy(f"{error.msg} at line {error.lineno}, column {error.colno}") from error
    except UnicodeDecodeError as error:
        raise InvalidPolicy(f"not {error.encoding} at byte {error.start}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidPolicy(str(error)) from error


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


@dataclass(frozen=True, slots=True)
class Overrides:
    """Settings of one run's policy file by `type/url_name`."""

    settings: Mapping[str, object] = field(default_factory=dict)

    def apply(self, block_type: str, url_name: str, attributes: Mapping[str, object]) -> dict[str, object]:
        """The attributes of a block with its policy's settings over them."""
        override = self.settings.get(f"{block_type}/{url_name}")
        return {**attributes, **override} if isinstance(override, dict) else dict(attributes)
