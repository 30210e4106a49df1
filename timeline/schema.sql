-- The tables of the timeline. Columns are the fields of timeline/rows.py, in their order; a test compares them.
-- Everything here can be deleted and made again from the ledger. No keys and no indexes: the position in the same
-- transaction is what keeps a row from coming twice.

CREATE TABLE IF NOT EXISTS ingest_position (
  stream VARCHAR NOT NULL, created TIMESTAMP NOT NULL, last_seq UBIGINT NOT NULL, last_idx INTEGER NOT NULL,
  last_sha256 VARCHAR NOT NULL, rolling_hash VARCHAR NOT NULL,
  events UBIGINT NOT NULL, unknown_types UBIGINT NOT NULL, dead_letters UBIGINT NOT NULL,
  schema_hash VARCHAR NOT NULL);
CREATE TABLE IF NOT EXISTS ingest_heads (subject VARCHAR NOT NULL, seq UBIGINT NOT NULL, sha256 VARCHAR NOT NULL);
CREATE TABLE IF NOT EXISTS dead_letter (seq UBIGINT NOT NULL, subject VARCHAR, stored_at TIMESTAMP, error VARCHAR, data BLOB);

CREATE TABLE IF NOT EXISTS events (
  seq UBIGINT NOT NULL, idx INTEGER NOT NULL, occurred_at TIMESTAMP NOT NULL, stored_at TIMESTAMP NOT NULL, project VARCHAR NOT NULL,
  orchestration VARCHAR, phase VARCHAR, task BIGINT, run VARCHAR, attempt BIGINT, node VARCHAR, "action" VARCHAR, category VARCHAR NOT NULL,
  "type" VARCHAR NOT NULL, principal VARCHAR, via VARCHAR, key_hash VARCHAR, status VARCHAR, reason_code VARCHAR, revision BIGINT,
  duration_ms DOUBLE, summary VARCHAR NOT NULL, payload JSON NOT NULL);

CREATE TABLE IF NOT EXISTS actions (
  seq UBIGINT NOT NULL, idx INTEGER NOT NULL, id VARCHAR NOT NULL, "type" VARCHAR NOT NULL, project VARCHAR NOT NULL, orchestration VARCHAR,
  design VARCHAR, ticket VARCHAR, node VARCHAR, task VARCHAR, requested_by VARCHAR NOT NULL, via VARCHAR NOT NULL, key_hash VARCHAR NOT NULL,
  reason VARCHAR, status VARCHAR NOT NULL, reason_code VARCHAR, message VARCHAR NOT NULL, revision BIGINT, received_at TIMESTAMP NOT NULL,
  accepted_at TIMESTAMP, completed_at TIMESTAMP, accept_ms DOUBLE, complete_ms DOUBLE, total_ms DOUBLE);

CREATE TABLE IF NOT EXISTS orchestrations (
  seq UBIGINT NOT NULL, idx INTEGER NOT NULL, id VARCHAR NOT NULL, project VARCHAR NOT NULL, design VARCHAR NOT NULL, design_revision BIGINT NOT NULL,
  feature VARCHAR NOT NULL, slug VARCHAR NOT NULL, branch VARCHAR NOT NULL, node VARCHAR NOT NULL, preset_origin VARCHAR NOT NULL,
  policy_hash VARCHAR NOT NULL, total_phases BIGINT NOT NULL, design_only BOOLEAN NOT NULL, tickets BIGINT NOT NULL, requested_by VARCHAR,
  "action" VARCHAR, launched_at TIMESTAMP NOT NULL, status VARCHAR NOT NULL, phase VARCHAR, hold VARCHAR, holds VARCHAR NOT NULL,
  repairs BIGINT NOT NULL, attempts BIGINT NOT NULL, tokens BIGINT NOT NULL, usd DECIMAL(12,6), reason_code VARCHAR, message VARCHAR NOT NULL,
  ready_at TIMESTAMP, ended_at TIMESTAMP, duration_ms DOUBLE, changed_at TIMESTAMP, policy_revision BIGINT NOT NULL);

