select
    cast('canvas' as varchar) as source,
    course_id,
    file_id,
    folder_path,
    display_name,
    filename,
    content_type,
    size_bytes,
    locked,
    hidden,
    updated_at
from {{ source('ol_warehouse_raw_data', 'raw__canvas__api__course_files') }}
