"""The architectures, one file each; a file's name is the architecture's."""
