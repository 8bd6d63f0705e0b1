select
    cast('canvas' as varchar) as source,
    course_id,
    name,
    course_code,
    sis_course_id,
    workflow_state,
    start_at,
    end_at,
    account_id,
    term_id
from {{ source('ol_warehouse_raw_data', 'raw__canvas__api__courses') }}
