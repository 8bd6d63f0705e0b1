"""Rows of blocks and videos."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from ol_openedx.archive.course import Block, Finding
from ol_openedx.archive.policy import Overrides
from ol_openedx.archive.redaction import redacted_text, without_secrets
from ol_openedx.archive.values import boolean_value, json_text, json_value, seconds_value, text_value, timestamp_value
from ol_openedx.course_key import CourseKey

Row = dict[str, object]
RowSink = Callable[[str, list[Row]], None]
_BATCH_ROWS = 1000


@dataclass
class RowBatches:
    """Hands rows to a sink, some at a time; `flush` hands over the rest."""

    write: RowSink
    _rows: dict[str, list[Row]] = field(default_factory=dict)

    def add(self, kind: str, row: Row) -> None:
        """Add a row to its table."""
        rows = self._rows.setdefault(kind, [])
        rows.append(row)
        if len(rows) >= _BATCH_ROWS:
            self.write(kind, self._rows.pop(kind))

    def flush(self) -> None:
        """Hand over what is left."""
        while self._rows:
            self.write(*self._rows.popitem())


@dataclass
class BlockRows:
    """Makes the rows of blocks.

    Attributes:
        course_id: First column of every row.
        key: The course's key, which block ids are made of.
        overrides: Settings of the run's policy file.
        findings: Takes what cannot be read of a setting.
    """

    course_id: str
    key: CourseKey
    overrides: Overrides
    findings: list[Finding]

    def settings(self, block: Block) -> Row:
        """A block's attributes with its policy's settings over them."""
        return self.overrides.apply(block.block_type, block.url_name, block.attributes)

    def block(self, block: Block) -> Row:
        """A row of `course_blocks`."""
        settings = self.settings(block)
        return {
            "course_id": self.course_id,
            "block_id": self._block_id(block),
            "block_type": block.block_type,
            "url_name": block.url_name,
            "display_name": display_name(settings),
            "parent_block_id": self._parent_id(block),
            "block_index": block.index,
            "depth": block.depth,
            "state": block.state,
            "path": block.path,
            "is_inline": block.is_inline,
            "child_count": block.child_count,
            "format": text_setting(settings, "format"),
            "graded": boolean_value(settings.get("graded")),
            "start_at": self.timestamp(block, settings, "start"),
            "due_at": self.timestamp(block, settings, "due"),
            "attributes": attributes_json(settings),
        }

    def video(self, block: Block) -> Row:
        """A row of `course_video`."""
        settings = self.settings(block)
        durations = (seconds_value(part.get("duration")) for tag, part in block.parts if tag == "video_asset")
        encoded = [without_secrets(part) for tag, part in block.parts if tag == "encoded_video"]
        return {
            "course_id": self.course_id,
            "block_id": self._block_id(block),
            "url_name": block.url_name,
            "display_name": display_name(settings),
            "state": block.state,
            "edx_video_id": text_setting(settings, "edx_video_id") or None,
            "youtube_id": _youtube_id(settings),
            "duration_seconds": next((seconds for seconds in durations if seconds is not None), None),
            "html5_sources": json_text(without_secrets(_sources(block, settings))),
            "transcripts": json_text(_transcripts(block, settings)),
            "encoded_videos": json_text(encoded),
        }

    def timestamp(self, block: Block, settings: Row, name: str) -> datetime | None:
        """A date of a block's settings; one that cannot be read is a finding."""
        try:
            return timestamp_value(settings.get(name))
        except ValueError:
            shown = (text_setting(settings, name) or "")[:60]
            detail = f"{name} of {block.block_type} {block.url_name!r} is {shown!r}; ISO 8601 is expected"
            self.findings.append(Finding(block.path, "invalid_date", detail, block.line))
            return None

    def _block_id(self, block: Block) -> str:
        return self.key.block_id(block.block_type, block.url_name)

    def _parent_id(self, block: Block) -> str | None:
        if block.parent is not None:
            return self._block_id(block.parent)
        if named := _named_parent(block.attributes.get("parent_url") or block.attributes.get("parent_sequential_url")):
            return self.key.block_id(*named)
        return None


def _named_parent(url: str | None) -> tuple[str, str] | None:
    """Type and name in the `parent_url` of a draft: a usage key or an `i4x` address."""
    if not url:
        return None
    if "+type@" in url and "+block@" in url:
        block_type, _, name = url.partition("+type@")[2].partition("+block@")
        return block_type, name
    parts = url.removeprefix("i4x://").split("/")
    return (parts[2], parts[3].partition("@")[0]) if url.startswith("i4x://") and len(parts) > 3 else None  # noqa: PLR2004 - org, course, type, name


def display_name(settings: Row) -> str | None:
    """The name for people; the oldest courses call it `name`."""
    return text_setting(settings, "display_name" if "display_name" in settings else "name")


def attributes_json(settings: Row) -> str:
    """Settings as canonical JSON, without secrets."""
    return json_text(without_secrets(settings))


def text_setting(settings: Row, name: str) -> str | None:
    """A setting as text, with credentials in it replaced."""
    text = text_value(settings.get(name))
    return None if text is None else redacted_text(text)


def _youtube_id(settings: Row) -> str | None:
    """The id at normal speed: of its own, or of `youtube="0.75:id,1.00:id"`."""
    if youtube_id := text_setting(settings, "youtube_id_1_0"):
        return youtube_id
    for item in (text_setting(settings, "youtube") or "").split(","):
        speed, _, youtube_id = item.strip().partition(":")
        if speed in ("1", "1.0", "1.00") and youtube_id.strip():
            return youtube_id.strip()
    return None


def _sources(block: Block, settings: Row) -> list[str]:
    listed = json_value(settings.get("html5_sources"))
    sources = [item for item in listed if isinstance(item, str)] if isinstance(listed, list) else []
    sources += [part["src"] for tag, part in block.parts if tag == "source" and part.get("src")]
    return list(dict.fromkeys(sources))


def _transcripts(block: Block, settings: Row) -> dict[str, str]:
    """File under static/ by language, from all the places that name one; the first of a language counts."""
    listed = json_value(settings.get("transcripts"))
    found = {key: item for key, item in listed.items() if isinstance(item, str)} if isinstance(listed, dict) else {}
    video_id = text_setting(settings, "edx_video_id")
    for tag, part in block.parts:
        if tag != "transcript":
            continue
        if part.get("language") and part.get("src"):
            found.setdefault(part["language"], part["src"])
        elif video_id and part.get("language_code"):
            file_format = part.get("file_format", "srt")
            found.setdefault(part["language_code"], f"{video_id}-{part['language_code']}.{file_format}")
    if sub := text_setting(settings, "sub"):
        found.setdefault("en", f"subs_{sub}.srt.sjson")
    return found
