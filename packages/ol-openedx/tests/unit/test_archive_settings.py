"""Settings: of the course, of blocks, of videos; policy files; what must not be in any row."""

import io
import json
from datetime import datetime

import pytest
from ol_openedx.archive import ArchiveError, digest_archive
from olx_archives import SMALL_COURSE_BLOCKS, Reading, Tree, pack, read, small_course


def with_course(attributes: str, policy: object = None) -> Reading:
    tree = small_course() | {"course/R1.xml": f'<course {attributes}><chapter url_name="ch"/></course>'}
    del tree["policies/R1/policy.json"]
    if policy is not None:
        tree["policies/R1/policy.json"] = json.dumps({"course/R1": policy})
    return read(tree)


@pytest.mark.parametrize(
    ("written", "expected"),
    [("true", True), ("false", False), ("True", True), ("False", False), ("null", None), ("", None)],
)
def test_self_paced_is_what_is_written(written: str, expected: bool | None) -> None:  # noqa: FBT001 - a parameter
    """O7: `bool("false")` is true."""
    assert with_course(f'self_paced="{written}"').metadata["self_paced"] is expected


def test_self_paced_of_a_policy_is_json() -> None:
    """O7"""
    assert with_course('self_paced="true"', {"self_paced": False}).metadata["self_paced"] is False


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2030-01-02T03:04:05Z", datetime(2030, 1, 2, 3, 4, 5)),  # noqa: DTZ001 - naive UTC, as in the table
        ("2030-01-02T03:04:05+02:00", datetime(2030, 1, 2, 1, 4, 5)),  # noqa: DTZ001
        ("2030-01-02T03:04", datetime(2030, 1, 2, 3, 4)),  # noqa: DTZ001
        ("2030-01-02T03:04:05.678901+00:00", datetime(2030, 1, 2, 3, 4, 5, 678901)),  # noqa: DTZ001
        ("&quot;2030-01-02T03:04:05Z&quot;", datetime(2030, 1, 2, 3, 4, 5)),  # noqa: DTZ001
        ("null", None),
        ("", None),
    ],
)
def test_dates_are_naive_utc(written: str, expected: datetime | None) -> None:
    found = with_course(f'start="{written}"')
    assert found.metadata["start_at"] == found.block("R1")["start_at"] == expected
    assert found.quarantine == []


@pytest.mark.parametrize("written", ["Feb 30", "9999-12-31T23:59:59-10:00", "2030-13-01T00:00:00Z"])
def test_a_date_that_cannot_be_read_is_quarantined_once_and_stays_in_the_attributes(written: str) -> None:
    found = with_course(f'start="{written}"')
    assert found.metadata["start_at"] is None
    assert found.quarantine == [("course/R1.xml", "invalid_date")]
    assert written in str(found.rows["course_quarantine"][0]["detail"])
    assert json.loads(str(found.metadata["attributes"]))["start"] == written


def test_the_course_row_has_everything() -> None:
    found = with_course(
        'display_name="&quot;Physics&quot;" language="de" end="2031-01-01T00:00:00Z" course_image="logo.png"',
        {"enrollment_start": "2029-01-01T00:00:00Z", "enrollment_end": "2029-06-01T00:00:00Z", "language": "en"},
    )
    row = dict(found.metadata)
    attributes = json.loads(str(row.pop("attributes")))
    assert attributes["language"] == "en"
    assert row == {
        "course_id": "course-v1:Org+C1+R1",
        "olx_course_id": "course-v1:Org+C1+R1",
        "org": "Org",
        "course": "C1",
        "run": "R1",
        "display_name": "Physics",
        "language": "en",
        "start_at": None,
        "end_at": datetime(2031, 1, 1),  # noqa: DTZ001
        "enrollment_start_at": datetime(2029, 1, 1),  # noqa: DTZ001
        "enrollment_end_at": datetime(2029, 6, 1),  # noqa: DTZ001
        "self_paced": None,
        "course_image": "logo.png",
        "archive_format": "course",
        "content_digest": found.summary.content_digest,
        "block_count": 8,
        "orphan_block_count": 0,
        "draft_block_count": 0,
        "video_count": 1,
        "static_file_count": 2,
        "static_bytes": 9,
        "member_count": 15,
        "quarantined_count": 0,
    }


def test_a_block_takes_its_settings_from_its_file_and_its_policy() -> None:
    tree = small_course()
    tree["sequential/seq.xml"] = (
        '<sequential display_name="L" format="Homework" graded="true" due="2030-01-01T00:00:00Z">'
        '<vertical url_name="unit"/></sequential>'
    )
    tree["policies/R1/policy.json"] = json.dumps({"sequential/seq": {"display_name": "Lesson 1", "graded": False}})
    row = read(tree).block("seq")
    assert (row["display_name"], row["format"], row["graded"]) == ("Lesson 1", "Homework", False)
    assert row["due_at"] == datetime(2030, 1, 1)  # noqa: DTZ001
    assert json.loads(str(row["attributes"]))["format"] == "Homework"


