-- Names for answers: views and macros over the tables of schema.sql. Times are UTC; a bound that is NULL is no bound;
-- `until` is exclusive. Nothing is divided by zero: NULL means that there are no such rows.

CREATE OR REPLACE MACRO within(t, since, until) AS
  (since IS NULL OR t >= since::TIMESTAMP) AND (until IS NULL OR t < until::TIMESTAMP);
CREATE OR REPLACE MACRO rate(good, bad) AS round(good / nullif(good + bad, 0), 4);
CREATE OR REPLACE MACRO utc_now() AS (now() AT TIME ZONE 'UTC')::TIMESTAMP;

-- ── launches ────────────────────────────────────────────────────────────────────────────────────────────────────────
CREATE OR REPLACE VIEW launches AS
SELECT a.id AS action, a.project, coalesce(o.design, a.design) AS design, a.orchestration, coalesce(o.node, a.node) AS node, o.preset_origin AS preset,
  a.requested_by, a.received_at, a.status AS action_status, a.reason_code, o.status AS orchestration_status, a.accept_ms, a.complete_ms, o.duration_ms
FROM actions a LEFT JOIN orchestrations o ON o.id = a.orchestration
WHERE a.type = 'launch';

CREATE OR REPLACE MACRO launch_success(since := NULL, until := NULL, bucket := NULL) AS TABLE
SELECT b AS bucket, count(action) AS requested,
  count(*) FILTER (action_status = 'completed') AS completed, count(*) FILTER (action_status = 'failed') AS failed,
  count(*) FILTER (action_status = 'accepted') AS pending, count(*) FILTER (action_status = 'refused') AS refused,
  rate(count(*) FILTER (action_status = 'completed'), count(*) FILTER (action_status = 'failed')) AS launch_success_rate,
  count(*) FILTER (orchestration_status = 'complete') AS orchestrations_complete,
  count(*) FILTER (orchestration_status = 'failed') AS orchestrations_failed,
  count(*) FILTER (orchestration_status = 'cancelled') AS orchestrations_cancelled,
  count(*) FILTER (orchestration_status NOT IN ('complete', 'failed', 'cancelled')) AS orchestrations_live,
  rate(count(*) FILTER (orchestration_status = 'complete'), count(*) FILTER (orchestration_status = 'failed')) AS orchestration_success_rate,
  round(quantile_cont(duration_ms, 0.5) FILTER (orchestration_status = 'complete'), 1) AS complete_p50_ms
FROM (SELECT *, CASE WHEN bucket IS NULL THEN NULL ELSE time_bucket(bucket::INTERVAL, received_at) END AS b
      FROM launches WHERE within(received_at, since, until))
GROUP BY GROUPING SETS ((b), ())
HAVING (grouping(b) = 1) = (bucket IS NULL)
ORDER BY 1;

CREATE OR REPLACE MACRO launch_success_by(field, since := NULL, until := NULL) AS TABLE
SELECT g AS "group", count(*) AS requested,
  count(*) FILTER (action_status = 'completed') AS completed, count(*) FILTER (action_status = 'failed') AS failed,
  count(*) FILTER (action_status = 'accepted') AS pending, count(*) FILTER (action_status = 'refused') AS refused,
  rate(count(*) FILTER (action_status = 'completed'), count(*) FILTER (action_status = 'failed')) AS launch_success_rate,
  count(*) FILTER (orchestration_status = 'complete') AS orchestrations_complete,
  count(*) FILTER (orchestration_status = 'failed') AS orchestrations_failed,
  rate(count(*) FILTER (orchestration_status = 'complete'), count(*) FILTER (orchestration_status = 'failed')) AS orchestration_success_rate
FROM (SELECT *, CASE field WHEN 'project' THEN project WHEN 'design' THEN design WHEN 'node' THEN node WHEN 'preset' THEN preset
        WHEN 'requested_by' THEN requested_by ELSE error('launches can be told apart by project, design, node, preset or requested_by') END AS g
      FROM launches WHERE within(received_at, since, until))
GROUP BY 1 ORDER BY 2 DESC, 1;

-- ── latency ─────────────────────────────────────────────────────────────────────────────────────────────────────────
CREATE OR REPLACE VIEW latencies AS
SELECT 'received_to_accepted' AS stage, type, project, node, received_at AS since_at, accept_ms AS ms FROM actions WHERE accept_ms IS NOT NULL
UNION ALL
SELECT 'accepted_to_completed', type, project, node, received_at, complete_ms FROM actions WHERE status = 'completed'
UNION ALL
SELECT 'received_to_completed', type, project, node, received_at, total_ms FROM actions WHERE status = 'completed'
UNION ALL
SELECT 'queued_to_started', 'run', project, node, queued_at, queue_ms FROM runs WHERE queue_ms IS NOT NULL;

CREATE OR REPLACE MACRO action_latency(since := NULL, until := NULL) AS TABLE
SELECT type, stage, count(*) AS count, round(quantile_cont(ms, 0.5), 1) AS p50_ms, round(quantile_cont(ms, 0.95), 1) AS p95_ms,
  round(quantile_cont(ms, 0.99), 1) AS p99_ms, round(max(ms), 1) AS max_ms
