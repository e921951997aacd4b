"""The commands of the command line: a file for each kind of run, and what they share."""
