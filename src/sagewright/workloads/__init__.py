"""What controllers and backends share: the workload, what is seen of it, and the backend contract."""
