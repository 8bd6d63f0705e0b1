"""The one pass over an archive: every file hashed, XML reduced to block elements, policy files read."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from ol_openedx.archive.block_types import KNOWN, STATIC
from ol_openedx.archive.course import CourseFiles
from ol_openedx.archive.definitions import DefinitionParser, Element, TooManyBlocks, XmlProblem
from ol_openedx.archive.identity import ROOT_FILES, root_prefix
from ol_openedx.archive.inventory import Entry, Inventory
from ol_openedx.archive.limits import ArchiveError, ArchiveLimits
from ol_openedx.archive.members import ArchiveMembers, Member, RefusedMember
from ol_openedx.archive.policy import InvalidPolicy, policy_file, read_policy

PathTest = Callable[[str], bool]


@dataclass
class Scan:
    """What one pass leaves of an archive; paths are as the archive names them.

    Attributes:
        name: The archive's name, for errors.
        inventory: Every member but folders and litter.
        skipped_count: Members passed over: what operating systems and git leave behind.
        definitions: Root element of each XML file that may define blocks.
        problems: What is wrong with each XML file that cannot be used.
        policies: Canonical JSON of each policy file, without secrets.
        policy_problems: Reason and detail for each policy file that cannot be used.
        html_bodies: Names of the HTML files of html blocks.
    """

    name: str
    limits: ArchiveLimits
    inventory: Inventory
    skipped_count: int = 0
    definitions: dict[str, Element] = field(default_factory=dict)
    problems: dict[str, XmlProblem] = field(default_factory=dict)
    policies: dict[str, str] = field(default_factory=dict)
    policy_problems: dict[str, tuple[str, str]] = field(default_factory=dict)
    html_bodies: set[str] = field(default_factory=set)
    _block_count: int = 0
    _policy_bytes: int = 0

    def run(self, stream: BinaryIO, *, is_wanted: PathTest) -> None:
        """Read the archive once.

        Args:
            stream: The tar.gz.
            is_wanted: Which XML, policy and html files to look into, by the archive's path.

        Raises:
            ArchiveError: The archive is damaged, unsafe as a whole, or beyond a limit.
        """
        members = ArchiveMembers(stream, name=self.name, limits=self.limits)
        for member in members:
            if isinstance(member, RefusedMember):
                self.inventory.add(Entry(member.path, member.size_bytes, "", member.reason, member.detail))
            else:
                self.inventory.add(Entry(member.path, member.size_bytes, self._read(member, is_wanted)))
        self.skipped_count = members.skipped_count

    def root(self) -> tuple[str, CourseFiles]:
        """The course's folder (empty or ending in `/`), and the files below it by their path below it.

        Raises:
            ArchiveError: No course, or two.
        """
        roots = [path for path in (*self.definitions, *self.problems) if _is_root_file(path)]
        refused = (entry.path for entry in self.inventory if entry.reason and _is_root_file(entry.path))
        prefix = root_prefix(roots, refused=refused, archive=self.name)
        below = len(prefix)
        return prefix, CourseFiles(
            definitions={path[below:]: root for path, root in self.definitions.items() if path.startswith(prefix)},
            problems={path[below:]: found for path, found in self.problems.items() if path.startswith(prefix)},
            html_bodies={path[below:] for path in self.html_bodies if path.startswith(prefix)},
        )

    def _read(self, member: Member, is_wanted: PathTest) -> str:
        """Hash a member and, where it is wanted, take from it what linking needs; returns the SHA-256."""
        digest = hashlib.sha256()
        chunks = _hashed(member, digest)
        if is_wanted(member.path):
            if member.path.endswith(".xml"):
                self._read_xml(member, chunks)
            elif member.path.endswith(".json"):
                self._read_policy(member, chunks)
            else:
                self.html_bodies.add(member.path)
        for _ in chunks:
            pass
        return digest.hexdigest()

    def _read_xml(self, member: Member, chunks: Iterator[bytes]) -> None:
        try:
            parser = self._parser(member)
            for chunk in chunks:
                parser.feed(chunk)
            self.definitions[member.path] = parser.close()
            self._block_count += parser.block_count
        except XmlProblem as problem:
            problem.size_bytes = member.size_bytes
            self.problems[member.path] = problem
        except TooManyBlocks as error:
            raise ArchiveError(
                self.name, f"more block elements than the limit blocks={self.limits.blocks}", member=member.path
            ) from error

    def _parser(self, member: Member) -> DefinitionParser:
        limits = self.limits
        if member.size_bytes > limits.xml_bytes:
            detail = f"{member.size_bytes} bytes are beyond the limit xml_bytes={limits.xml_bytes}"
            raise XmlProblem("xml_too_large", detail)
        return DefinitionParser(max_depth=limits.xml_depth, max_blocks=limits.blocks - self._block_count)

    def _read_policy(self, member: Member, chunks: Iterator[bytes]) -> None:
        self._policy_bytes += member.size_bytes
        limit = self.limits.policy_bytes
        if self._policy_bytes > limit:
            detail = f"{self._policy_bytes} bytes of policy files are beyond the limit policy_bytes={limit}"
            self.policy_problems[member.path] = ("policy_too_large", detail)
            return
        try:
            self.policies[member.path] = read_policy(b"".join(chunks))
        except InvalidPolicy as problem:
            self.policy_problems[member.path] = ("malformed_json", str(problem))


def _hashed(member: Member, digest: "hashlib._Hash") -> Iterator[bytes]:
    for chunk in member.chunks():
        digest.update(chunk)
        yield chunk


def _is_root_file(path: str) -> bool:
    return path.count("/") <= 1 and path.rpartition("/")[2] in ROOT_FILES


def may_define_blocks(path: str) -> bool:
    """Whether a file matters to blocks or policies below a root at depth 0 or 1: until the end it may be either.

    XML under `static/` never does, so that memory does not grow with static files.
    """
    if path.endswith(".xml"):
        return _is_root_file(path) or _is_definition(path)
    if path.endswith(".json"):
        return policy_file(path) is not None or policy_file(path.partition("/")[2]) is not None
    return path.endswith(".html") and "html" in path.split("/")[:3]


def names_course(path: str) -> bool:
    """Whether a file may name the course: the root file, or the definition that it points to."""
    return path.endswith(".xml") and (_is_root_file(path) or "course" in path.split("/")[:2])


def _is_definition(path: str) -> bool:
    first, *rest = path.split("/")
    if not rest:
        return False
    if first == STATIC and (len(rest) == 1 or rest[0] not in KNOWN):
        return False
    return len(rest) == 1 or rest[0] != STATIC
