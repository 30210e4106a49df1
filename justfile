# what a developer runs; `just` lists it

default: check test

# lint, format, types
check:
    uv run ruff check .
    uv run ruff format --check .
    uv run mypy

# all tests
test:
    uv run pytest -n 3 --dist loadfile

# every branch of every pure module, or what is left
coverage:
    uv run python -m tests.pure_coverage

# mutants of the core, as JSON by module; `just mutation --sample 1000` is quicker
mutation *arguments:
    uv run --with mutmut==3.8.1 python -m tests.mutation {{ arguments }}

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

# the ring under simulated faults, 100,000 seeds of it; `just sim --minutes 10` for less
sim *options:
    uv run python -m tests.simulation --seeds 100000 --jobs 2 {{options}}

# random faults on a whole installation of real processes, then a verdict; `just chaos --minutes 30`, `just chaos --failpoints`
chaos *options:
    uv run python -m tests.chaos.driver {{options}}

# every figure of trust, measured again and written to scorecard.json; `just scorecard --quick` takes minutes instead of hours
scorecard *options:
    uv run --with mutmut==3.8.1 python -m tests.scorecard {{options}}
