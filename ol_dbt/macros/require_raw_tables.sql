{#- Stops a run before its first model where a selected model reads a raw table that nothing has written yet. -#}
{% macro require_raw_tables() -%}
{%- if execute and flags.WHICH in ('build', 'run', 'test') -%}
    {%- set missing = [] -%}
    {%- for unique_id in selected_resources if unique_id in graph.nodes -%}
        {%- for parent in graph.nodes[unique_id].depends_on.nodes if parent in graph.sources -%}
            {%- set table = graph.sources[parent] -%}
            {%- if table.name not in missing
                and not adapter.get_relation(table.database, table.schema, table.identifier) -%}
                {%- do missing.append(table.name) -%}
            {%- endif -%}
        {%- endfor -%}
    {%- endfor -%}
    {%- if missing -%}
        {%- set lines = [] -%}
        {%- for name in missing | sort -%}
            {%- do lines.append('  ' ~ name ~ ': materialize the asset ol_warehouse_raw_data/' ~ name) -%}
        {%- endfor -%}
        {{ exceptions.raise_compiler_error(
            (missing | length) ~ ' raw table(s) do not exist in ' ~ target.name ~ ':\n' ~ lines | join('\n')
        ) }}
    {%- endif -%}
{%- endif -%}
{%- endmacro %}
