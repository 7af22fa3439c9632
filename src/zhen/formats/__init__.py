"""What lies on disk: stages and records, documents, shards, metrics, and the ways to write files safely."""
