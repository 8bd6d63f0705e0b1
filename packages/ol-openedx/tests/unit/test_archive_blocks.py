"""Blocks: pointers followed from course.xml, inline blocks, orphans, drafts, what cannot be used."""

import pytest
from olx_archives import SMALL_COURSE_BLOCKS, Tree, pack, read, small_course


def course(vertical: str, **files: str) -> Tree:
    """A course whose one vertical holds `vertical`; `files` are `folder__name='xml'`."""
    tree: Tree = {
        "course.xml": '<course url_name="R" org="O" course="C"/>',
        "course/R.xml": '<course><chapter url_name="ch"/></course>',
        "chapter/ch.xml": '<chapter><sequential url_name="s"/></chapter>',
        "sequential/s.xml": '<sequential><vertical url_name="v"/></sequential>',
        "vertical/v.xml": f"<vertical>{vertical}</vertical>",
    }
    return tree | {f"{name.replace('__', '/')}.xml": text for name, text in files.items()}


ABOVE = ["course/R", "chapter/ch", "sequential/s", "vertical/v"]


def test_a_block_has_its_place_in_a_preorder_walk() -> None:
    found = read(small_course())
    assert [
        (row["block_index"], row["depth"], row["block_type"], row["url_name"], row["is_inline"], row["child_count"])
        for row in found.blocks()
    ] == [
        (0, 0, "course", "R1", False, 1),
        (1, 1, "chapter", "ch", False, 1),
        (2, 2, "sequential", "seq", False, 1),
        (3, 3, "vertical", "unit", False, 4),
        (4, 4, "problem", "prob", False, 0),
        (5, 4, "html", "page", False, 0),
        (6, 4, "video", "clip", False, 0),
        (7, 4, "discussion", "talk", True, 0),
    ]
    assert found.block("prob") | {"attributes": None} == {
        "course_id": "course-v1:Org+C1+R1",
        "block_id": "block-v1:Org+C1+R1+type@problem+block@prob",
        "block_type": "problem",
        "url_name": "prob",
        "display_name": "Sum",
        "parent_block_id": "block-v1:Org+C1+R1+type@vertical+block@unit",
        "block_index": 4,
        "depth": 4,
        "state": "published",
        "path": "problem/prob.xml",
        "is_inline": False,
        "child_count": 0,
        "format": None,
        "graded": None,
        "start_at": None,
        "due_at": None,
        "attributes": None,
    }


def test_an_old_style_course_id_gives_old_style_block_ids() -> None:
    found = read(small_course(), course_id="Org/C1/R1")
    assert found.metadata["course_id"] == "Org/C1/R1"
    assert found.metadata["olx_course_id"] == "course-v1:Org+C1+R1"
    assert found.block("prob")["block_id"] == "i4x://Org/C1/problem/prob"
    assert {row["course_id"] for rows in found.rows.values() for row in rows} == {"Org/C1/R1"}


@pytest.mark.parametrize(
    "inline",
    [
        '<openassessment url_name="x" allow_latex="False"><title/><rubric><criterion/></rubric></openassessment>',
        '<edx_sga url_name="x" xblock-family="xblock.v1" display_name="SGA"/>',
        '<poll url_name="x" question="?"/>',
        '<lti_consumer url_name="x"/>',
        '<done url_name="x"/>',
        '<discussion url_name="x"/>',
        '<unheard-of url_name="x" a="b"/>',
        '<unheard-of xblock-family="xblock.v1" url_name="x"><p/></unheard-of>',
        '<problem url_name="x" display_name="inline"><p>2 + 2</p></problem>',
        '<html url_name="x">text</html>',
        '<video url_name="x" youtube_id_1_0="y"/>',
    ],
)
def test_an_inline_block_counts_like_any_other(inline: str) -> None:
    """O4: inline blocks were never seen."""
    found = read(course(inline))
    assert found.names() == [*ABOVE, f"{inline[1:].split(maxsplit=1)[0]}/x"]
    row = found.block("x")
    assert (row["is_inline"], row["path"], row["depth"]) == (True, "vertical/v.xml", 4)
    assert found.quarantine == []


