select
    cast('canvas' as varchar) as source,
    course_id,
    path,
    size_bytes,
    crc32,
    content_type
from {{ source('ol_warehouse_raw_data', 'raw__canvas__cartridge__course_files') }}
