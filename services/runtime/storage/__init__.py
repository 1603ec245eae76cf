"""Object storage: one protocol, a folder and S3 behind it. Knows nothing of Kafka."""