def test_inline_videos_are_videos() -> None:
    """O4"""
    found = read(course('<video url_name="a" youtube_id_1_0="y1"/><video url_name="b" youtube="1.00:y2"/>'))
    assert [(row["url_name"], row["youtube_id"]) for row in found.rows["course_video"]] == [("a", "y1"), ("b", "y2")]
    assert found.summary.video_count == 2


def test_an_inline_block_without_a_name_gets_one_that_stays() -> None:
    tree = course('<html>a</html><html>b</html><poll question="?"/><problem display_name="Quiz: 1"><p/></problem>')
    found = read(tree)
    names = found.names()[4:]
    assert len(set(names)) == 4
    assert names[3] == "problem/Quiz_1"
    assert read(pack(dict(reversed(tree.items())), root="")).names()[4:] == names


def test_a_name_made_from_a_display_name_never_takes_that_of_another_block() -> None:
    inline = '<html display_name="Intro">a</html><html display_name="Intro">b</html><html display_name="Outro">c</html>'
    found = read(course(f'{inline}<html url_name="Intro"/>', html__Intro="<html>d</html>"))
    names = found.names()[4:]
    assert len(set(names)) == 4
    assert names[2:] == ["html/Outro", "html/Intro"]
    assert found.quarantine == []


def test_what_is_inside_a_leaf_is_no_block() -> None:
    inside = '<html url_name="a"/><video url_name="b"/><problem><problem url_name="c"/></problem>'
    leaves = f'<problem url_name="p" x="">{inside}</problem><html url_name="h" x="">{inside}</html>'
    found = read(course(f'{leaves}<openassessment url_name="o">{inside}</openassessment>'))
    assert found.names() == [*ABOVE, "problem/p", "html/h", "openassessment/o"]


def test_settings_of_a_course_are_no_blocks() -> None:
    tree = course("")
    extra = (
        '<wiki slug="x"/><textbook title="t" book_url="u"><table_of_contents><entry/></table_of_contents></textbook>'
    )
    found = read(tree | {"course/R.xml": f'<course>{extra}<chapter url_name="ch"/></course>'})
    assert found.names() == ABOVE
    assert found.quarantine == []


def test_children_of_an_unknown_block_count_where_they_name_themselves() -> None:
    builder = """<problem-builder url_name="pb" xblock-family="xblock.v1">
        <pb-mcq url_name="q" xblock-family="xblock.v1"><pb-choice url_name="c">yes</pb-choice><p>text</p></pb-mcq>
        <title>no block</title></problem-builder>"""
    assert read(course(builder)).names() == [*ABOVE, "problem-builder/pb", "pb-mcq/q", "pb-choice/c"]


def test_an_aside_is_no_block() -> None:
    aside = '<tagging_aside xblock-family="xblock_asides.v1" url_name="t"/>'
    found = read(course(f'{aside}<html url_name="h">x</html>'))
    assert found.names() == [*ABOVE, "html/h"]
    assert found.quarantine == []


def test_what_is_neither_a_block_nor_a_setting_is_quarantined_with_its_line() -> None:
    found = read(course('\n<p>stray</p>\n<html url_name="h">x</html>'))
    assert found.names() == [*ABOVE, "html/h"]
    (row,) = found.rows["course_quarantine"]
    assert (row["path"], row["reason"], row["line"]) == ("vertical/v.xml", "unknown_element", 2)


@pytest.mark.parametrize(
    "container", ["library_content", "split_test", "conditional", "randomize", "itembank", "wrapper"]
)
def test_containers_hold_blocks(container: str) -> None:
    text = f'<{container} display_name="x"><problem url_name="p"/><html>y</html></{container}>'
    found = read(course(f'<{container} url_name="k"/>', **{f"{container}__k": text}, problem__p="<problem/>"))
    assert found.names()[:6] == [*ABOVE, f"{container}/k", "problem/p"]
    assert found.summary.block_count == 7


def test_a_colon_in_a_name_is_a_folder() -> None:
    """O13: `problem/P2/p1.xml` was `p1`."""
    tree = course('<problem url_name="P2:p1"/>', problem__P2__p1="<problem/>")
    found = read(tree)
    assert found.names() == [*ABOVE, "problem/P2:p1"]
    assert found.block("P2:p1")["path"] == "problem/P2/p1.xml"


