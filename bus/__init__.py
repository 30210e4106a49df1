"""The bus: the only code that imports nats."""
