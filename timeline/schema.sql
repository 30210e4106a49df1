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
  ready_at TIMESTAMP, ended_at TIMESTAMP, duration_ms DOUBLE, changed_at TIMESTAMP);

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
