"""The verbs, one noun a file. Each is imported when it is called."""
