"""The parts of a generated Canvas cartridge: how each kind of content is written, as Canvas exports do it.

Compare lib/cc/ of canvas-lms and the Common Cartridge 1.1 profiles of IMS.
"""

from dataclasses import dataclass
from html import escape
from xml.etree.ElementTree import Element, SubElement, tostring

from ol_devkit.generators.seeds import Member, Seed
from ol_devkit.generators.vocabulary import paragraphs

CANVAS_NAMESPACE = "http://canvas.instructure.com/xsd/cccv1p0"
APPLICATION_RESOURCE = "associatedcontent/imscc_xmlv1p1/learning-application-resource"


@dataclass(frozen=True, slots=True)
class Resource:
    """A `<resource>` of the manifest."""

    identifier: str
    type: str
    href: str | None
    files: tuple[str, ...]
    depends_on: str | None = None
    intended_use: str | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """One piece of content: its files, its resources (the first one is what a module item refers to)."""

    members: tuple[Member, ...]
    resources: tuple[Resource, ...]

    @property
    def identifier(self) -> str:
        """What module items refer to."""
        return self.resources[0].identifier


def document(element: Element) -> bytes:
    """`element` as an XML document."""
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(element, encoding="unicode").encode() + b"\n"


def canvas_element(tag: str, identifier: str | None = None, **fields: object) -> Element:
    """An element of Canvas's own namespace with a child for each field; None leaves an empty child."""
    element = Element(tag, {"identifier": identifier} if identifier else {})
    element.set("xmlns", CANVAS_NAMESPACE)
    add_fields(element, **fields)
    return element


def add_fields(element: Element, **fields: object) -> Element:
    """Add a child for each field; None leaves it empty, booleans are `true` or `false`."""
    for name, value in fields.items():
        text = str(value).lower() if isinstance(value, bool) else None if value is None else str(value)
        SubElement(element, name).text = text
    return element


def slug(title: str) -> str:
    """A page's URL as Canvas makes it of its title."""
    return "-".join("".join(c if c.isalnum() else " " for c in title.lower()).split())


def html_document(title: str, body: str, **meta: str) -> bytes:
    """A page of HTML with Canvas's `<meta>` elements."""
    lines = "\n".join(f'<meta name="{name}" content="{escape(value)}"/>' for name, value in meta.items())
    head = f'<meta http-equiv="Content-Type" content="text/html; charset=utf-8"/>\n<title>{escape(title)}</title>'
    return f"<html>\n<head>\n{head}\n{lines}\n</head>\n<body>\n{body}\n</body>\n</html>".encode()


def page(seed: Seed, title: str, *, published: bool, front_page: bool = False) -> Part:
    """A wiki page."""
    identifier, path = "i" + seed.hex("page"), f"wiki_content/{slug(title)}.html"
    meta = {"identifier": identifier, "editing_roles": "teachers"}
    meta["workflow_state"] = "active" if published else "unpublished"
    if front_page:
        meta["front_page"] = "true"
    content = html_document(title, paragraphs(seed, 3), **meta)
    return Part((Member(path, content),), (Resource(identifier, "webcontent", path, (path,)),))


def assignment(seed: Seed, title: str, *, published: bool, points: float, due_at: str | None) -> Part:
    """An assignment: its settings and its text."""
    identifier = "i" + seed.hex("assignment")
    settings = canvas_element(
        "assignment",
        identifier,
        title=title,
        due_at=due_at and due_at.removesuffix("Z"),
        lock_at=None,
        unlock_at=None,
        workflow_state="published" if published else "unpublished",
        points_possible=points,
        grading_type="points",
        submission_types="online_upload,online_text_entry",
        position=1,
    )
    text, meta = f"{identifier}/{slug(title)}.html", f"{identifier}/assignment_settings.xml"
    body = html_document(f"Assignment: {title}", paragraphs(seed, 2))
    members = (Member(text, body), Member(meta, document(settings)))
    return Part(members, (Resource(identifier, APPLICATION_RESOURCE, text, (text, meta)),))


def quiz(seed: Seed, title: str, *, published: bool, points: float) -> Part:
    """A classic quiz: the standard QTI, Canvas's own metadata and Canvas's richer QTI beside them."""
    identifier, meta_identifier = "i" + seed.hex("quiz"), "i" + seed.hex("quiz_meta")
    meta = canvas_element("quiz", identifier, title=title, quiz_type="assignment", points_possible=points)
    add_fields(meta, available=published, allowed_attempts=1)
    graded = SubElement(meta, "assignment", {"identifier": "i" + seed.hex("quiz_assignment")})
    state = "published" if published else "unpublished"
    add_fields(graded, title=title, due_at=None, workflow_state=state, quiz_identifierref=identifier)
    add_fields(graded, points_possible=points, grading_type="points", submission_types="online_quiz")
    standard, canvas = f"{identifier}/assessment_qti.xml", f"non_cc_assessments/{identifier}.xml.qti"
    meta_path = f"{identifier}/assessment_meta.xml"
    questions = document(_questions(seed, identifier, title))
    members = (Member(standard, questions), Member(meta_path, document(meta)), Member(canvas, questions))
    profile = "imsqti_xmlv1p2/imscc_xmlv1p1/assessment"
    resources = (
        Resource(identifier, profile, None, (standard,), depends_on=meta_identifier),
        Resource(meta_identifier, APPLICATION_RESOURCE, meta_path, (meta_path, canvas)),
    )
    return Part(members, resources)


