{#- md5 in lower case hex over text columns that are never null, told apart by the unit separator. -#}
{% macro hash_key(columns) -%}
    {{ dbt.hash(columns | join(" || chr(31) || ")) }}
{%- endmacro %}
