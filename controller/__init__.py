"""The controller: the only decider and the only writer of the ledger."""
