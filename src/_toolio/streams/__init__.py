"""What flows in and out of a command: inputs, shards, records."""
