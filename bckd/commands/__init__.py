"""The command line `bckd`: one file a command."""
