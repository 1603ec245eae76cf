"""Everything about ffmpeg: where it is, how it is started, what it is told, what it answers. Knows nothing of jobs or Kafka."""
