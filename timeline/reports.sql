-- The named reports of `qd report`. A report that can be told apart by a field has one query for each: `NAME by FIELD`.
-- Parameters: $since and $until, times or NULL.

-- name: launches
-- description: how many launches and orchestrations succeeded
FROM launch_success($since, $until, NULL)

-- name: launches by hour
-- description: the same for each hour
FROM launch_success($since, $until, INTERVAL 1 HOUR)

-- name: launches by day
-- description: the same for each day
FROM launch_success($since, $until, INTERVAL 1 DAY)

-- name: launches by project
-- description: the same for each project
FROM launch_success_by('project', $since, $until)

-- name: launches by design
-- description: the same for each design
FROM launch_success_by('design', $since, $until)

-- name: launches by node
-- description: the same for each node
FROM launch_success_by('node', $since, $until)

-- name: launches by preset
-- description: the same for each preset
FROM launch_success_by('preset', $since, $until)

-- name: launches by requested_by
-- description: the same for each operator
FROM launch_success_by('requested_by', $since, $until)

-- name: latency
-- description: how long actions took, stage by stage, and how long runs waited
FROM action_latency($since, $until)

-- name: latency by project
-- description: the same for each project
FROM action_latency_by('project', $since, $until)

-- name: latency by node
-- description: the same for each node
FROM action_latency_by('node', $since, $until)

-- name: latency by day
-- description: the same for each day
FROM action_latency_by('day', $since, $until)

-- name: failures
-- description: failed and refused actions by type and reason code
FROM failure_distribution($since, $until)

-- name: failures by project
-- description: the same for each project
FROM failure_distribution_by('project', $since, $until)

-- name: failures by node
-- description: the same for each node
FROM failure_distribution_by('node', $since, $until)

-- name: failures by requested_by
-- description: the same for each operator
FROM failure_distribution_by('requested_by', $since, $until)

-- name: failures by day
-- description: the same for each day
FROM failure_distribution_by('day', $since, $until)

-- name: failures by category
-- description: the same for each category of reason codes
FROM failure_distribution_by('category', $since, $until)

-- name: nodes
-- description: what each node did and how long runs waited for it
FROM node_occupancy

-- name: cost
-- description: tokens and dollars by model
FROM cost_by('model', $since, $until)

-- name: cost by model
-- description: tokens and dollars by model
FROM cost_by('model', $since, $until)

-- name: cost by project
-- description: tokens and dollars by project
FROM cost_by('project', $since, $until)

-- name: cost by day
-- description: tokens and dollars by day
FROM cost_by('day', $since, $until)

-- name: cost by orchestration
-- description: tokens and dollars by orchestration
FROM cost_by('orchestration', $since, $until)

-- name: cost by node
-- description: tokens and dollars by node
FROM cost_by('node', $since, $until)

-- name: cost by role
-- description: tokens and dollars by role
FROM cost_by('role', $since, $until)
