"""Values and decisions, pure: no thread, no socket, no clock."""
