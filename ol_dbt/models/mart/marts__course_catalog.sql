{#- Each measure is summed to one row per course before it is joined, so that no join can double it. -#}
{%- set counts = content_type_counts() -%}
with courses as (
    select
        cast('openedx' as varchar) as platform,
        coalesce(runs.source, archives.source) as source,
        coalesce(runs.course_id, archives.course_id) as course_id,
        coalesce(runs.name, archives.display_name) as course_title,
        coalesce(runs.org, archives.org) as org,
        coalesce(runs.number, archives.course) as course_number,
        coalesce(runs.run, archives.run) as run,
        cast(null as varchar) as course_code,
        coalesce(runs.start_at, archives.start_at) as start_at,
        coalesce(runs.end_at, archives.end_at) as end_at
    from {{ ref('stg__openedx__course_runs') }} as runs
    full outer join {{ ref('stg__openedx__course_metadata') }} as archives
        on archives.source = runs.source and archives.course_id = runs.course_id

    union all

    select
        cast('canvas' as varchar) as platform,
        source,
        course_id,
        name as course_title,
        cast(null as varchar) as org,
        cast(null as varchar) as course_number,
        cast(null as varchar) as run,
        course_code,
        start_at,
        end_at
    from {{ ref('stg__canvas__courses') }}
),

content as (
    select
        platform,
        source,
        course_id,
        count(*) as content_count,
        count(*) filter (where not is_published) as unpublished_count,
        {%- for column, types in counts.items() %}
        count(*) filter (where content_type in ('{{ types | join("', '") }}')) as {{ column }},
        {%- endfor %}
        count(*) filter (where content_type not in ('{{ counts.values() | sum(start=[]) | join("', '") }}')) as other_count
    from {{ ref('dim_course_content') }}
    group by platform, source, course_id
),

content_by_type as (
    select
        platform,
        source,
        course_id,
        content_type,
        count(*) as content_count
    from {{ ref('dim_course_content') }}
    group by platform, source, course_id, content_type
),

block_counts as (
    select
        platform,
        source,
        course_id,
        {{ dbt.listagg("content_type || '=' || cast(content_count as varchar)", "';'", "order by content_type") }} as block_counts
    from content_by_type
    group by platform, source, course_id
),

left_out as (
    select
        cast('openedx' as varchar) as platform,
        source,
        course_id,
        count(*) filter (where state = 'orphan') as orphan_count,
        count(*) filter (where state = 'draft') as draft_count
    from {{ ref('stg__openedx__course_blocks') }}
    where state <> 'published'
    group by source, course_id
),

videos as (
    select
        cast('openedx' as varchar) as platform,
        source,
        course_id,
        round(sum(duration_seconds) / 3600e0, 6) as video_hours
    from {{ ref('stg__openedx__course_video') }}
    where state = 'published'
    group by source, course_id
),

files as (
    select
        cast('openedx' as varchar) as platform,
        source,
        course_id,
        count(*) as file_count,
        cast(sum(size_bytes) as bigint) as file_bytes
    from {{ ref('stg__openedx__course_static_assets_manifest') }}
    group by source, course_id

    union all

    select
        cast('canvas' as varchar) as platform,
        source,
        course_id,
        count(*) as file_count,
        cast(sum(size_bytes) as bigint) as file_bytes
    from {{ ref('stg__canvas__cartridge_files') }}
    group by source, course_id
),

quarantine as (
    select
        cast('openedx' as varchar) as platform,
        source,
        course_id,
        count(*) as quarantined_count
    from {{ ref('stg__openedx__course_quarantine') }}
    group by source, course_id

    union all

    select
        cast('canvas' as varchar) as platform,
        source,
        course_id,
        count(*) as quarantined_count
    from {{ ref('stg__canvas__cartridge_quarantine') }}
    group by source, course_id
),

-- A course that only an archive or only a quarantine knows is a course as well.
course_keys as (
    {%- for relation in ['courses', 'content', 'left_out', 'files', 'quarantine'] %}
    select platform, source, course_id from {{ relation }}
    {%- if not loop.last %}
    union
    {%- endif %}
    {%- endfor %}
)

select
    {{ hash_key(['course_keys.platform', 'course_keys.source', 'course_keys.course_id']) }} as course_key,
    course_keys.platform,
    course_keys.source,
    course_keys.course_id,
    courses.course_title,
    courses.org,
    courses.course_number,
    courses.run,
    courses.course_code,
    courses.start_at,
    courses.end_at,
    coalesce(content.content_count, 0) > 0 as has_content,
    coalesce(content.content_count, 0) as content_count,
    {%- for column in counts %}
    coalesce(content.{{ column }}, 0) as {{ column }},
    {%- endfor %}
    coalesce(content.other_count, 0) as other_count,
    coalesce(block_counts.block_counts, '') as block_counts,
    coalesce(videos.video_hours, 0e0) as video_hours,
    coalesce(files.file_count, 0) as file_count,
    coalesce(files.file_bytes, 0) as file_bytes,
    coalesce(left_out.orphan_count, 0) as orphan_count,
    coalesce(left_out.draft_count, 0) as draft_count,
    coalesce(content.unpublished_count, 0) as unpublished_count,
    coalesce(quarantine.quarantined_count, 0) as quarantined_count
from course_keys
{%- for relation in ['courses', 'content', 'block_counts', 'left_out', 'videos', 'files', 'quarantine'] %}
left join {{ relation }}
    on
        {{ relation }}.platform = course_keys.platform
        and {{ relation }}.source = course_keys.source
        and {{ relation }}.course_id = course_keys.course_id
{%- endfor %}
