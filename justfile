# what a developer runs; `just` lists it

default: check test

# lint, format, types
check:
    uv run ruff check .
    uv run ruff format --check .
    uv run mypy

# all tests
test:
    uv run pytest

# the ring, once, with a report
demo:
    uv run qd demo

# figures as JSON
bench:
    uv run python -m bench

# pages that are made from the code
docs:
    uv run python docs/draw_states.py
    uv run python docs/draw_reason_codes.py
