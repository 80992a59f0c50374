"""The operations of a program, a file each with their rules: what becomes of which module or operation of torch."""
