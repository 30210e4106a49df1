"""The node agent: owns the processes and the clones of one machine; decides nothing global."""
