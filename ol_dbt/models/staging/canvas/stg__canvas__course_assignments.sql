select
    cast('canvas' as varchar) as source,
    course_id,
    assignment_id,
    name,
    points_possible,
    due_at,
    published,
    submission_types
from {{ source('ol_warehouse_raw_data', 'raw__canvas__api__course_assignments') }}
