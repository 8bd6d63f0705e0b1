"""What the campus does out of the ordinary."""

from dataclasses import dataclass, field
from typing import Literal

MAPPED = dict[int, tuple[str, ...]]


@dataclass(slots=True)
class Behaviour:
    """Switches of a running campus; change them at any time, from any thread. Course ids of Canvas are numbers.

    Attributes:
        canvas_token: `expired` and `revoked` refuse the right token with Canvas's words for it.
        canvas_no_permission: Courses that the token may not read.
        canvas_permission_status: How Canvas refuses them: 403, or 401 in older releases.
        canvas_restricted: Courses of which the list shows only the id and `access_restricted_by_date`.
        canvas_files_hidden: Courses whose files and folders are refused.
        canvas_pages_disabled: Courses whose pages answer 404.
        canvas_states: States that an export's polls see in turn, the last one for ever; by course id.
        canvas_default_states: The same for every other course.
        canvas_no_attachment: Courses whose exports are `exported` without a file.
        canvas_request_cost: What a request costs against the quota of 600; None for a small cost by its size.
        canvas_throttle_status: 403, or 429.
        lms_token_lifetime_seconds: `expires_in` of new tokens.
        lms_overstated_count: How many more courses the list promises than it has; the page after the end is a 404.
        studio_states: States that an export task's polls see in turn, the last one for ever; by course id.
        studio_default_states: The same for every other course.
        studio_refused: Courses that the export request itself reports in `failed_uploads`, and the reason.
        studio_versions: Whether the plugin has `export/versions/` (since 0.4.0). Before 0.4.1 its route was not
            anchored: there a POST to any unknown path below it `exports` the courses named in it.
    """

    canvas_token: Literal["valid", "expired", "revoked"] = "valid"  # noqa: S105  # a state, not a token
    canvas_no_permission: set[int] = field(default_factory=set)
    canvas_permission_status: int = 403
    canvas_restricted: set[int] = field(default_factory=set)
    canvas_files_hidden: set[int] = field(default_factory=set)
    canvas_pages_disabled: set[int] = field(default_factory=set)
    canvas_states: MAPPED = field(default_factory=dict)
    canvas_default_states: tuple[str, ...] = ("exporting", "exported")
    canvas_no_attachment: set[int] = field(default_factory=set)
    canvas_request_cost: float | None = None
    canvas_throttle_status: int = 403
    lms_token_lifetime_seconds: int = 3600
    lms_overstated_count: int = 0
    studio_states: dict[str, tuple[str, ...]] = field(default_factory=dict)
    studio_default_states: tuple[str, ...] = ("Pending", "In Progress", "Succeeded")
    studio_refused: dict[str, str] = field(default_factory=dict)
    studio_versions: Literal["present", "absent", "exports"] = "present"
