{{ union_openedx_deployments('course_video', [
    'course_id',
    'block_id',
    'url_name',
    'display_name',
    'state',
    'edx_video_id',
    'youtube_id',
    'duration_seconds',
    'html5_sources',
    'transcripts',
    'encoded_videos',
]) }}
