"""Who runs the shards: processes on this machine, or (an extra) a Ray cluster."""
