select
    cast('canvas' as varchar) as source,
    course_id,
    item_id,
    item_type,
    title,
    path,
    workflow_state,
    coalesce(workflow_state, 'active') not in ('unpublished', 'locked', 'deleted') as is_published,
    module_id,
    module_title,
    module_position,
    position,
    size_bytes
from {{ source('ol_warehouse_raw_data', 'raw__canvas__cartridge__course_items') }}