CREATE TABLE IF NOT EXISTS phases (
  seq UBIGINT NOT NULL, idx INTEGER NOT NULL, project VARCHAR NOT NULL, orchestration VARCHAR NOT NULL, phase VARCHAR NOT NULL, status VARCHAR NOT NULL,
  revision BIGINT NOT NULL, tasks BIGINT NOT NULL, repairs BIGINT NOT NULL, verify VARCHAR, reason_code VARCHAR, message VARCHAR NOT NULL,
  started_at TIMESTAMP, ended_at TIMESTAMP, duration_ms DOUBLE);

CREATE TABLE IF NOT EXISTS tasks (
  seq UBIGINT NOT NULL, idx INTEGER NOT NULL, project VARCHAR NOT NULL, orchestration VARCHAR NOT NULL, phase VARCHAR NOT NULL, task BIGINT NOT NULL,
  subject VARCHAR NOT NULL, model VARCHAR, depends_on VARCHAR NOT NULL, status VARCHAR NOT NULL, revision BIGINT NOT NULL, attempts BIGINT NOT NULL,
  rejections BIGINT NOT NULL, base VARCHAR, head VARCHAR, reason_code VARCHAR, message VARCHAR NOT NULL, started_at TIMESTAMP, ended_at TIMESTAMP,
  duration_ms DOUBLE);

CREATE TABLE IF NOT EXISTS runs (
  seq UBIGINT NOT NULL, idx INTEGER NOT NULL, project VARCHAR NOT NULL, orchestration VARCHAR NOT NULL, phase VARCHAR, task BIGINT, run VARCHAR NOT NULL,
  attempt BIGINT NOT NULL, kind VARCHAR NOT NULL, "role" VARCHAR NOT NULL, model VARCHAR NOT NULL, reviewer VARCHAR, node VARCHAR NOT NULL,
  "action" VARCHAR, policy_revision BIGINT NOT NULL, queued_at TIMESTAMP NOT NULL, status VARCHAR NOT NULL, dispatched_at TIMESTAMP,
  started_at TIMESTAMP, ended_at TIMESTAMP, queue_ms DOUBLE, run_ms DOUBLE, counts BOOLEAN, reason_code VARCHAR, detail VARCHAR NOT NULL,
  exit_code BIGINT, signal BIGINT, agent VARCHAR, agent_model VARCHAR, head VARCHAR, input_tokens BIGINT NOT NULL, output_tokens BIGINT NOT NULL,
  usd DECIMAL(12,6));

CREATE TABLE IF NOT EXISTS gates (
  seq UBIGINT NOT NULL, idx INTEGER NOT NULL, project VARCHAR NOT NULL, orchestration VARCHAR NOT NULL, gate VARCHAR NOT NULL, phase VARCHAR,
  subject VARCHAR NOT NULL, opened_at TIMESTAMP NOT NULL, status VARCHAR NOT NULL, resolved_at TIMESTAMP, principal VARCHAR, "text" VARCHAR NOT NULL,
  wait_ms DOUBLE);

CREATE TABLE IF NOT EXISTS nodes (
  id VARCHAR NOT NULL, capacity BIGINT NOT NULL, labels JSON NOT NULL, agents JSON NOT NULL, cordoned BOOLEAN NOT NULL,
  registered_at TIMESTAMP NOT NULL, changed_at TIMESTAMP NOT NULL);

CREATE TABLE IF NOT EXISTS flags (flag VARCHAR NOT NULL, enabled BOOLEAN NOT NULL, principal VARCHAR, changed_at TIMESTAMP NOT NULL);

CREATE TABLE IF NOT EXISTS usage (
  seq UBIGINT NOT NULL, idx INTEGER NOT NULL, occurred_at TIMESTAMP NOT NULL, project VARCHAR NOT NULL, orchestration VARCHAR NOT NULL, phase VARCHAR,
  task BIGINT, run VARCHAR NOT NULL, attempt BIGINT NOT NULL, kind VARCHAR NOT NULL, "role" VARCHAR NOT NULL, node VARCHAR NOT NULL,
  model VARCHAR NOT NULL, input_tokens BIGINT NOT NULL, output_tokens BIGINT NOT NULL, usd DECIMAL(12,6), computed BOOLEAN NOT NULL);

