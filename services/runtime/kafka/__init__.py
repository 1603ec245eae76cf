"""Everything that talks to Kafka; the only place that imports confluent_kafka."""
