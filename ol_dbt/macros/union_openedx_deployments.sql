{#- One raw kind of every Open edX deployment, with the deployment's name as `source`.

    kind: end of the table's name, such as course_blocks.
    columns: the columns to read, in order. -#}
{% macro union_openedx_deployments(kind, columns) -%}
{%- set deployments = var('openedx_deployments') -%}
{%- if not deployments -%}
    {{ exceptions.raise_compiler_error("the var openedx_deployments is empty; name at least one Open edX deployment") }}
{%- endif -%}
{%- for deployment in deployments %}
select
    cast('{{ deployment }}' as varchar) as source,
    {{ columns | join(',\n    ') }}
from {{ source('ol_warehouse_raw_data', 'raw__' ~ deployment ~ '__openedx__' ~ kind) }}
{%- if not loop.last %}
union all
{%- endif %}
{%- endfor %}
{%- endmacro %}
