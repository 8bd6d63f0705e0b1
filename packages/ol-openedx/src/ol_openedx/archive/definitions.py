"""XML files reduced, while they are parsed, to the block elements in them.

What is inside a leaf (a problem's markup, a rubric, a video's sources) is read for its depth only, so memory grows with
the number of blocks and not with the size of their contents. Nothing here recurses.
"""

import codecs
import re
from dataclasses import dataclass, field
from typing import Any
from xml.parsers.expat import ExpatError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from ol_openedx.archive.block_types import CONTAINERS, LEAVES, NOT_BLOCKS
from ol_openedx.archive.block_types import KNOWN as KNOWN_TYPES

VIDEO_PARTS = frozenset(["source", "transcript", "video_asset", "encoded_video"])
_DECLARATION = re.compile(rb"(?:\xef\xbb\xbf)?<\?xml[^>]*?\sencoding\s*=\s*[\"']([A-Za-z0-9._-]+)[\"']")
_DECLARATION_BYTES = 256
# Declared encodings that expat cannot read. One that says UTF-16 in readable ASCII is wrong about itself.
_DECODED_HERE = {name: name for name in ("gb2312", "gbk", "gb18030", "big5", "shift_jis", "euc-jp", "euc-kr")}
_DECODED_HERE |= dict.fromkeys(("utf8", "utf_8", "utf-16", "utf-16le", "utf-16be", "unicode"), "utf-8-sig")

_HOLDERS = CONTAINERS | {"section"}