FROM latencies WHERE within(since_at, since, until)
GROUP BY type, stage
ORDER BY type = 'run', type, list_position(['received_to_accepted', 'accepted_to_completed', 'received_to_completed'], stage);

CREATE OR REPLACE MACRO action_latency_by(field, since := NULL, until := NULL) AS TABLE
SELECT CASE field WHEN 'project' THEN project WHEN 'node' THEN node WHEN 'day' THEN strftime(since_at, '%Y-%m-%d')
    ELSE error('latency can be told apart by project, node or day') END AS "group",
  type, stage, count(*) AS count, round(quantile_cont(ms, 0.5), 1) AS p50_ms, round(quantile_cont(ms, 0.95), 1) AS p95_ms,
  round(quantile_cont(ms, 0.99), 1) AS p99_ms, round(max(ms), 1) AS max_ms
FROM latencies WHERE within(since_at, since, until)
GROUP BY 1, type, stage ORDER BY 1, type, stage;

-- ── failures ────────────────────────────────────────────────────────────────────────────────────────────────────────
CREATE OR REPLACE MACRO failure_distribution(since := NULL, until := NULL) AS TABLE
WITH f AS (SELECT type, status, reason_code, max(received_at) AS last_at, count(*) AS count FROM actions
           WHERE status IN ('failed', 'refused') AND within(received_at, since, until) GROUP BY type, status, reason_code)
SELECT type, status, reason_code, count, round(count / sum(count) OVER (), 4) AS share, last_at FROM f ORDER BY count DESC, type, reason_code;

CREATE OR REPLACE MACRO failure_distribution_by(field, since := NULL, until := NULL) AS TABLE
SELECT CASE field WHEN 'project' THEN project WHEN 'node' THEN node WHEN 'requested_by' THEN requested_by
    WHEN 'day' THEN strftime(received_at, '%Y-%m-%d') WHEN 'category' THEN split_part(reason_code, '_', 1)
    ELSE error('failures can be told apart by project, node, requested_by, day or category') END AS "group",
  type, status, reason_code, count(*) AS count
FROM actions WHERE status IN ('failed', 'refused') AND within(received_at, since, until)
GROUP BY 1, type, status, reason_code ORDER BY count DESC, 1, type, reason_code;

-- ── one orchestration ───────────────────────────────────────────────────────────────────────────────────────────────
CREATE OR REPLACE MACRO operator_timeline(id) AS TABLE
SELECT seq || '.' || idx AS "position", occurred_at,
  round(date_diff('us', lag(occurred_at) OVER (ORDER BY seq, idx), occurred_at) / 1000.0, 1) AS since_previous_ms,
  category, type, principal, via, summary, status, reason_code, phase, task, run, attempt, node, action, payload
FROM events WHERE orchestration = id ORDER BY seq, idx;

-- ── what needs a look ───────────────────────────────────────────────────────────────────────────────────────────────
CREATE OR REPLACE MACRO stuck(older_than := INTERVAL 10 MINUTE) AS TABLE
WITH waiting AS (
  SELECT 'action' AS kind, id, orchestration, type AS what, accepted_at AS since_at FROM actions WHERE status = 'accepted'
  UNION ALL
  SELECT 'run', run || '.' || attempt, orchestration, kind || ' ' || status || ' on ' || node, coalesce(started_at, dispatched_at, queued_at)
  FROM runs WHERE status IN ('queued', 'dispatched', 'started')
  UNION ALL
  SELECT 'gate', orchestration, orchestration, gate || coalesce(' of phase ' || phase, ''), opened_at FROM gates WHERE status = 'open'
  UNION ALL
  SELECT 'hold', id, id, hold, changed_at FROM orchestrations WHERE hold IS NOT NULL AND hold <> 'gate')
SELECT kind, id, orchestration, what, since_at, round(date_diff('ms', since_at, utc_now()) / 1000.0, 1) AS age_s
FROM waiting WHERE since_at < utc_now() - older_than::INTERVAL ORDER BY since_at;

CREATE OR REPLACE VIEW gate_wait AS
SELECT gate, count(*) AS opened, count(*) FILTER (status = 'open') AS waiting, count(*) FILTER (status = 'approved') AS approved,
  count(*) FILTER (status = 'rejected') AS rejected, round(quantile_cont(wait_ms, 0.5) / 1000, 1) AS wait_p50_s,
  round(quantile_cont(wait_ms, 0.95) / 1000, 1) AS wait_p95_s, min(opened_at) FILTER (status = 'open') AS oldest_waiting_at
FROM gates GROUP BY gate ORDER BY opened DESC;

CREATE OR REPLACE VIEW repair_hotspots AS
WITH again AS (SELECT orchestration, phase, sum(rejections) AS rejections, sum(greatest(attempts - 1, 0)) AS attempts FROM tasks GROUP BY ALL),
hot AS (SELECT o.project, o.design, split_part(p.phase, '.', 1) AS phase, count(DISTINCT p.orchestration) AS orchestrations,
    sum(p.repairs)::BIGINT AS repairs, count(*) FILTER (p.phase LIKE '%.5') AS remediation_phases,
    coalesce(sum(again.rejections), 0)::BIGINT AS task_rejections, coalesce(sum(again.attempts), 0)::BIGINT AS task_attempts_again
  FROM phases p JOIN orchestrations o ON o.id = p.orchestration
  LEFT JOIN again ON again.orchestration = p.orchestration AND again.phase = p.phase
  GROUP BY o.project, o.design, 3)
