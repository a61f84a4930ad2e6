"""The planner's errors on sources that it never saw."""
