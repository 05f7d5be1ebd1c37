"""Running a command: the app and its exit codes, shared options, man pages, progress."""
