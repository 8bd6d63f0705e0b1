"""Builds common cartridges as Canvas writes them, small and with any fault that a test asks for."""

import io
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html import escape

CANVAS = 'xmlns="http://canvas.instructure.com/xsd/cccv1p0"'
LEARNING_APPLICATION = "associatedcontent/imscc_xmlv1p1/learning-application-resource"


@dataclass
class Place:
    """An item of a module: what Canvas writes to module_meta.xml and to the manifest's organization."""

    identifier: str
    title: str
    content_type: str
    reference: str | None = None
    state: str = "active"


@dataclass
class Course:
    """A course; each method adds one thing, as its files and its resource."""

    title: str = "Physics & You"
    version: str = "1.1"
    exported_on: str = "2026-01-01"
    members: dict[str, bytes] = field(default_factory=dict)
    resources: list[str] = field(default_factory=list)
    modules: list[tuple[str, str, str, list[Place]]] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)

    def resource(self, identifier: str, type_: str, *files: str, href: str | None = None, inner: str = "") -> None:
        attributes = f' href="{escape(href)}"' if href else ""
        names = "".join(f'<file href="{escape(name)}"/>' for name in files)
        self.resources.append(
            f'<resource identifier="{identifier}" type="{type_}"{attributes}>{names}{inner}</resource>'
        )

    def page(self, identifier: str, title: str, *, state: str = "active", body: str = "<p>Words</p>") -> None:
        path = f"wiki_content/{identifier}.html"
        self.members[path] = (
            f"<html>\n<head>\n<title>{escape(title)}</title>\n"
            f'<meta name="identifier" content="{identifier}"/>\n<meta name="workflow_state" content="{state}"/>\n'
            f"</head>\n<body>\n{body}\n</body>\n</html>"
        ).encode()
        self.resource(identifier, "webcontent", path, href=path)

    def assignment(self, identifier: str, title: str, *, state: str = "published") -> None:
        html, settings = f"{identifier}/{identifier}.html", f"{identifier}/assignment_settings.xml"
        self.members[html] = f"<html><head><title>Assignment: {escape(title)}</title></head></html>".encode()
        self.members[settings] = (
            f'<assignment identifier="{identifier}" {CANVAS}><title>{escape(title)}</title>'
            f"<workflow_state>{state}</workflow_state></assignment>"
        ).encode()
        self.resource(identifier, LEARNING_APPLICATION, html, settings, href=html)

    def quiz(self, identifier: str, title: str, *, available: bool = True) -> None:
        qti, meta = f"{identifier}/assessment_qti.xml", f"{identifier}/assessment_meta.xml"
        full = f"non_cc_assessments/{identifier}.xml.qti"
        questions = f'<questestinterop><assessment ident="{identifier}" title="{escape(title)}"/></questestinterop>'
        self.members[qti] = self.members[full] = questions.encode()
        self.members[meta] = (
            f'<quiz identifier="{identifier}" {CANVAS}><title>{escape(title)}</title>'
            f"<available>{str(available).lower()}</available>"
            "<assignment><title>Graded</title><workflow_state>unpublished</workflow_state></assignment></quiz>"
        ).encode()
        needs = f'<dependency identifierref="{identifier}-meta"/>'
        self.resource(identifier, "imsqti_xmlv1p2/imscc_xmlv1p1/assessment", qti, inner=needs)
        self.resource(f"{identifier}-meta", LEARNING_APPLICATION, meta, full, href=meta)

    def question_bank(self, identifier: str, title: str) -> None:
        path = f"non_cc_assessments/{identifier}.xml.qti"
        self.members[path] = (
            f'<questestinterop><objectbank ident="{identifier}"><qtimetadata><qtimetadatafield>'
            f"<fieldlabel>bank_title</fieldlabel><fieldentry>{escape(title)}</fieldentry>"
            "</qtimetadatafield></qtimetadata></objectbank></questestinterop>"
        ).encode()
        self.resource(identifier, LEARNING_APPLICATION, path, href=path)

    def discussion(self, identifier: str, title: str, *, kind: str = "topic", state: str = "active") -> None:
        topic, meta = f"{identifier}.xml", f"{identifier}-meta.xml"
        self.members[topic] = f"<topic><title>{escape(title)}</title><text>Hello</text></topic>".encode()
        self.members[meta] = (
            f"<topicMeta {CANVAS}><topic_id>{identifier}</topic_id><title>{escape(title)}</title><type>{kind}</type>"
            f"<workflow_state>{state}</workflow_state></topicMeta>"
        ).encode()
        self.resource(identifier, "imsdt_xmlv1p1", topic, inner=f'<dependency identifierref="{identifier}-meta"/>')
        self.resource(f"{identifier}-meta", LEARNING_APPLICATION, meta, href=meta)

    def weblink(self, identifier: str, title: str) -> None:
        self.members[f"{identifier}.xml"] = (
            f'<webLink><title>{escape(title)}</title><url href="http://x"/></webLink>'.encode()
        )
        self.resource(identifier, "imswl_xmlv1p1", f"{identifier}.xml")

    def lti(self, identifier: str, title: str, *, lookup_uuid: str = "") -> None:
        self.members[f"{identifier}.xml"] = (
            '<cartridge_basiclti_link xmlns:blti="http://www.imsglobal.org/xsd/imsbasiclti_v1p0"'
            ' xmlns:lticm="http://www.imsglobal.org/xsd/imslticm_v1p0">'
            f"<blti:title>{escape(title)}</blti:title><blti:extensions>"
            f'<lticm:property name="lookup_uuid">{lookup_uuid}</lticm:property></blti:extensions>'
            "</cartridge_basiclti_link>"
        ).encode()
        self.resource(identifier, "imsbasiclti_xmlv1p3" if lookup_uuid else "imsbasiclti_xmlv1p0", f"{identifier}.xml")

    def file(self, identifier: str, path: str, content: bytes = b"bytes") -> None:
        self.members[path] = content
        self.resource(identifier, "webcontent", path, href=path)

    def module(self, identifier: str, title: str, *places: Place, state: str = "active") -> None:
        self.modules.append((identifier, title, state, list(places)))

    def manifest(self) -> bytes:
        namespace = f"http://www.imsglobal.org/xsd/imsccv{self.version.replace('.', 'p')}/imscp_v1p1"
        modules = "".join(
            f'<item identifier="{identifier}"><title>{escape(title)}</title>'
            + "".join(
                f'<item identifier="{place.identifier}"'
                + (f' identifierref="{place.reference}"' if place.reference else "")
                + f"><title>{escape(place.title)}</title></item>"
                for place in places
            )
            + "</item>"
            for identifier, title, _, places in self.modules
        )
        return (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<manifest identifier="course" xmlns="{namespace}"'
            ' xmlns:lom="http://ltsc.ieee.org/xsd/imscc/LOM/manifest">\n<metadata><schema>IMS Common Cartridge</schema>'
            f"<schemaversion>{self.version}.0</schemaversion><lom:lom><lom:general><lom:title><lom:string>"
            f"{escape(self.title)}</lom:string></lom:title></lom:general><lom:lifeCycle><lom:date>{self.exported_on}"
            "</lom:date></lom:lifeCycle></lom:lom></metadata>\n"
            '<organizations><organization identifier="org_1" structure="rooted-hierarchy">'
            f'<item identifier="LearningModules">{modules}</item></organization></organizations>\n'
            f"<resources>{''.join(self.resources)}</resources>\n</manifest>\n"
        ).encode()

    def module_meta(self) -> bytes:
        modules = "".join(
            f'<module identifier="{identifier}"><title>{escape(title)}</title><workflow_state>{state}</workflow_state>'
            f"<position>{rank}</position><items>"
            + "".join(
                f'<item identifier="{place.identifier}"><content_type>{place.content_type}</content_type>'
                f"<workflow_state>{place.state}</workflow_state><title>{escape(place.title)}</title>"
                + (f"<identifierref>{place.reference}</identifierref>" if place.reference else "")
                + f"<position>{position}</position><indent>0</indent></item>"
                for position, place in enumerate(places, start=1)
            )
            + "</items></module>"
            for rank, (identifier, title, state, places) in enumerate(self.modules, start=1)
        )
        return f"<modules {CANVAS}>{modules}</modules>".encode()

    def files(self) -> dict[str, bytes]:
        """All members, settings and manifest included."""
        settings = {f"course_settings/{name}": text.encode() for name, text in self.settings.items()}
        if self.modules:
            settings.setdefault("course_settings/module_meta.xml", self.module_meta())
        return {**self.members, **settings, "imsmanifest.xml": self.manifest()}

    def pack(self) -> io.BytesIO:
        return pack(self.files().items())


