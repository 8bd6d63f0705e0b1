{{ config(
    description="Per course, the mart's counts are those of the dimension, and its columns by type add up.",
    meta={'dagster': {'ref': {'name': 'marts__course_catalog'}}},
) }}
with dimension as (
    select
        course_key,
        count(*) as content_count
    from {{ ref('dim_course_content') }}
    group by course_key
)

select
    mart.course_key,
    mart.content_count,
    mart.block_counts
from {{ ref('marts__course_catalog') }} as mart
left join dimension on dimension.course_key = mart.course_key
where
    mart.content_count <> coalesce(dimension.content_count, 0)
    or mart.content_count <> mart.{{ content_type_counts().keys() | join(' + mart.') }} + mart.other_count
