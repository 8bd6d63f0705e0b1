"""Readers that are fed a member's chunks: XML by defusedxml, matched on local names, and the head of an HTML page."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Protocol
from xml.etree.ElementTree import Element, TreeBuilder

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser, ParseError

from ol_canvas.cartridge.records import CartridgeLimits

_HTML_HEAD_BYTES = 64 * 1024


class Reader(Protocol):
    """Takes the bytes of one member, chunk by chunk."""

    def feed(self, chunk: bytes, /) -> object:
        """Takes the next chunk."""


@dataclass(frozen=True, slots=True)
class XmlFault:
    """Why an XML file was not read to its end."""

    reason: str
    detail: str
    line: int | None


class _Target(Protocol):
    """What the parser calls; `ElementTree.TreeBuilder` is one."""

    def start(self, tag: str, attributes: dict[str, str], /) -> object: ...
    def end(self, tag: str, /) -> object: ...
    def data(self, text: str, /) -> object: ...
    def close(self) -> object: ...


class _TooDeepError(Exception):
    pass


class _DepthGuard:
    """Stands between the parser and its target: nesting costs the reader's stack, so it has an end."""

    def __init__(self, target: _Target, depth: int) -> None:
        self._target, self._left, self.data = target, depth, target.data

    def start(self, tag: str, attributes: dict[str, str]) -> object:
        self._left -= 1
        if self._left < 0:
            raise _TooDeepError
        return self._target.start(tag, attributes)

    def end(self, tag: str) -> object:
        self._left += 1
        return self._target.end(tag)

    def close(self) -> object:
        return self._target.close()


class XmlReader:
    """Parses one XML file into `target`; the first fault is kept, not raised."""

    def __init__(self, target: _Target, limits: CartridgeLimits) -> None:
        self._limits, self._seen = limits, 0
        self._parser = DefusedXMLParser(target=_DepthGuard(target, limits.xml_depth))
        self._fault: XmlFault | None = None

    def feed(self, chunk: bytes, /) -> None:
        """Takes the next chunk."""
        self._seen += len(chunk)
        if self._seen > self._limits.xml_bytes and self._fault is None:
            detail = f"longer than {self._limits.xml_bytes} bytes, the most that is parsed"
            self._fault = XmlFault("xml_too_large", detail, None)
        if self._fault is None:
            self._guarded(self._parser.feed, chunk)

    def close(self) -> XmlFault | None:
        """Ends the file; returns what was wrong with it, or None."""
        if self._fault is None:
            self._guarded(self._parser.close)
        return self._fault

    def _guarded(self, call: Callable[..., object], *arguments: object) -> None:
        try:
            call(*arguments)
        except ParseError as error:
            self._fault = XmlFault("malformed_xml", str(error), error.position[0])
        except DefusedXmlException as error:
            self._fault = XmlFault("forbidden_xml", f"declares entities: {type(error).__name__}", self._line)
        except _TooDeepError:
            detail = f"nested deeper than {self._limits.xml_depth} levels, the most that is parsed"
            self._fault = XmlFault("xml_too_deep", detail, self._line)
        except (ValueError, LookupError) as error:  # an encoding that expat does not know
            self._fault = XmlFault("malformed_xml", str(error), self._line)

    @property
    def _line(self) -> int | None:
        expat = getattr(self._parser, "parser", None)
        return getattr(expat, "CurrentLineNumber", None)


class TreeReader(XmlReader):
    """Keeps the whole tree: for the few files whose structure matters."""

    def __init__(self, limits: CartridgeLimits) -> None:
        self._builder = TreeBuilder()
        super().__init__(self._builder, limits)

    def root(self) -> Element:
        """The root element, once `close` has returned None."""
        return self._builder.close()


class FactsReader(XmlReader):
    """Keeps what names a piece of content, whatever the file's size."""

    def __init__(self, limits: CartridgeLimits) -> None:
        self.facts = Facts()
        super().__init__(_FactsTarget(self.facts), limits)


