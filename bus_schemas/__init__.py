"""The contract: every id, message, subject, policy and reason code. Pure; imports nothing of ours."""
