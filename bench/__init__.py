"""The bench: `python -m bench` measures figure A and prints one JSON document. See docs/performance.md."""