@dataclass(slots=True)
class Facts:
    """What a settings file says of its item.

    Attributes:
        root: Local name of the root element; for QTI `assessment` or `objectbank`.
        nested_state: A workflow_state below another element: of the assignment inside a quiz or topic.
        topic_type: `announcement` or `topic`.
        available: Whether a quiz is published, `true` or `false`.
        lookup_uuid: By which a module item names an LTI resource link.
    """

    root: str | None = None
    title: str | None = None
    workflow_state: str | None = None
    nested_state: str | None = None
    topic_type: str | None = None
    available: str | None = None
    lookup_uuid: str | None = None


class _FactsTarget:
    _TEXTS = frozenset({"title", "workflow_state", "type", "available", "fieldlabel", "fieldentry", "property"})

    def __init__(self, facts: Facts) -> None:
        self._facts, self._path, self._text, self._name, self._label = facts, [""], [""], "", ""

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        local = local_name(tag)
        self._path.append(local)
        self._text = []
        self._name = attributes.get("name", "")
        if len(self._path) == 2:  # noqa: PLR2004  ("" and the root)
            self._facts.root = local
        elif local in ("assessment", "objectbank") and self._path[1] == "questestinterop":
            self._facts.root = local
            self._facts.title = attributes.get("title")

    def data(self, text: str) -> None:
        if self._path[-1] in self._TEXTS:
            self._text.append(text)

    def end(self, tag: str) -> None:
        local, text = local_name(tag), "".join(self._text).strip()
        top = len(self._path) == 3  # noqa: PLR2004  ("", the root and this element)
        self._path.pop()
        self._text = []
        if text and local in self._TEXTS:
            self._keep(local, text, top=top)

    def _keep(self, local: str, text: str, *, top: bool) -> None:
        facts = self._facts
        if local == "workflow_state":
            if top:
                facts.workflow_state = text
            else:
                facts.nested_state = facts.nested_state or text
        elif local == "title" and top:
            facts.title = text
        elif local == "type" and top:
            facts.topic_type = text
        elif local == "available" and top:
            facts.available = text
        elif local == "fieldlabel":
            self._label = text
        elif local == "fieldentry" and self._label == "bank_title":
            facts.title = text
        elif local == "property" and self._name == "lookup_uuid":
            facts.lookup_uuid = text

    def close(self) -> None:
        pass


class HtmlHeadReader:
    """Keeps the beginning of a page, in which its title and its meta elements stand."""

    def __init__(self) -> None:
        self._head = bytearray()

    def feed(self, chunk: bytes, /) -> None:
        """Takes the next chunk."""
        self._head += chunk[: max(0, _HTML_HEAD_BYTES - len(self._head))]

    def facts(self) -> Facts:
        """The page's title and workflow state."""
        parser = _HtmlHeadParser()
        text = self._head.decode("utf-8", errors="replace")
        parser.feed(text[:index] if (index := text.find("</head>")) >= 0 else text)
        parser.close()
        return Facts("html", "".join(parser.title).strip() or None, parser.workflow_state)


class _HtmlHeadParser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.title: list[str] = []
        self.workflow_state: str | None = None
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_title = tag == "title" and not self.title
        values = dict(attrs)
        if tag == "meta" and values.get("name") == "workflow_state":
            self.workflow_state = values.get("content") or None

    def handle_endtag(self, tag: str) -> None:
        self._in_title = self._in_title and tag != "title"

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title.append(data)


def local_name(tag: str) -> str:
    """A tag without its namespace."""
    return tag.rpartition("}")[2]


def children(element: Element, name: str) -> Iterator[Element]:
    """The children of one local name, in their order."""
    return (child for child in element if local_name(child.tag) == name)


def text_of(element: Element, *path: str) -> str | None:
    """The text at the end of a path of local names; None where it is missing or blank."""
    for name in path:
        found = next(children(element, name), None)
        if found is None:
            return None
        element = found
    return (element.text or "").strip() or None
