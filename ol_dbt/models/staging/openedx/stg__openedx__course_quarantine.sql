{{ union_openedx_deployments('course_quarantine', [
    'course_id',
    'path',
    'line',
    'reason',
    'detail',
    'size_bytes',
]) }}