def pack(
    members: Iterable[tuple[str, bytes]] | Mapping[str, bytes],
    *,
    day: int = 1,
    compression: int = zipfile.ZIP_DEFLATED,
) -> io.BytesIO:
    """A zip of the members, in their order; names may repeat."""
    stream = io.BytesIO()
    pairs = members.items() if isinstance(members, Mapping) else members
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w") as archive:
        warnings.simplefilter("ignore")  # zipfile warns of a repeated name
        for name, content in pairs:
            entry = zipfile.ZipInfo(name, date_time=(2026, 1, day, 0, 0, 0))
            entry.compress_type = compression
            archive.writestr(entry, content)
    stream.seek(0)
    return stream


def physics() -> Course:
    """A course with one of everything that Canvas exports."""
    course = Course()
    course.page("welcome", "Welcome & start")
    course.page("draft", "A draft", state="unpublished")
    course.assignment("essay", "Essay")
    course.quiz("quiz", "Quiz 1")
    course.question_bank("bank", "Unfiled Questions")
    course.discussion("talk", "Talk")
    course.discussion("news", "News", kind="announcement")
    course.weblink("link", "Elsewhere")
    course.lti("tool", "Simulator")
    course.file("photo", "web_resources/images/photo one.jpg", b"\xff\xd8photo")
    course.settings["syllabus.html"] = "<html><head></head><body><p>Read  this</p></body></html>"
    course.settings["canvas_export.txt"] = "Q: What did the panda say?"
    course.settings["assignment_groups.xml"] = (
        f"<assignmentGroups {CANVAS}><assignmentGroup identifier='g'><title>Homework</title><position>1</position>"
        "<group_weight>40.0</group_weight></assignmentGroup></assignmentGroups>"
    )
    course.settings["files_meta.xml"] = (
        f"<fileMeta {CANVAS}><files><file identifier='photo'><hidden>true</hidden>"
        "<display_name>Photo.jpg</display_name></file></files></fileMeta>"
    )
    syllabus = "course_settings/syllabus.html"
    course.resource("course_syllabus", LEARNING_APPLICATION, syllabus, href=syllabus)
    course.module(
        "week-1",
        "Week 1",
        Place("p1", "Welcome", "WikiPage", "welcome"),
        Place("p2", "Reading", "ContextModuleSubHeader"),
        Place("p3", "Essay", "Assignment", "essay"),
        Place("p4", "Quiz 1", "Quizzes::Quiz", "quiz", state="unpublished"),
    )
    course.module(
        "week-2",
        "Week 2",
        Place("p5", "Talk", "DiscussionTopic", "talk"),
        Place("p6", "Elsewhere", "ExternalUrl", "link"),
        Place("p7", "Photo", "Attachment", "photo"),
        Place("p8", "Simulator", "ContextExternalTool", "tool"),
        state="unpublished",
    )
    return course
