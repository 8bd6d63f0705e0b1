select
    cast('canvas' as varchar) as source,
    course_id,
    module_id,
    item_id,
    title,
    item_type,
    position,
    content_id,
    published
from {{ source('ol_warehouse_raw_data', 'raw__canvas__api__course_module_items') }}
