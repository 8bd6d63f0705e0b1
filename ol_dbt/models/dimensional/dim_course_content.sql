with content as (
    select
        cast('openedx' as varchar) as platform,
        source,
        course_id,
        block_id as content_id,
        block_type as content_type,
        display_name as title,
        parent_block_id as parent_content_id,
        block_index as position,
        depth,
        true as is_published
    from {{ ref('stg__openedx__course_blocks') }}
    where state = 'published'

    union all

    select
        cast('canvas' as varchar) as platform,
        source,
        course_id,
        item_id as content_id,
        item_type as content_type,
        title,
        case when item_type = 'module' then null else module_id end as parent_content_id,
        case when item_type = 'module' then module_position else position end as position,
        cast(case when item_type = 'module' or module_id is null then 1 else 2 end as bigint) as depth,
        is_published
    from {{ ref('stg__canvas__cartridge_items') }}
)

select
    {{ hash_key(['platform', 'source', 'course_id', 'content_id']) }} as content_key,
    {{ hash_key(['platform', 'source', 'course_id']) }} as course_key,
    platform,
    source,
    course_id,
    content_id,
    content_type,
    title,
    parent_content_id,
    position,
    depth,
    is_published
from content