def question_bank(seed: Seed, title: str) -> Part:
    """A question bank, which only Canvas's own QTI folder holds."""
    identifier = "i" + seed.hex("bank")
    path = f"non_cc_assessments/{identifier}.xml.qti"
    root = Element("questestinterop", {"xmlns": "http://www.imsglobal.org/xsd/ims_qtiasiv1p2"})
    bank = SubElement(root, "objectbank", {"ident": identifier})
    field = SubElement(SubElement(bank, "qtimetadata"), "qtimetadatafield")
    add_fields(field, fieldlabel="bank_title", fieldentry=title)
    return Part((Member(path, document(root)),), (Resource(identifier, APPLICATION_RESOURCE, path, (path,)),))


def _questions(seed: Seed, identifier: str, title: str) -> Element:
    root = Element("questestinterop", {"xmlns": "http://www.imsglobal.org/xsd/ims_qtiasiv1p2"})
    section = SubElement(SubElement(root, "assessment", {"ident": identifier, "title": title}), "section")
    section.set("ident", "root_section")
    for number in range(seed.integer("questions", 2, 6)):
        item = SubElement(section, "item", {"ident": "i" + seed.hex(f"question/{number}"), "title": "Question"})
        material = SubElement(SubElement(item, "presentation"), "material")
        SubElement(material, "mattext", {"texttype": "text/html"}).text = paragraphs(seed.child(number), 1)
    return root


def topic(seed: Seed, title: str, *, announcement: bool = False, points: float | None = None) -> Part:
    """A discussion (graded where it has points) or an announcement."""
    identifier, meta_identifier = "i" + seed.hex("topic"), "i" + seed.hex("topic_meta")
    root = Element("topic", {"xmlns": "http://www.imsglobal.org/xsd/imsccv1p1/imsdt_v1p1"})
    SubElement(root, "title").text = title
    SubElement(root, "text", {"texttype": "text/html"}).text = paragraphs(seed, 1)
    kind = "announcement" if announcement else "topic"
    meta = canvas_element("topicMeta", meta_identifier, topic_id=identifier, title=title, type=kind)
    add_fields(meta, discussion_type="threaded", workflow_state="active")
    if points is not None:
        graded = SubElement(meta, "assignment", {"identifier": "i" + seed.hex("topic_assignment")})
        add_fields(graded, title=title, due_at=None, workflow_state="published", points_possible=points)
        add_fields(graded, grading_type="points", submission_types="discussion_topic")
    path, meta_path = f"{identifier}.xml", f"{meta_identifier}.xml"
    resources = (
        Resource(identifier, "imsdt_xmlv1p1", None, (path,), depends_on=meta_identifier),
        Resource(meta_identifier, APPLICATION_RESOURCE, meta_path, (meta_path,)),
    )
    return Part((Member(path, document(root)), Member(meta_path, document(meta))), resources)


def weblink(seed: Seed, title: str, url: str) -> Part:
    """A link to another site."""
    identifier = "i" + seed.hex("weblink")
    root = Element("webLink", {"xmlns": "http://www.imsglobal.org/xsd/imsccv1p1/imswl_v1p1"})
    SubElement(root, "title").text = title
    SubElement(root, "url", {"href": url})
    path = f"{identifier}.xml"
    return Part((Member(path, document(root)),), (Resource(identifier, "imswl_xmlv1p1", None, (path,)),))


def lti_link(seed: Seed, title: str, url: str) -> Part:
    """A link to an external tool (LTI 1)."""
    identifier = "i" + seed.hex("lti")
    root = Element("cartridge_basiclti_link", {"xmlns": "http://www.imsglobal.org/xsd/imslticc_v1p0"})
    root.set("xmlns:blti", "http://www.imsglobal.org/xsd/imsbasiclti_v1p0")
    add_fields(root, **{"blti:title": title, "blti:description": "A tool", "blti:launch_url": url})
    path = f"{identifier}.xml"
    return Part((Member(path, document(root)),), (Resource(identifier, "imsbasiclti_xmlv1p0", None, (path,)),))


def web_resource(seed: Seed, path: str, size_bytes: int) -> Part:
    """A file of the course; `path` is relative to the course's files."""
    identifier, full = "i" + seed.hex("file"), f"web_resources/{path}"
    return Part((Member(full, (seed, size_bytes)),), (Resource(identifier, "webcontent", full, (full,)),))