SELECT * FROM hot WHERE repairs + remediation_phases + task_rejections + task_attempts_again > 0
ORDER BY repairs + remediation_phases + task_rejections DESC, design, phase;

CREATE OR REPLACE VIEW node_occupancy AS
SELECT r.node, any_value(n.capacity) AS capacity, count(*) AS attempts, count(*) FILTER (r.status IN ('dispatched', 'started')) AS running,
  count(*) FILTER (r.status = 'queued') AS queued, count(*) FILTER (r.status = 'failed') AS failed, count(*) FILTER (r.status = 'lost') AS lost,
  round(sum(r.run_ms) / 1000, 1) AS busy_s, round(quantile_cont(r.queue_ms, 0.5), 1) AS queue_p50_ms,
  round(quantile_cont(r.queue_ms, 0.95), 1) AS queue_p95_ms, max(coalesce(r.ended_at, r.started_at, r.queued_at)) AS last_at
FROM runs r LEFT JOIN nodes n ON n.id = r.node GROUP BY r.node ORDER BY attempts DESC, r.node;

-- ── cost ────────────────────────────────────────────────────────────────────────────────────────────────────────────
CREATE OR REPLACE MACRO cost_by(field, since := NULL, until := NULL) AS TABLE
SELECT CASE field WHEN 'model' THEN model WHEN 'project' THEN project WHEN 'day' THEN strftime(occurred_at, '%Y-%m-%d')
    WHEN 'orchestration' THEN orchestration WHEN 'node' THEN node WHEN 'role' THEN "role"
    ELSE error('cost can be told apart by model, project, day, orchestration, node or role') END AS "group",
  count(*) AS attempts, sum(input_tokens)::BIGINT AS input_tokens, sum(output_tokens)::BIGINT AS output_tokens, sum(usd) AS usd,
  count(*) FILTER (computed) AS computed_prices
FROM usage WHERE within(occurred_at, since, until) GROUP BY 1 ORDER BY usd DESC NULLS LAST, 1;

CREATE OR REPLACE VIEW model_comparison AS
SELECT coalesce(agent_model, nullif(model, '')) AS model, "role", count(*) AS attempts, count(*) FILTER (status = 'succeeded') AS succeeded,
  count(*) FILTER (status IN ('failed', 'timed_out', 'lost')) AS failed,
  rate(count(*) FILTER (status = 'succeeded'), count(*) FILTER (status IN ('failed', 'timed_out', 'lost'))) AS success_rate,
  count(*) FILTER (reason_code = 'execution_output_malformed') AS malformed, round(quantile_cont(run_ms, 0.5) / 1000, 1) AS run_p50_s,
  round(quantile_cont(run_ms, 0.95) / 1000, 1) AS run_p95_s, sum(input_tokens + output_tokens)::BIGINT AS tokens, sum(usd) AS usd
FROM runs WHERE ended_at IS NOT NULL AND kind NOT IN ('init', 'verify', 'finalize') AND status <> 'withdrawn'
GROUP BY 1, "role" ORDER BY "role", attempts DESC;

COMMENT ON VIEW launches IS 'every launch request with its orchestration, if one came of it';
COMMENT ON VIEW latencies IS 'every measured wait: of actions by stage, and of runs in the queue';
COMMENT ON VIEW gate_wait IS 'how long gates waited for a human, by kind';
COMMENT ON VIEW repair_hotspots IS 'phases of designs that needed repairs, remediation or more than one attempt';
COMMENT ON VIEW node_occupancy IS 'what each node did and how long runs waited for it';
COMMENT ON VIEW model_comparison IS 'success, time and cost of each model in each role';
COMMENT ON MACRO TABLE launch_success IS '(since, until, bucket): launches and orchestrations that succeeded, failed or are pending; one row, or one for each bucket';
COMMENT ON MACRO TABLE launch_success_by IS '(field, since, until): the same by project, design, node, preset or requested_by';
COMMENT ON MACRO TABLE action_latency IS '(since, until): count, p50, p95, p99 of each stage by action type, and the queue wait of runs';
COMMENT ON MACRO TABLE action_latency_by IS '(field, since, until): the same by project, node or day';
COMMENT ON MACRO TABLE failure_distribution IS '(since, until): failed and refused actions by type and reason code';
COMMENT ON MACRO TABLE failure_distribution_by IS '(field, since, until): the same by project, node, requested_by, day or category';
COMMENT ON MACRO TABLE operator_timeline IS '(orchestration): everything that happened to it, in order';
COMMENT ON MACRO TABLE stuck IS '(older_than): actions, runs, gates and holds that have waited longer than that';
COMMENT ON MACRO TABLE cost_by IS '(field, since, until): tokens and dollars by model, project, day, orchestration, node or role';
