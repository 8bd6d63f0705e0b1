{{ union_openedx_deployments('course_runs', [
    'course_id',
    'name',
    'org',
    'number',
    'run',
    'start_at',
    'end_at',
    'enrollment_start_at',
    'enrollment_end_at',
    'pacing',
    'is_hidden',
    'version',
]) }}
