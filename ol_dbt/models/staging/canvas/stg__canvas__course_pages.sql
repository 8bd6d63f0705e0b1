select
    cast('canvas' as varchar) as source,
    course_id,
    page_id,
    url,
    title,
    published,
    front_page,
    updated_at
from {{ source('ol_warehouse_raw_data', 'raw__canvas__api__course_pages') }}