class TestPolicies:
    def test_policies_and_grading_policies_of_every_run_are_rows(self) -> None:
        """O16: the grading policy was never extracted."""
        tree = small_course() | {"policies/R0/policy.json": "{}", "policies/R2.json": "{}", "grading_policy.json": "{}"}
        rows = read(tree).rows["course_policy"]
        assert [(row["path"], row["run"], row["kind"], row["is_current"]) for row in rows] == [
            ("grading_policy.json", "R1", "grading_policy", True),
            ("policies/R0/policy.json", "R0", "policy", False),
            ("policies/R1/grading_policy.json", "R1", "grading_policy", True),
            ("policies/R1/policy.json", "R1", "policy", True),
            ("policies/R2.json", "R2", "policy", False),
        ]
        assert rows[2]["content"] == '{"GRADER":[],"GRADE_CUTOFFS":{"Pass":0.5}}'

    def test_the_order_of_keys_does_not_matter(self) -> None:
        """O18"""
        tree = small_course() | {"policies/R1/grading_policy.json": '{"GRADE_CUTOFFS": {"Pass": 0.5}, "GRADER": []}'}
        assert read(tree).rows["course_policy"] == read(small_course()).rows["course_policy"]

    def test_the_older_place_of_a_policy_counts_where_there_is_no_newer(self) -> None:
        old = json.dumps({"course/R1": {"language": "old"}})
        tree = small_course() | {"policies/R1.json": old}
        assert read(tree | {"policies/R1/policy.json": "{}"}).metadata["language"] is None
        del tree["policies/R1/policy.json"]
        assert read(tree).metadata["language"] == "old"

    @pytest.mark.parametrize(
        "content",
        ["", "foo", "[]", "null", '{"a": NaN}', b"\xff\xfe\xff", "[" * 100_000, '{"a":' * 500 + "1" + "}" * 500],
    )
    def test_a_policy_that_is_no_json_object_is_quarantined(self, content: str | bytes) -> None:
        """O16: any file that is not JSON ended the extraction."""
        found = read(small_course() | {"policies/R1/policy.json": content})
        assert found.quarantine == [("policies/R1/policy.json", "malformed_json")]
        assert found.summary.blocks_by_type == SMALL_COURSE_BLOCKS

    def test_other_files_among_policies_are_quarantined(self) -> None:
        """O16"""
        found = read(small_course() | {"policies/README.txt": "x", "policies/R1/notes.txt": "y"})
        assert [path for path, _ in found.quarantine] == ["policies/README.txt", "policies/R1/notes.txt"]

    @pytest.mark.parametrize("certificates", [None, [], {"certificates": None}, "x", [{"signatories": []}]])
    @pytest.mark.parametrize("outer", [None, [], "x"])
    def test_certificates_may_be_anything(self, certificates: object, outer: object) -> None:
        """O16: `"certificates": null` and lists were AttributeErrors."""
        policy = {"course/R1": {"certificates": certificates}, "chapter/ch": outer}
        found = read(small_course() | {"policies/R1/policy.json": json.dumps(policy)})
        assert found.quarantine == []
        assert json.loads(str(found.rows["course_policy"][-1]["content"])) == policy

    def test_a_surrogate_in_a_policy_can_be_stored(self) -> None:
        policy = '{"course/R1": {"display_name": "a\\ud800", "language": "[\\"key\\", \\"\\\\ud800\\"]"}}'
        found = read(small_course() | {"policies/R1/policy.json": policy})
        for row in (found.metadata, *found.rows["course_policy"]):
            json.dumps(row, default=str, ensure_ascii=False).encode()


