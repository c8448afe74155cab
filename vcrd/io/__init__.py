"""Files: atomic writes, Parquet shards, manifests, locks, progress."""