def test_an_unreached_file_without_a_name_is_called_by_its_path() -> None:
    """O13: a video's id was None where its file had no url_name."""
    found = read(course("", video__a="<video/>", video__P2__b="<video/>", video__c='<video url_name="named"/>'))
    assert found.names("orphan") == ["video/P2:b", "video/a", "video/named"]


def test_the_type_is_the_tag_and_never_the_folder() -> None:
    """O19: files of `tabs/` and `policies/` became blocks."""
    tree = course("", tabs__x="<html/>", policies__x="<problem/>", about__x="<html/>", info__x="<html/>")
    tree |= {
        "static/y.xml": "<problem/>",
        "latex/z.xml": "<html/>",
        "custom_tags/t.xml": "<x/>",
        "note.xml": "<problem",
    }
    found = read(tree | {"problem/wrong.xml": "<video/>", "newblock/n.xml": "<newblock/>"})
    assert found.names() == ABOVE
    assert found.names("orphan") == ["newblock/n", "video/wrong"]
    assert found.quarantine == [("policies/x.xml", "unexpected_file")]


def test_a_block_keeps_the_type_that_points_to_it_and_another_root_is_reported() -> None:
    found = read(course('<problem url_name="p"/>', problem__p='\n<video display_name="V"/>'))
    assert found.names() == [*ABOVE, "problem/p"]
    assert found.quarantine == [("problem/p.xml", "unexpected_root")]


def test_files_that_nothing_reaches_are_orphans_with_what_hangs_on_them() -> None:
    orphan = '<vertical><problem url_name="lost"/><html>inline</html><problem url_name="kept"/></vertical>'
    tree = course(
        '<problem url_name="kept"/>', problem__kept="<problem/>", problem__lost="<problem/>", vertical__old=orphan
    )
    found = read(tree)
    assert found.names() == [*ABOVE, "problem/kept"]
    assert found.names("orphan")[:2] == ["vertical/old", "problem/lost"]
    assert found.summary.orphan_block_count == 3
    lost = found.block("lost", "orphan")
    assert lost["parent_block_id"] == "block-v1:O+C+R+type@vertical+block@old"
    assert (lost["block_index"], lost["depth"]) == (None, None)
    assert found.block("old", "orphan")["child_count"] == 2
    assert found.quarantine == []


def test_orphans_in_a_circle_are_found_and_end() -> None:
    tree = course("", vertical__a='<vertical><sequential url_name="b"/></vertical>')
    found = read(tree | {"sequential/b.xml": '<sequential><vertical url_name="a"/></sequential>'})
    assert sorted(found.names("orphan")) == ["sequential/b", "vertical/a"]
    assert [reason for _, reason in found.quarantine] == ["cycle"]


def test_drafts_are_blocks_in_a_state_of_their_own() -> None:
    draft = """<vertical parent_url="block-v1:O+C+R+type@sequential+block@s" index_in_children_list="0">
        <html url_name="only_draft"/><html url_name="public"/><poll url_name="inline" question="?"/></vertical>"""
    tree = course('<html url_name="public"/>', html__public="<html>x</html>")
    tree |= {"drafts/vertical/v.xml": draft, "drafts/html/only_draft.xml": '<html filename="only_draft"/>'}
    found = read(tree | {"drafts/html/only_draft.html": "", "drafts/video/P/alone.xml": "<video/>"})
    assert found.names() == [*ABOVE, "html/public"]
    assert sorted(found.names("draft")) == ["html/only_draft", "poll/inline", "vertical/v", "video/P:alone"]
    vertical = found.block("v", "draft")
    assert vertical["parent_block_id"] == "block-v1:O+C+R+type@sequential+block@s"
    assert (vertical["block_index"], vertical["depth"], vertical["path"]) == (None, None, "drafts/vertical/v.xml")
    assert found.block("only_draft", "draft")["parent_block_id"] == vertical["block_id"]
    assert found.summary.orphan_block_count == 0
    assert found.summary.video_count == 0
    assert [row["state"] for row in found.rows["course_video"]] == ["draft"]
    assert found.quarantine == []


