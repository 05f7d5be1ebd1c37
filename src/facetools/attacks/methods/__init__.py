"""The attacks, one file each; a file's name is the attack's."""
