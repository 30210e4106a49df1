"""A simulation of the house: the real services on a virtual clock, a simulated network and a simulated nats-server.

The substrate and how to use it::

    async def main(loop: SimLoop) -> None:
        network = Network(loop)                              # link.py: latency, cuts, resets
        server = SimServer(network, ServerDials())           # jetstream.py
        server.start()
        host = SimHost(loop, network, "controller-1", skew_s=0.2, data=folder)
        task = host.run(controller.service.serve(ControllerConfig(server="nats://sim", owner="c1")))
        ...
    simulate(main, seed)                                     # loop.py: returns what main returns

- **Loop**: `simulate(main, seed, shuffle=True, steps_max=..., virtual_s_max=...)`. `loop.rng` is the one source of chance, `loop.time()`
  the virtual time, `loop.steps` and `loop.digest` tell two runs apart, `loop.failures` holds what nobody caught. Raises Deadlock, Runaway,
  and Forbidden where something asks for a thread. `asyncio.sleep` and anyio work as ever.
- **Host**: one process on one machine, found by the services in `bus.host.current`. `run(coroutine)` starts something on it. A crash:
  `await host.kill()` from outside, `host.die_here()` from inside (a failpoint's observer: it raises Killed; somebody else then awaits
  `host.buried()`). From the crash on nothing has an effect: clients raise ConnectionClosedError at once and send nothing, `sync` raises OSError,
  and the files under `data` are put back to what they were at the crash when `buried` returns. With `power=True` the server is not told (it
  finds out by its pings, after minutes) and what was written to a file after its last `sync` is cut off at a seeded place. After that a new
  SimHost of the same name and folder is the new process. `skew_s` may be changed at any time. What a test's own code must not do once the
  process is dead, it guards by `host.alive`.
- **Network**: `cut(name)` (both ways, or one: `to_server=False` / `from_server=False`), `heal(name)`, `reset(name)`; `dials.latency_s`,
  `dials.slow_chance`, `dials.slow_s`. During a cut nothing is lost: it arrives after the heal, also what a client sent on a connection that it has
  given up meanwhile. Each direction of each connection is in order; connections are not ordered among each other.
- **Server**: `kill()` / `start()`: streams and consumers in memory are gone, durable ones keep their place and what waits for an ack; of what was
  being written (`dials.disk_s`) a seeded part is stored without an answer (none with `power=True`); what happened to a consumer in the last
  moments (up to `dials.state_lag_s`) is undone: acks are forgotten, deliveries too. `dials.lost_puback_chance`: stored, not answered;
  `dials.duplicate_chance`: an ack is lost. `skew_s`: its clock. `stored(stream)` gives what a stream holds.

How far the server can be believed: `python -m tests.simulation.differential --sequences 10000` plays random sequences on it and on a real
nats-server through the same code and compares the answers. Known to be different, and nothing in the house depends on it:

- left out: accounts and permissions, TLS, clusters and replicas (so no 10164), mirrors, roll-up, message TTL, `max_deliver`, back-off, rate limits,
  limits of the whole store, slow consumers, purging with `keep`, the code of a refused delete by sequence;
- the first sequence of an empty stream depends on how the real store came to be empty;
- messages that are due again at the same time come in the order of their sequences; the real server may put one last whose first taker was gone;
- a real server counts `num_pending` wrong after a consumer's filters were changed, and may show the old configuration in the answer to an update;
- of a consumer's position only what was delivered, what waits for an ack and what is still to come is compared, not the sequences that it skipped.
"""
