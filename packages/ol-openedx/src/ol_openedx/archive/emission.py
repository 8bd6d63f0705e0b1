"""Turns a scanned and linked archive into rows, and counts them."""

import json
import mimetypes
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from ol_openedx.archive.block_types import BLOCK_FILE_SUFFIXES, DRAFTS, KNOWN, POLICIES, RESERVED_FOLDERS, STATIC
from ol_openedx.archive.course import DRAFT, ORPHAN, PUBLISHED, Block, CourseFiles, Finding, Linker
from ol_openedx.archive.identity import CourseIdentity
from ol_openedx.archive.inventory import ContentDigest, Entry
from ol_openedx.archive.policy import Overrides, policy_file
from ol_openedx.archive.redaction import redacted_text
from ol_openedx.archive.rows import BlockRows, Row, RowBatches, RowSink, attributes_json, display_name, text_setting
from ol_openedx.archive.scan import Scan
from ol_openedx.archive.values import boolean_value
from ol_openedx.course_key import CourseKey

_DETAIL_CHARACTERS = 500  # names in an archive may be as long as a file
# Python's own table alone, without the machine's, so that a file has the same type everywhere.
_CONTENT_TYPES = mimetypes.MimeTypes(filenames=())
_MORE_CONTENT_TYPES = {
    ".gz": "application/gzip",
    ".md": "text/markdown",
    ".sjson": "application/json",
    ".srt": "application/x-subrip",
    ".vtt": "text/vtt",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
}


@dataclass(frozen=True, slots=True)
class ArchiveSummary:
    """What was found in an archive.

    Attributes:
        name: The archive's name, as given.
        course_id: The id that every row carries.
        olx_course_id: The id that the archive itself gives.
        archive_format: `course` or `library`.
        content_digest: See `ContentDigest`.
        blocks_by_type: Published blocks of each type.
        block_count: Published blocks: the sum of those.
        orphan_block_count: Blocks in files that nothing reaches from the root.
        draft_block_count: Blocks under `drafts/`.
        video_count: Published video blocks.
        static_file_count: Files under `static/`.
        static_bytes: Their bytes.
        member_count: Files of the course: regular files below its root, without what was skipped or refused.
        total_bytes: Their bytes.
        skipped_count: Files that operating systems and git leave behind, passed over.
        quarantined_count: Rows of the quarantine table.
        quarantined_by_reason: Those by reason.
    """

    name: str
    course_id: str
    olx_course_id: str
    archive_format: str
    content_digest: str
    blocks_by_type: Mapping[str, int]
    block_count: int
    orphan_block_count: int
    draft_block_count: int
    video_count: int
    static_file_count: int
    static_bytes: int
    member_count: int
    total_bytes: int
    skipped_count: int
    quarantined_count: int
    quarantined_by_reason: Mapping[str, int]


@dataclass
class ContentCount:
    """Digest and totals over an inventory; also says where each member stands.

    Attributes:
        prefix: Folder of the course, empty or ending in `/`.
        digest: Digest of everything added.
        member_count: Files below the root.
        total_bytes: Their bytes.
    """

    prefix: str
    digest: ContentDigest = field(default_factory=ContentDigest)
    member_count: int = 0
    total_bytes: int = 0

    def add(self, entry: Entry) -> tuple[str, bool]:
        """Count a member; returns its path and whether that is below the course's root."""
        is_inside = entry.path.startswith(self.prefix)
        path = entry.path.removeprefix(self.prefix)
        self.digest.add(path if is_inside else f"../{path}", entry)
        if is_inside and not entry.reason:
            self.member_count += 1
            self.total_bytes += entry.size_bytes
        return path, is_inside


