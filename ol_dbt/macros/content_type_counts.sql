{#- Column of marts__course_catalog to the content types it counts; whatever is not named here is in other_count. -#}
{% macro content_type_counts() -%}
{{ return({
    'chapter_count': ['chapter'],
    'sequential_count': ['sequential'],
    'vertical_count': ['vertical'],
    'html_count': ['html'],
    'problem_count': ['problem'],
    'video_count': ['video'],
    'open_assessment_count': ['openassessment'],
    'module_count': ['module'],
    'page_count': ['page'],
    'assignment_count': ['assignment'],
    'quiz_count': ['quiz'],
    'announcement_count': ['announcement'],
    'weblink_count': ['weblink'],
    'file_item_count': ['file'],
    'discussion_count': ['discussion'],
    'lti_count': ['lti', 'lti_consumer'],
}) }}
{%- endmacro %}
