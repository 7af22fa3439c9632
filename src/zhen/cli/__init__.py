"""The command line: verbs in groups, each loaded when it is called."""
