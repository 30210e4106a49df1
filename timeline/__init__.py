"""The timeline: the ledger in DuckDB; the only process that opens the file."""
