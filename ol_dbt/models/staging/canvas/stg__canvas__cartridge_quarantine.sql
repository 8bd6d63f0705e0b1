select
    cast('canvas' as varchar) as source,
    course_id,
    path,
    line,
    reason,
    detail,
    size_bytes
from {{ source('ol_warehouse_raw_data', 'raw__canvas__cartridge__course_quarantine') }}
