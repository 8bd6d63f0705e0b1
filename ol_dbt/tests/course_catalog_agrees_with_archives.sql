{{ config(
    description="Per Open edX course, the mart's counts are those that the reading of the archive stated.",
    meta={'dagster': {'ref': {'name': 'marts__course_catalog'}}},
) }}
select
    archives.source,
    archives.course_id
from {{ ref('stg__openedx__course_metadata') }} as archives
left join {{ ref('marts__course_catalog') }} as mart
    on
        mart.platform = 'openedx'
        and mart.source = archives.source
        and mart.course_id = archives.course_id
where
    mart.course_key is null
    or mart.content_count <> archives.block_count
    or mart.orphan_count <> archives.orphan_block_count
    or mart.draft_count <> archives.draft_block_count
    or mart.video_count <> archives.video_count
    or mart.file_count <> archives.static_file_count
    or mart.file_bytes <> archives.static_bytes
    or mart.quarantined_count <> archives.quarantined_count