COMMENT ON TABLE ingest_position IS 'how far the ledger was read: written in the same transaction as the rows';
COMMENT ON TABLE ingest_heads IS 'the newest ledger message of each project, with its hash';
COMMENT ON TABLE dead_letter IS 'ledger messages that did not decode, with their bytes';
COMMENT ON TABLE events IS 'every row of the ledger: each action and each event once, by position (seq, idx); category is action, run or event';
COMMENT ON TABLE actions IS 'every request, refused ones too, with its outcome and how long it took';
COMMENT ON TABLE orchestrations IS 'every launch: where it stands, when it was launched, ready and ended, what it cost';
COMMENT ON TABLE phases IS 'the phases of each orchestration, with repairs and what the check said';
COMMENT ON TABLE tasks IS 'the tasks of each phase, with attempts, rejections and their commits';
COMMENT ON TABLE runs IS 'one row for each attempt of a run: how long it waited, how long it ran, how it ended';
COMMENT ON TABLE gates IS 'every gate that was opened, who resolved it and how long it waited';
COMMENT ON TABLE nodes IS 'the nodes as they last described themselves';
COMMENT ON TABLE flags IS 'the feature flags as they stand';
COMMENT ON TABLE usage IS 'tokens and dollars of each attempt that reported them';

COMMENT ON COLUMN events.seq IS 'sequence of the ledger message; (seq, idx) is the position, printed seq.idx';
COMMENT ON COLUMN events.idx IS 'place of the row inside its message';
COMMENT ON COLUMN events.occurred_at IS 'when it was decided, by the clock of the controller';
COMMENT ON COLUMN events.stored_at IS 'when the ledger stored it, by the clock of the bus';
COMMENT ON COLUMN events.category IS 'action (requests and outcomes), run (what nodes reported) or event';
COMMENT ON COLUMN events.action IS 'the action that caused it';
COMMENT ON COLUMN events.principal IS 'who: an operator, a node, or controller';
COMMENT ON COLUMN events.via IS 'through which door: cli, console, mcp, api, node or timer';
COMMENT ON COLUMN events.key_hash IS 'SHA-256 of the idempotency key';
COMMENT ON COLUMN events.payload IS 'everything else, as the ledger has it';
COMMENT ON COLUMN actions.status IS 'refused, accepted (its outcome is still to come), completed or failed';
COMMENT ON COLUMN actions.received_at IS 'when the bus stored the command';
COMMENT ON COLUMN actions.completed_at IS 'when its outcome was recorded, good or bad';
COMMENT ON COLUMN actions.accept_ms IS 'from the command stored to its decision stored, both by the clock of the bus';
COMMENT ON COLUMN actions.complete_ms IS 'from accepted to its outcome, both by the clock of the controller';
COMMENT ON COLUMN actions.total_ms IS 'accept_ms + complete_ms';
COMMENT ON COLUMN orchestrations.hold IS 'the hold that is shown first';
COMMENT ON COLUMN orchestrations.holds IS 'all holds, comma-separated';
COMMENT ON COLUMN orchestrations.attempts IS 'how many attempts of runs were queued';
COMMENT ON COLUMN orchestrations.ready_at IS 'when its workspace was ready';
COMMENT ON COLUMN orchestrations.duration_ms IS 'from launched to ended';
COMMENT ON COLUMN orchestrations.changed_at IS 'when this row changed last';
COMMENT ON COLUMN orchestrations.policy_revision IS 'revision of the active policy; runs.policy_revision is the one that a run used';
COMMENT ON COLUMN phases.tasks IS 'how many tasks were planned, those of repairs too';
COMMENT ON COLUMN phases.verify IS 'what the check of the project said last: passed, failed or skipped';
COMMENT ON COLUMN tasks.depends_on IS 'numbers of tasks of the phase, comma-separated';
COMMENT ON COLUMN tasks.attempts IS 'how often it was started, before a retry too';
COMMENT ON COLUMN tasks.rejections IS 'how often a review sent it back';
COMMENT ON COLUMN tasks.duration_ms IS 'from first in progress to completed or skipped, reviews included';
COMMENT ON COLUMN runs.model IS 'the model that was asked for; agent_model is what the agent said it used';
COMMENT ON COLUMN runs.queue_ms IS 'from queued to started';
COMMENT ON COLUMN runs.run_ms IS 'how long its process ran, as the node measured it';
COMMENT ON COLUMN runs.counts IS 'whether it used up an attempt';
COMMENT ON COLUMN gates.status IS 'open, approved, rejected, or dropped because its orchestration ended first';
COMMENT ON COLUMN usage.computed IS 'the price is from a table and not from the agent';
