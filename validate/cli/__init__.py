"""The command `waterlevel`: one file a command, which parses, calls and prints."""
