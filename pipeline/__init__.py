"""The conveyor: parameters, shards, resume, executors, engines. Knows nothing of validity."""
