{#- The logical schema, after the base that the environment states for Trino; asset keys have no base. -#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {%- set base = env_var('OL_TRINO_SCHEMA_BASE', '') if target.type == 'trino' else '' -%}
    {{ [base, (custom_schema_name or 'main') | trim] | select | join('_') }}
{%- endmacro %}