def test_the_parent_of_a_draft_may_be_an_old_address() -> None:
    tree = course("") | {"drafts/problem/p.xml": '<problem parent_sequential_url="i4x://O/C/vertical/v@draft"/>'}
    assert read(tree).block("p", "draft")["parent_block_id"] == "block-v1:O+C+R+type@vertical+block@v"


def test_a_draft_that_points_to_an_unpublished_file_leaves_it_an_orphan() -> None:
    tree = course("", problem__p="<problem/>") | {
        "drafts/vertical/d.xml": '<vertical><problem url_name="p"/></vertical>'
    }
    found = read(tree)
    assert found.names("draft") == ["vertical/d"]
    assert found.names("orphan") == ["problem/p"]


def test_a_block_under_two_parents_counts_once_under_the_first() -> None:
    """O17: the second parent gave it a second index and left a gap."""
    tree = course('<problem url_name="p"/>', problem__p="<problem/>")
    tree["chapter/ch.xml"] = '<chapter><sequential url_name="s"/><sequential url_name="t"/></chapter>'
    tree["sequential/t.xml"] = '<sequential><vertical url_name="v"/><vertical url_name="w"/></sequential>'
    tree["vertical/w.xml"] = "<vertical/>"
    found = read(tree)
    assert found.names() == [*ABOVE, "problem/p", "sequential/t", "vertical/w"]
    assert [row["block_index"] for row in found.blocks()] == list(range(7))
    assert found.block("v")["parent_block_id"] == "block-v1:O+C+R+type@sequential+block@s"
    assert found.block("t")["child_count"] == 1
    assert found.quarantine == [("sequential/t.xml", "several_parents")]


def test_a_cycle_ends_and_is_reported() -> None:
    """O17: a cycle never ended."""
    tree = course('<problem url_name="p"/><chapter url_name="ch"/>', problem__p="<problem/>")
    found = read(tree)
    assert found.names() == [*ABOVE, "problem/p"]
    assert found.quarantine == [("vertical/v.xml", "cycle")]


def test_the_same_inline_block_twice_is_reported() -> None:
    found = read(course('<poll url_name="p" question="1"/><poll url_name="p" question="2"/>'))
    assert found.names() == [*ABOVE, "poll/p"]
    assert found.quarantine == [("vertical/v.xml", "duplicate_block")]


def test_a_pointer_to_nothing_is_reported_and_no_block() -> None:
    found = read(course('\n<problem url_name="gone"/>\n<html url_name="h">x</html>'))
    assert found.names() == [*ABOVE, "html/h"]
    (row,) = found.rows["course_quarantine"]
    assert (row["path"], row["line"], row["reason"]) == ("vertical/v.xml", 2, "missing_definition")
    assert "problem/gone.xml" in str(row["detail"])


@pytest.mark.parametrize(
    ("path", "content", "reason"),
    [
        ("video/clip.xml", "<video", "malformed_xml"),
        ("video/clip.xml", "", "malformed_xml"),
        ("video/clip.xml", b"\xff\xfe\0", "malformed_xml"),
        ("video/clip.xml", "1\n00:00 --> 00:01\nHello", "malformed_xml"),
        ("video/clip.xml", '<!DOCTYPE v [<!ENTITY a "b">]><video display_name="&a;"/>', "forbidden_xml"),
    ],
)
def test_a_file_that_cannot_be_parsed_is_quarantined_and_the_rest_is_built(
    path: str, content: str | bytes, reason: str
) -> None:
    """O11: any bad file in `video/` ended the whole extraction."""
    found = read(small_course() | {path: content})
    assert found.quarantine == [(path, reason)]
    assert found.summary.blocks_by_type == {k: n for k, n in SMALL_COURSE_BLOCKS.items() if k != "video"}
    assert found.metadata["quarantined_count"] == 1
    assert found.rows["course_quarantine"][0]["size_bytes"] == len(content)


