{{ config(
    description="The parent of a published Open edX block is a published block of the same course.",
    meta={'dagster': {'ref': {'name': 'dim_course_content'}}},
) }}
select
    child.content_key,
    child.parent_content_id
from {{ ref('dim_course_content') }} as child
left join {{ ref('dim_course_content') }} as parent
    on parent.course_key = child.course_key and parent.content_id = child.parent_content_id
where
    child.platform = 'openedx'
    and child.parent_content_id is not null
    and parent.content_key is null
