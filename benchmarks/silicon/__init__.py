"""The planner's errors on measured deployments, and its speed."""
