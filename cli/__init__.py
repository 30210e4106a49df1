"""The command line `qd`."""
