"""The command line: one file a group of commands; it composes the rest of the house."""
