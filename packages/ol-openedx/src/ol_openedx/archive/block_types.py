"""Which tags of OLX are blocks, which of them hold other blocks, and which folders hold no blocks at all.

Sources: the platform's `xmodule` entry points and XML importer, and the OLX reference of docs.openedx.org.
"""

CONTAINERS = frozenset(
    [
        "course",
        "library",
        "chapter",
        "sequential",
        "vertical",
        "videosequence",
        "problemset",
        "randomize",
        "conditional",
        "split_test",
        "library_content",
        "itembank",
        "wrapper",
        "timelimit",
        "abtest",
        "crowdsource_hinter",
    ]
)
# Leaves that have a file of their own: a pointer to one whose file is missing is a defect of the archive.
_FILED_LEAVES = frozenset(
    [
        "problem",
        "html",
        "video",
        "videoalpha",
        "lti",
        "annotatable",
        "textannotation",
        "videoannotation",
        "imageannotation",
        "poll_question",
        "word_cloud",
        "combinedopenended",
        "peergrading",
        "graphical_slider_tool",
        "foldit",
        "customtag",
        "static_tab",
        "course_info",
        "about",
    ]
)
# Leaves that stand inside their parent's file; `<done url_name="x"/>` is a whole block with default settings.
_INLINE_LEAVES = frozenset(
    [
        "openassessment",
        "edx_sga",
        "staffgradedxblock",
        "poll",
        "survey",
        "drag-and-drop-v2",
        "lti_consumer",
        "scorm",
        "done",
        "discussion",
        "recommender",
        "ubcpi",
        "google-calendar",
        "google-document",
        "imagemodal",
        "submit-and-compare",
        "free-text-response",
        "h5pxblock",
        "library_sourced",
    ]
)
FILED = CONTAINERS | _FILED_LEAVES
LEAVES = _FILED_LEAVES | _INLINE_LEAVES
KNOWN = CONTAINERS | LEAVES

# Children of containers that say something about their parent and are not blocks.
NOT_BLOCKS = frozenset(["wiki", "textbook", "show", "meta", "metadata", "option", "grader", "definition"])

STATIC = "static"
DRAFTS = "drafts"
POLICIES = "policies"
RESERVED_FOLDERS = frozenset(
    [STATIC, POLICIES, "about", "info", "tabs", "custom_tags", "assets", "roots", "wiki", "textbooks", "data"]
)
BLOCK_FILE_SUFFIXES = (".xml", ".html")
