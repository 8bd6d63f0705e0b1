{{ union_openedx_deployments('course_static_assets_manifest', [
    'course_id',
    'path',
    'size_bytes',
    'sha256',
    'content_type',
]) }}
