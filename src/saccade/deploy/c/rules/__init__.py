"""How operations are written in C, a file a group."""
