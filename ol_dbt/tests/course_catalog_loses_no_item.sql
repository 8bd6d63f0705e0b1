{{ config(
    description="Over both systems, content, orphans and drafts of the mart are all the rows that raw holds.",
    meta={'dagster': {'ref': {'name': 'marts__course_catalog'}}},
) }}
with raw_rows as (
    select cast('openedx' as varchar) as platform, count(*) as row_count from {{ ref('stg__openedx__course_blocks') }}
    union all
    select cast('canvas' as varchar) as platform, count(*) as row_count from {{ ref('stg__canvas__cartridge_items') }}
),

catalog_rows as (
    select
        platform,
        sum(content_count + orphan_count + draft_count) as row_count
    from {{ ref('marts__course_catalog') }}
    group by platform
)

select
    raw_rows.platform,
    raw_rows.row_count
from raw_rows
left join catalog_rows on catalog_rows.platform = raw_rows.platform
where raw_rows.row_count <> coalesce(catalog_rows.row_count, 0)
