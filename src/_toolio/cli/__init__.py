"""Running a command: the app and its exit codes, shared options, progress, charts."""