def test_a_subtitle_among_videos_is_quarantined() -> None:
    """O11"""
    found = read(small_course() | {"video/clip.srt": "1\n", "video/._clip.xml": "\0\5\26\7"})
    assert found.quarantine == [("video/clip.srt", "unexpected_file")]
    assert found.summary.blocks_by_type == SMALL_COURSE_BLOCKS


def test_a_parse_error_names_its_line() -> None:
    found = read(small_course() | {"problem/prob.xml": "<problem>\n<p>\n</problem>"})
    assert found.rows["course_quarantine"][0]["line"] == 3


def test_deep_nesting_needs_no_recursion() -> None:
    depth = 3000
    tree = course('<vertical url_name="n0"/>')
    tree |= {f"vertical/n{i}.xml": f'<vertical><vertical url_name="n{i + 1}"/></vertical>' for i in range(depth)}
    found = read(tree | {f"vertical/n{depth}.xml": "<vertical/>"})
    assert found.summary.block_count == depth + 5
    assert found.block(f"n{depth}")["depth"] == depth + 4


class TestOldLayouts:
    """Courses from before Studio."""

    def test_course_xml_may_hold_the_whole_course(self) -> None:
        tree: Tree = {
            "course.xml": """<course name="Old" org="O" course="C" slug="2012_Fall">
                <chapter name="Overview">
                  <videosequence slug="vs">
                    <html slug="lab" filename="lab"/><video name="S1 V1" youtube="1.0:y"/>
                  </videosequence>
                  <section name="L2"><sequential><problem filename="ps1" slug="ps1"/></sequential></section>
                </chapter></course>""",
            "html/lab.html": "<p>",
            "problem/ps1.xml": "<problem><p/></problem>",
        }
        found = read(tree)
        types = [str(row["block_type"]) for row in found.blocks()]
        assert types == ["course", "chapter", "videosequence", "html", "video", "sequential", "problem"]
        assert found.metadata["course_id"] == "course-v1:O+C+2012_Fall"
        assert found.metadata["display_name"] == "Old"
        assert found.names()[2:5] == ["videosequence/vs", "html/lab", "video/S1_V1"]
        assert found.summary.orphan_block_count == 0
        assert found.quarantine == []

    def test_a_section_around_several_blocks_is_a_sequential(self) -> None:
        tree = course("") | {
            "chapter/ch.xml": "<chapter><section name='S'><html>a</html><html>b</html></section></chapter>"
        }
        assert read(tree).names()[:3] == ["course/R", "chapter/ch", "sequential/S"]
        assert read(tree).summary.block_count == 5

    def test_a_filename_points_to_the_content(self) -> None:
        found = read(
            course(
                '<problem url_name="a" display_name="A" filename="shared"/><sequential url_name="b" filename="seq"/>',
                problem__shared='<problem max_attempts="1"><p/></problem>',
                sequential__seq='<sequential><html url_name="c">x</html></sequential>',
            )
        )
        assert found.names() == [*ABOVE, "problem/a", "sequential/b", "html/c"]
        assert found.block("a")["attributes"] == (
            '{"display_name":"A","filename":"shared","max_attempts":"1","url_name":"a"}'
        )
        assert found.summary.orphan_block_count == 0
        assert found.quarantine == []

    def test_a_filename_may_leave_out_its_folder(self) -> None:
        tree = course('<problem url_name="a"/>', problem__a='<problem filename="ps1-x"/>')
        found = read(tree | {"problem/ps1/ps1-x.xml": "<problem/>"})
        assert found.summary.orphan_block_count == 0
        assert found.quarantine == []

    def test_a_filename_that_leads_nowhere_is_reported(self) -> None:
        found = read(course('<problem url_name="a" filename="gone"/><html url_name="h" filename="gone"/>'))
        assert found.names() == [*ABOVE, "html/h"]
        assert [reason for _, reason in found.quarantine] == ["missing_definition"] * 2

    def test_a_file_that_includes_itself_ends(self) -> None:
        included = '<vertical filename="w" url_name="x"/>'
        found = read(course(included, vertical__w=f"<vertical>{included}</vertical>"))
        assert found.names() == [*ABOVE, "vertical/x"]
        assert found.quarantine == [("vertical/w.xml", "cycle")]
