"""Files that are complete or absent, what may be overwritten, digests, the journal of a resumable folder."""
