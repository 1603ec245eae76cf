"""What every service stands on: jobs, Kafka, storage, media, telemetry, settings. Imports no service."""
