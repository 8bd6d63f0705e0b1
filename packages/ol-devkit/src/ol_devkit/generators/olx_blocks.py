"""The leaf blocks of a generated Open edX course: how each is written in OLX, and what is true of it.

Core types have a file of their own and a pointer in their parent; other XBlocks stand inline in the parent
(xmodule/modulestore/xml_exporter.py; docs.openedx.org, "OLX directory structure").
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, tostring

from ol_devkit.generators.seeds import Member, Seed
from ol_devkit.generators.vocabulary import paragraphs, title


@dataclass(frozen=True, slots=True)
class Leaf:
    """A block below a unit.

    Attributes:
        node: What stands in the parent: a pointer, or the whole block.
        blocks: `type@url_name` of the block and of those in it, in preorder.
        members: The files that the block brings, below the course's root folder.
        video_seconds: The durations of its videos that are known, added up.
    """

    node: Element
    blocks: tuple[str, ...]
    members: tuple[Member, ...] = ()
    video_seconds: float = 0.0


def xml_bytes(element: Element) -> bytes:
    """`element` as a UTF-8 document without a declaration, as Studio writes it."""
    return tostring(element, encoding="unicode").encode() + b"\n"


def pointer(block_type: str, url_name: str) -> Element:
    """`<type url_name="..."/>`."""
    return Element(block_type, {"url_name": url_name})


def definition_path(block_type: str, url_name: str) -> str:
    """Where the definition of a block stands; a colon in the name is a folder."""
    return f"{block_type}/{url_name.replace(':', '/')}.xml"


def _own_file(
    folder: str, url_name: str, element: Element, *, members: tuple[Member, ...] = (), video_seconds: float = 0.0
) -> Leaf:
    member = Member(folder + definition_path(element.tag, url_name), xml_bytes(element))
    block = f"{element.tag}@{url_name}"
    return Leaf(pointer(element.tag, url_name), (block,), (member, *members), video_seconds=video_seconds)


def problem(seed: Seed, folder: str = "", url_name: str = "") -> Leaf:
    """A numerical or multiple-choice problem."""
    url_name = url_name or seed.hex("url_name")
    element = Element("problem", {"url_name": url_name, "display_name": title(seed, 0), "max_attempts": "3"})
    if ":" not in url_name:
        del element.attrib["url_name"]
    if seed.integer("kind", 0, 1):
        response = SubElement(element, "numericalresponse", {"answer": str(seed.integer("answer", 1, 99))})
        SubElement(response, "formulaequationinput")
    else:
        response = SubElement(element, "multiplechoiceresponse")
        group = SubElement(response, "choicegroup", {"type": "MultipleChoice"})
        for number in range(4):
            choice = SubElement(group, "choice", {"correct": str(number == seed.integer("right", 0, 3)).lower()})
            choice.text = title(seed.child(number), number)
    return _own_file(folder, url_name, element)


def nested_problem(seed: Seed, folder: str = "") -> Leaf:
    """A problem whose name has a colon: its file stands in a folder below `problem/`."""
    return problem(seed, folder, f"P{seed.integer('folder', 2, 9)}:problem_{seed.hex('name', 6)}")


def html(seed: Seed, folder: str = "") -> Leaf:
    """A text block: a pointer to its body, which is a file of HTML."""
    url_name = seed.hex("url_name")
    element = Element("html", {"filename": url_name, "display_name": title(seed, 0), "editor": "visual"})
    body = Member(f"{folder}html/{url_name}.html", paragraphs(seed, 3).encode())
    return _own_file(folder, url_name, element, members=(body,))


def video(seed: Seed, folder: str = "") -> Leaf:
    """A video with sources, transcripts and, mostly, the encoding record that knows its duration."""
    url_name, edx_video_id = seed.hex("url_name"), seed.hex("edx_video_id")
    source = f"https://videos.example.org/{edx_video_id}.mp4"
    languages = ("en", "es")[: seed.integer("languages", 1, 2)]
    subtitles = {language: f"{edx_video_id}-{language}.srt" for language in languages}
    element = Element(
        "video",
        {
            "url_name": url_name,
            "display_name": title(seed, 0),
            "edx_video_id": edx_video_id,
            "youtube_id_1_0": "",
            "html5_sources": json.dumps([source]),
            "transcripts": json.dumps(subtitles),
            "sub": "",
        },
    )
    SubElement(element, "source", {"src": source})
    seconds = _video_asset(element, seed, source, languages)
    for language, file_name in subtitles.items():
        SubElement(element, "transcript", {"language": language, "src": file_name})
    transcripts = tuple(Member(f"static/{name}", _srt(seed.child(name))) for name in subtitles.values())
    return _own_file(folder, url_name, element, members=transcripts, video_seconds=seconds)


def _video_asset(element: Element, seed: Seed, source: str, languages: tuple[str, ...]) -> float:
    # One in four is external: such records exist in real exports, with a duration of 0.0 that means "unknown".
    seconds = 0.0 if seed.integer("external", 0, 3) == 0 else seed.integer("tenths", 300, 12_000) / 10
    record = {"client_video_id": f"{title(seed, 0)}.mp4", "duration": str(seconds), "image": ""}
    asset = SubElement(element, "video_asset", record)
    if seconds:
        size = str(int(seconds * 150_000))
        encoding = {"profile": "desktop_mp4", "url": source, "file_size": size, "bitrate": "1200"}
        SubElement(asset, "encoded_video", encoding)
    transcripts = SubElement(asset, "transcripts")
    for language in languages:
        SubElement(transcripts, "transcript", {"language_code": language, "file_format": "srt", "provider": "Custom"})
    return seconds


def _srt(seed: Seed) -> bytes:
    lines = []
    for number in range(seed.integer("cues", 3, 12)):
        text = title(seed.child(number), number)
        lines.append(f"{number + 1}\n00:00:{number * 4:02},000 --> 00:00:{number * 4 + 3:02},500\n{text}\n")
    return "\n".join(lines).encode()


def library_content(seed: Seed, folder: str = "") -> Leaf:
    """A randomized block: its file points to the problems it draws from."""
    url_name = seed.hex("url_name")
    attributes = {"display_name": "Randomized Content Block", "max_count": "1", "source_library_id": "library-v1:X+L"}
    element = Element("library_content", attributes)
    problems = [problem(seed.child(number), folder) for number in range(2)]
    element.extend(leaf.node for leaf in problems)
    own = _own_file(folder, url_name, element)
    return Leaf(
        own.node,
        own.blocks + tuple(block for leaf in problems for block in leaf.blocks),
        own.members + tuple(member for leaf in problems for member in leaf.members),
    )


def inline_video(seed: Seed, _folder: str = "") -> Leaf:
    """A YouTube video that stands in the unit itself."""
    url_name, youtube_id = seed.hex("url_name"), seed.hex("youtube", 11)
    attributes = {"url_name": url_name, "display_name": title(seed, 0), "youtube": f"1.00:{youtube_id}"}
    node = Element("video", {**attributes, "youtube_id_1_0": youtube_id, "html5_sources": "[]"})
    seconds = seed.integer("seconds", 30, 900) + 0.5
    SubElement(node, "video_asset", {"client_video_id": "inline.mp4", "duration": str(seconds), "image": ""})
    return Leaf(node, (f"video@{url_name}",), video_seconds=seconds)


_INLINE_ATTRIBUTES = {
    "openassessment": {"submission_due": "2031-01-01T00:00:00+00:00", "text_response": "required"},
    "edx_sga": {"xblock-family": "xblock.v1", "points": "10", "weight": "1.0"},
    "poll": {"question": "Which one?", "answers": '[["R", {"label": "Red"}], ["B", {"label": "Blue"}]]'},
    "lti_consumer": {"launch_url": "https://tool.example.org/launch", "lti_id": "demo_tool", "has_score": "true"},
    "discussion": {"discussion_category": "Week", "discussion_target": "Topic"},
    "drag-and-drop-v2": {"data": '{"zones": [], "items": []}', "mode": "standard"},
}


def inline(block_type: str) -> Callable[..., Leaf]:
    """A builder of XBlocks of `block_type`, which stand inline in their unit."""

    def build(seed: Seed, _folder: str = "") -> Leaf:
        url_name = seed.hex("url_name")
        node = Element(block_type, {"url_name": url_name, "display_name": title(seed, 0)})
        node.attrib.update(_INLINE_ATTRIBUTES[block_type])
        if block_type == "openassessment":
            SubElement(SubElement(node, "assessments"), "assessment", {"name": "staff-assessment", "required": "True"})
            SubElement(SubElement(node, "rubric"), "criterion").text = "Ideas"
        return Leaf(node, (f"{block_type}@{url_name}",))

    return build


LEAVES: tuple[Callable[..., Leaf], ...] = (
    html,
    problem,
    video,
    inline("discussion"),
    problem,
    html,
    inline_video,
    inline("openassessment"),
    nested_problem,
    inline("edx_sga"),
    video,
    inline("poll"),
    library_content,
    html,
    inline("lti_consumer"),
    problem,
    inline("drag-and-drop-v2"),
)
"""What the units of a course are filled with, in turn; 17 kinds against 4 a unit, so that every mixture comes up."""