class XmlProblem(Exception):
    """An XML file that cannot be used.

    Attributes:
        reason: Slug of the quarantine table.
        detail: For people; holds no text of the file.
        line: Line in the file, where one is known.
        size_bytes: Size of the file; its reader knows it.
    """

    def __init__(self, reason: str, detail: str, line: int | None = None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.line = line
        self.size_bytes: int | None = None


class TooManyBlocks(Exception):
    """More block elements than the parser was allowed."""


@dataclass(slots=True)
class Element:
    """A block element as it stands in a file.

    Attributes:
        tag: Without namespace.
        attributes: As written.
        line: Line of its start tag.
        ordinal: Position among the block elements of its file, in document order.
        has_text: Whether text other than space stands before the first child.
        has_elements: Whether it has any child element.
        children: Child elements that are blocks.
        parts: For a video, the tag and attributes of its sources, transcripts and assets.
        strangers: Line and tag of child elements that are neither blocks nor anything known.
    """

    tag: str
    attributes: dict[str, str]
    line: int
    ordinal: int
    has_text: bool = False
    has_elements: bool = False
    children: list["Element"] = field(default_factory=list)
    parts: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    strangers: list[tuple[int, str]] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether it has neither text nor child elements."""
        return not self.has_text and not self.has_elements

    @property
    def is_pointer(self) -> bool:
        """Whether its definition is in a file of its own: exactly the identifying attributes, and empty."""
        expected = {"url_name", "org", "course"} if self.tag == "course" else {"url_name"}
        return self.is_empty and self.attributes.keys() == expected


class DefinitionParser:
    """Parses one file piece by piece; entities and external references are refused, depth is limited.

    Args:
        max_depth: Deepest nesting of elements that is accepted.
        max_blocks: Most block elements that are accepted; more raise `TooManyBlocks`.

    Attributes:
        block_count: Block elements so far.
    """

    def __init__(self, *, max_depth: int, max_blocks: int) -> None:
        # The defused parser installs the handlers that refuse entities; ours are set on the expat parser beneath it,
        # because building a tree of everything would cost several times more.
        self._expat: Any = DefusedXMLParser().parser
        self._expat.ordered_attributes = False
        self._expat.DefaultHandlerExpand = self._expat.CommentHandler = self._expat.ProcessingInstructionHandler = None
        self._expat.StartElementHandler = self._start
        self._expat.EndElementHandler = self._end
        self._expat.CharacterDataHandler = self._text
        self._max_depth = max_depth
        self._head: bytes | None = b""
        self._decoder: codecs.IncrementalDecoder | None = None
        self._root: Element | None = None
        self._open: list[Element] = []
        self._ignored_depth = 0
        self.block_count = 0
        self._max_blocks = max_blocks

    def feed(self, data: bytes) -> None:
        """Parse the next bytes of the file.

        Raises:
            XmlProblem: The file cannot be used; do not go on.
        """
        if self._head is not None:  # the declaration is needed whole, however the file is cut into pieces
            data = self._head = self._head + data
            if len(data) < _DECLARATION_BYTES:
                return
            self._begin()
        self._parse(data)

    def close(self) -> Element:
        """The file's root element.

        Raises:
            XmlProblem: The file ends too early, or is empty.
        """
        if self._head is not None:
            data = self._head
            self._begin()
            self._parse(data)
        self._parse(b"", final=True)
        if self._root is None:
            raise XmlProblem("malformed_xml", "no element")
        return self._root

    def _begin(self) -> None:
        declared = _DECLARATION.match(self._head or b"")
        self._head = None
        if declared and (encoding := _DECODED_HERE.get(declared[1].decode().lower())):
            self._decoder = codecs.getincrementaldecoder(encoding)()

    def _parse(self, data: bytes, *, final: bool = False) -> None:
        try:
            self._expat.Parse(self._decoder.decode(data, final) if self._decoder else data, final)
        except DefusedXmlException as error:
            raise XmlProblem("forbidden_xml", f"{type(error).__name__}: entities are refused", self._line) from error
        except (ExpatError, ValueError, LookupError) as error:
            raise XmlProblem("malformed_xml", str(error), self._line) from error

    @property
    def _line(self) -> int:
        line: int = self._expat.CurrentLineNumber
        return line

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        tag = name.rpartition("}")[2]
        if self._ignored_depth + len(self._open) >= self._max_depth:
            raise XmlProblem(
                "xml_too_deep", f"elements nested deeper than the limit xml_depth={self._max_depth}", self._line
            )
        if self._ignored_depth == 0 and self._keep(tag, attributes):
            return
        self._ignored_depth += 1
        self._expat.CharacterDataHandler = None
        if tag in VIDEO_PARTS and self._open[-1].tag == "video":
            self._open[-1].parts.append((tag, attributes))

    def _keep(self, tag: str, attributes: dict[str, str]) -> bool:
        parent = self._open[-1] if self._open else None
        if parent is not None:
            parent.has_elements = True
            if not is_child_block(parent.tag, tag, attributes):
                if parent.tag in _HOLDERS and tag not in NOT_BLOCKS and not is_aside(attributes):
                    parent.strangers.append((self._line, tag))
                return False
        if self.block_count >= self._max_blocks:
            raise TooManyBlocks
        element = Element(tag, attributes, self._line, self.block_count)
        self.block_count += 1
        self._open.append(element)
        if parent is None:
            self._root = element
        else:
            parent.children.append(element)
        return True

    def _end(self, _name: str) -> None:
        if self._ignored_depth:
            self._ignored_depth -= 1
            if not self._ignored_depth:
                self._expat.CharacterDataHandler = self._text
            return
        element = self._open.pop()
        if element.tag == "section" and self._open:
            # The oldest courses wrap a chapter's sequentials in <section>, which the platform drops around one child
            # and reads as a sequential around several.
            if len(element.children) == 1:
                self._open[-1].children[-1] = element.children[0]
                self._open[-1].strangers.extend(element.strangers)
            else:
                element.tag = "sequential"

    def _text(self, text: str) -> None:
        element = self._open[-1]
        if not element.has_elements and not element.has_text and text.strip():
            element.has_text = True


def is_aside(attributes: dict[str, str]) -> bool:
    """Whether an element is an aside: data that a plugin attaches to a block."""
    return attributes.get("xblock-family", "").startswith("xblock_asides")


def is_child_block(parent_tag: str, tag: str, attributes: dict[str, str]) -> bool:
    """Whether a child element is a block of its own.

    In a container every known type is, and whatever names itself; in a type unknown here only what names itself; in a
    leaf nothing is.
    """
    if parent_tag in LEAVES or tag in NOT_BLOCKS or is_aside(attributes):
        return False
    if parent_tag in _HOLDERS and (tag in KNOWN_TYPES or tag == "section"):
        return True
    return (
        "url_name" in attributes or "xblock-family" in attributes or (parent_tag in _HOLDERS and "slug" in attributes)
    )