class TestVideos:
    def video(self, text: str) -> dict[str, object]:
        return read(small_course() | {"video/clip.xml": text}).video("clip")

    def test_a_video_has_all_its_sources_and_transcripts(self) -> None:
        row = self.video("""
            <video url_name="clip" display_name="Clip" edx_video_id="e1" youtube="0.75:slow,1.00:y1,1.25:fast" sub="s1"
                   html5_sources='["https://x/a.mp4"]' transcripts='{"uk": "uk.srt"}'>
              <source src="https://x/a.mp4"/><source src="https://x/b.webm"/>
              <transcript language="de" src="de.srt"/>
              <video_asset client_video_id="c" duration="300.5" image="i.jpg">
                <encoded_video profile="mobile" url="https://x/m.mp4" file_size="10" bitrate="20"/>
                <transcripts><transcript language_code="fr" file_format="srt" provider="Custom"/></transcripts>
              </video_asset>
            </video>""")
        assert row == {
            "course_id": "course-v1:Org+C1+R1",
            "block_id": "block-v1:Org+C1+R1+type@video+block@clip",
            "url_name": "clip",
            "display_name": "Clip",
            "state": "published",
            "edx_video_id": "e1",
            "youtube_id": "y1",
            "duration_seconds": 300.5,
            "html5_sources": '["https://x/a.mp4","https://x/b.webm"]',
            "transcripts": '{"de":"de.srt","en":"subs_s1.srt.sjson","fr":"e1-fr.srt","uk":"uk.srt"}',
            "encoded_videos": '[{"bitrate":"20","file_size":"10","profile":"mobile","url":"https://x/m.mp4"}]',
        }

    @pytest.mark.parametrize(
        ("asset", "expected"),
        [
            ('<video_asset duration="300.5"/>', 300.5),
            ('<video_asset duration="0.0"/>', None),
            ('<video_asset duration="nan"/>', None),
            ('<video_asset duration="x"/>', None),
            ("<video_asset/>", None),
            ("", None),
        ],
    )
    def test_the_duration_comes_from_the_asset_with_children_or_without(
        self, asset: str, expected: float | None
    ) -> None:
        """O5: an element without children is false, so its duration was "0.0"."""
        assert self.video(f"<video>{asset}</video>")["duration_seconds"] == expected

    def test_the_id_at_normal_speed_comes_first(self) -> None:
        assert self.video('<video youtube_id_1_0="a" youtube="1.00:b"/>')["youtube_id"] == "a"
        assert self.video('<video youtube_id_1_0="&quot;a&quot;"/>')["youtube_id"] == "a"
        assert self.video('<video youtube_id_1_0="" edx_video_id=""/>')["youtube_id"] is None

    @pytest.mark.parametrize(
        "attributes", ['html5_sources="x" transcripts="y"', 'html5_sources="{}" transcripts="[1]"']
    )
    def test_attributes_that_are_no_json_are_as_if_absent(self, attributes: str) -> None:
        row = self.video(f"<video {attributes}/>")
        assert (row["html5_sources"], row["transcripts"]) == ("[]", "{}")


CANARY = "canary-5f3a"


def leaky_course() -> Tree:
    """A course with a canary wherever authors put credentials."""
    settings = {
        "lti_passports": [f"id:{CANARY}:{CANARY}"],
        "matlab_api_key": CANARY,
        "giturl": f"https://user:{CANARY}@git.example/x.git",
        "remote_gradebook": {"name": CANARY},
        "video_upload_pipeline": {"course_video_upload_token": CANARY},
        "other_course_settings": {"deep": [{"client_secret": CANARY, "kept": 1}]},
        "video_url": f"https://user:{CANARY}@cdn.example/x",
    }
    attributes = " ".join(
        f"{name}='{value if isinstance(value, str) else json.dumps(value)}'" for name, value in settings.items()
    )
    lti = f'<lti url_name="l" lti_key="{CANARY}" secret="{CANARY}" custom_parameters=\'["api_key={CANARY}", "a=b"]\'/>'
    problem = f'<problem url_name="m" markdown="%api_key={CANARY}&#10;text"/>'
    video = f"""<video url_name="w" html5_sources='["https://x/?token={CANARY}&amp;a=1"]'>
        <source src="https://u:{CANARY}@x/v.mp4?X-Amz-Signature={CANARY}"/>
        <video_asset><encoded_video profile="p" url="https://x/?access_key={CANARY}"/></video_asset></video>"""
    return small_course() | {
        "course/R1.xml": f'<course display_name="P" {attributes}><chapter url_name="ch"/></course>',
        "vertical/unit.xml": f"<vertical>{lti}{problem}{video}</vertical>",
        "policies/R1/policy.json": json.dumps({"course/R1": settings}),
        "policies/R1/grading_policy.json": json.dumps({"password": CANARY, "GRADER": []}),
        "policies/R0/policy.json": f'{{"matlab_api_key": "{CANARY}"',
        "problem/broken.xml": f'<problem matlab_api_key="{CANARY}"',
        "problem/entity.xml": f'<!DOCTYPE p [<!ENTITY {CANARY} "{CANARY}">]><problem/>',
    }


def test_no_secret_is_in_any_row(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    found = read(leaky_course())
    assert CANARY not in json.dumps(found.rows, default=str)
    assert CANARY not in repr(found.summary)
    assert CANARY not in caplog.text + "".join(capfd.readouterr())
    attributes = json.loads(str(found.metadata["attributes"]))
    assert attributes["display_name"] == "P"
    assert attributes["other_course_settings"] == {"deep": [{"kept": 1}]}
    assert '"a=b"' in json.loads(str(found.block("l")["attributes"]))["custom_parameters"]
    assert len(found.quarantine) == 3


@pytest.mark.parametrize(
    "broken",
    [
        {"course/R1.xml": f'<course matlab_api_key="{CANARY}"'},
        {"course.xml": f'<course org="O" course="C" matlab_api_key="{CANARY}"/>'},
    ],
)
def test_no_secret_is_in_an_error(broken: Tree) -> None:
    with pytest.raises(ArchiveError) as caught:
        read(leaky_course() | broken)
    error: BaseException | None = caught.value
    while error is not None:
        assert CANARY not in str(error)
        error = error.__cause__


def test_the_same_archive_gives_the_same_rows() -> None:
    """O18: rows held the time of retrieval."""
    data = pack(leaky_course())
    assert read(data).rows == read(data).rows
    assert digest_archive(io.BytesIO(data), name="x") == digest_archive(io.BytesIO(data), name="y")
