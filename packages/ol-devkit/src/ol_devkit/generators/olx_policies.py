"""What an Open edX archive holds beside its blocks: policies, static files, about pages, updates and tabs."""

import json
from collections.abc import Iterator

from ol_devkit.generators.olx_identity import OlxIdentity, stamp
from ol_devkit.generators.seeds import Member, Seed
from ol_devkit.generators.vocabulary import file_size, paragraphs, topic

STATIC_TYPES = (("png", "image/png"), ("pdf", "application/pdf"), ("jpg", "image/jpeg"), ("zip", "application/zip"))
FAKE_PASSPORT = "demo_tool:not-a-real-key:not-a-real-secret"
"""What stands under `lti_passports`; it must appear in no table, log or message."""


def supporting_members(
    seed: Seed, identity: OlxIdentity, units: int, *, revision: int, files_revision: int
) -> Iterator[Member]:
    """The files that no block is in."""
    static = list(_static_files(seed.child("static"), units, files_revision))
    yield from static
    yield Member(f"policies/{identity.run}/policy.json", _json({f"course/{identity.run}": _policy(seed, identity)}))
    yield Member(f"policies/{identity.run}/grading_policy.json", _json(_grading_policy()))
    yield Member("policies/assets.json", _json({m.path.removeprefix("static/"): _asset(m) for m in static}))
    yield Member("assets/assets.xml", b"<assets/>\n")
    yield Member("about/overview.html", paragraphs(seed.child("overview"), 4).encode())
    yield Member("about/short_description.html", f"{identity.display_name}, revision {revision}.".encode())
    yield Member("about/effort.html", b"5-7 hours a week")
    yield Member("info/handouts.html", b"<ol></ol>")
    yield Member("info/updates.html", paragraphs(seed.child("updates"), 1).encode())
    update = {"id": 1, "date": "September 1, 2025", "content": "<p>Welcome</p>", "status": "visible"}
    yield Member("info/updates.items.json", _json([update]))
    yield Member("tabs/syllabus.html", paragraphs(seed.child("tab"), 2).encode())


def static_file_count(units: int) -> int:
    """How many files a course of `units` has below `static/`, transcripts and later uploads aside."""
    return 3 + max(2, units // 2)


def _static_files(seed: Seed, units: int, files_revision: int) -> Iterator[Member]:
    yield Member("static/course_image.png", (seed.child("course_image"), 12_345))
    yield Member("static/empty.txt", b"")
    yield Member("static/custom/style sheet.css", b"body { color: #222 }\n" * 20)
    for number in range(static_file_count(units) - 3 + files_revision):
        place = seed.child(number)
        extension, _ = place.choice("type", STATIC_TYPES)
        name = f"{topic(place).lower().replace(' ', '_')}_{number}.{extension}"
        yield Member(f"static/{name}", (place, file_size(place, number)))


def _asset(member: Member) -> dict[str, object]:
    name = member.path.rsplit("/", 1)[-1]
    types = dict(STATIC_TYPES)
    content_type = types.get(name.rsplit(".", 1)[-1], "text/plain")
    return {"contentType": content_type, "displayname": name, "filename": name, "locked": False}


def _policy(seed: Seed, identity: OlxIdentity) -> dict[str, object]:
    signatory = {"id": 1, "name": "Ada Field", "title": "Professor", "organization": identity.org}
    certificate = {"id": 7, "name": "Default", "is_active": True, "version": 1, "signatories": [signatory]}
    return {
        "display_name": identity.display_name,
        "start": stamp(identity.start),
        "cert_html_view_enabled": True,
        "certificates": {"certificates": [certificate]},
        "lti_passports": [FAKE_PASSPORT],
        "discussion_topics": {"General": {"id": f"i4x-{seed.hex('topic', 8)}"}},
        "tabs": [
            {"course_staff_only": False, "name": "Course", "type": "courseware"},
            {"course_staff_only": False, "name": "Syllabus", "type": "static_tab", "url_slug": "syllabus"},
            {"course_staff_only": False, "name": "Progress", "type": "progress"},
        ],
    }


def _grading_policy() -> dict[str, object]:
    homework = {"type": "Homework", "short_label": "HW", "min_count": 4, "drop_count": 1, "weight": 0.6}
    final = {"type": "Final Exam", "short_label": "Final", "min_count": 1, "drop_count": 0, "weight": 0.4}
    return {"GRADER": [homework, final], "GRADE_CUTOFFS": {"Pass": 0.5}}


def _json(value: object) -> bytes:
    return json.dumps(value, indent=4, sort_keys=True).encode()
