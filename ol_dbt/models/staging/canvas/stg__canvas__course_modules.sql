select
    cast('canvas' as varchar) as source,
    course_id,
    module_id,
    name,
    position,
    published,
    items_count
from {{ source('ol_warehouse_raw_data', 'raw__canvas__api__course_modules') }}