class Emission:
    """Writes the rows of one archive; nothing in it fails but the sink.

    Args:
        scan: The archive after its one pass.
        prefix: Folder of the course in it.
        identity: Which course it is.
        key: The key that rows carry: the archive's own, or the one its reader was told.
        write: Takes the rows.
    """

    def __init__(self, scan: Scan, prefix: str, identity: CourseIdentity, *, key: CourseKey, write: RowSink) -> None:
        self._scan = scan
        self._identity = identity
        self._run = identity.key.run or identity.root.url_name
        self._course_id = str(key)
        self._batches = RowBatches(write)
        self._content = ContentCount(prefix)
        self._static = ContentCount(prefix)
        self._quarantined: Counter[str] = Counter()
        self._blocks_by_state: dict[str, Counter[str]] = {PUBLISHED: Counter(), ORPHAN: Counter(), DRAFT: Counter()}
        self._key = key

    def run(self, files: CourseFiles, linker: Linker) -> ArchiveSummary:
        """Write every table's rows, the course's own last."""
        rows = BlockRows(self._course_id, self._key, self._policies(), linker.findings)
        metadata = self._metadata(rows, linker.blocks[0])
        for block in linker.blocks:
            self._blocks_by_state[block.state][block.block_type] += 1
            self._batches.add("course_blocks", rows.block(block))
            if block.block_type == "video":
                self._batches.add("course_video", rows.video(block))
        for entry in self._scan.inventory:
            self._member(entry)
        for path, problem in sorted(files.problems.items()):
            if _is_in_block_folder(path):
                self._quarantine(Finding(path, problem.reason, problem.detail, problem.line, problem.size_bytes))
        for finding in dict.fromkeys(linker.findings):
            self._quarantine(finding)
        return self._finish(metadata)

    def _policies(self) -> Overrides:
        """Write the policy files; returns the settings of the archive's run."""
        prefix = self._content.prefix
        current: list[tuple[int, str]] = []
        for path, content in sorted(self._scan.policies.items()):
            relative = path.removeprefix(prefix)
            if not path.startswith(prefix) or (found := policy_file(relative)) is None:
                continue
            run = found.run or self._run
            row: Row = {
                "course_id": self._course_id,
                "run": run,
                "kind": found.kind,
                "path": relative,
                "is_current": run == self._run,
                "content": content,
            }
            self._batches.add("course_policy", row)
            if run == self._run and found.kind == "policy":
                current.append((relative.count("/"), content))
        for path, (reason, detail) in sorted(self._scan.policy_problems.items()):
            relative = path.removeprefix(prefix)
            if path.startswith(prefix) and policy_file(relative):
                self._quarantine(Finding(relative, reason, detail))
        # Of policies/RUN/policy.json and the older policies/RUN.json the platform takes the first.
        return Overrides(json.loads(max(current)[1])) if current else Overrides()

    def _metadata(self, rows: BlockRows, root: Block) -> Row:
        settings = rows.settings(root)
        key = self._identity.key
        return {
            "course_id": self._course_id,
            "olx_course_id": str(key),
            "org": key.org,
            "course": key.course,
            "run": key.run,
            "display_name": display_name(settings),
            "language": text_setting(settings, "language"),
            "start_at": rows.timestamp(root, settings, "start"),
            "end_at": rows.timestamp(root, settings, "end"),
            "enrollment_start_at": rows.timestamp(root, settings, "enrollment_start"),
            "enrollment_end_at": rows.timestamp(root, settings, "enrollment_end"),
            "self_paced": boolean_value(settings.get("self_paced")),
            "course_image": text_setting(settings, "course_image"),
            "archive_format": self._identity.archive_format,
            "attributes": attributes_json(settings),
        }

    def _member(self, entry: Entry) -> None:
        path, is_inside = self._content.add(entry)
        if entry.reason:
            self._quarantine(Finding(path, entry.reason, entry.detail, None, entry.size_bytes))
        elif not is_inside:
            detail = f"outside {self._content.prefix!r}, the folder of the course"
            self._quarantine(Finding(path, "outside_root", detail, None, entry.size_bytes))
        elif path.startswith(f"{STATIC}/"):
            self._static.add(entry)
            row: Row = {
                "course_id": self._course_id,
                "path": path.removeprefix(f"{STATIC}/"),
                "size_bytes": entry.size_bytes,
                "sha256": entry.sha256,
                "content_type": _content_type(path),
            }
            self._batches.add("course_static_assets_manifest", row)
        elif _is_unexpected(path):
            detail = "neither XML nor HTML in a folder of blocks, nor a policy among policies"
            self._quarantine(Finding(path, "unexpected_file", detail, None, entry.size_bytes))

    def _quarantine(self, finding: Finding) -> None:
        self._quarantined[finding.reason] += 1
        row: Row = {
            "course_id": self._course_id,
            "path": finding.path,
            "line": finding.line,
            "reason": finding.reason,
            "detail": redacted_text(finding.detail[:_DETAIL_CHARACTERS]),
            "size_bytes": finding.size_bytes,
        }
        self._batches.add("course_quarantine", row)

    def _finish(self, metadata: Row) -> ArchiveSummary:
        published = self._blocks_by_state[PUBLISHED]
        counts = {
            "block_count": published.total(),
            "orphan_block_count": self._blocks_by_state[ORPHAN].total(),
            "draft_block_count": self._blocks_by_state[DRAFT].total(),
            "video_count": published["video"],
            "static_file_count": self._static.member_count,
            "static_bytes": self._static.total_bytes,
            "member_count": self._content.member_count,
            "quarantined_count": self._quarantined.total(),
        }
        digest = self._content.digest.hexdigest()
        self._batches.add("course_metadata", {**metadata, "content_digest": digest, **counts})
        self._batches.flush()
        return ArchiveSummary(
            name=self._scan.name,
            course_id=self._course_id,
            olx_course_id=str(self._identity.key),
            archive_format=self._identity.archive_format,
            content_digest=digest,
            blocks_by_type=dict(sorted(published.items())),
            total_bytes=self._content.total_bytes,
            skipped_count=self._scan.skipped_count,
            quarantined_by_reason=dict(sorted(self._quarantined.items())),
            **counts,
        )


def _is_in_block_folder(path: str) -> bool:
    """Whether an XML file that cannot be used might have defined blocks."""
    folder, slash, _ = path.removeprefix(f"{DRAFTS}/").partition("/")
    return bool(slash) and folder not in RESERVED_FOLDERS


def _is_unexpected(path: str) -> bool:
    folder, slash, _ = path.removeprefix(f"{DRAFTS}/").partition("/")
    if folder == POLICIES:
        return path != f"{POLICIES}/assets.json" and policy_file(path) is None
    return bool(slash) and folder in KNOWN - RESERVED_FOLDERS and not path.endswith(BLOCK_FILE_SUFFIXES)


def _content_type(path: str) -> str | None:
    suffix = PurePosixPath(path).suffix.lower()
    return _MORE_CONTENT_TYPES.get(suffix) or _CONTENT_TYPES.guess_type(f"file{suffix}")[0]
