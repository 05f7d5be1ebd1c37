"""What runs the work of a command: this process, or a Ray cluster."""
