"""The console: the web page where operators work."""
