import sys
from tests.simulation.schedule import generate
from tests.simulation.world import play
import time

for seed in range(int(sys.argv[1]), int(sys.argv[2])):
    t = time.time()
    r = play(generate(seed), print if len(sys.argv) > 3 else None)
    print(seed, r.hash, r.steps, r.virtual_s, r.decisions, r.starts, r.calls, dict(r.faults), f"{time.time() - t:.2f}s")
    for v in r.violations[:12]:
        print("   !!", v)
    if r.violations:
        print(r.dump)
