"""A folder of shards: who makes which, what each was made of, and all of them as one."""
