{#- Every row that any deployment has in raw is in the union.

    Fails for a deployment whose rows are missing or doubled, and for one whose raw table exists although the var
    openedx_deployments does not name it. -#}
{% test union_is_complete(model) %}
{%- set kind = model.identifier.split('__') | last -%}
{%- set tables = [] -%}
{%- if execute -%}
    {%- for table in graph.sources.values() if table.name.endswith('__openedx__' ~ kind) -%}
        {%- do tables.append(table) -%}
    {%- endfor -%}
    {%- if not tables -%}
        {{ exceptions.raise_compiler_error('no source table ends in __openedx__' ~ kind ~ '; this test would check nothing') }}
    {%- endif -%}
{%- endif %}
with union_rows as (
    select
        source,
        count(*) as row_count
    from {{ model }}
    group by source
)
{% for table in tables %}
select
    cast('{{ table.name }}' as varchar) as raw_table,
    cast('rows in raw and in the union differ' as varchar) as problem
from (select count(*) as row_count from {{ table.relation_name }}) as raw_rows
left join union_rows on union_rows.source = '{{ table.name.split('__')[1] }}'
where raw_rows.row_count <> coalesce(union_rows.row_count, 0)
union all
{% endfor -%}
select
    cast(table_name as varchar) as raw_table,
    cast('its deployment is not in the var openedx_deployments' as varchar) as problem
from information_schema.tables
where
    table_schema = 'ol_warehouse_raw_data'
    and split_part(table_name, '__', 3) = 'openedx'
    and split_part(table_name, '__', 4) = '{{ kind }}'
    and split_part(table_name, '__', 2) not in ('{{ var('openedx_deployments') | join("', '") }}')
{% endtest %}
