{{ union_openedx_deployments('course_policy', [
    'course_id',
    'run',
    'kind',
    'path',
    'is_current',
    'content',
]) }}
