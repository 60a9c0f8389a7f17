"""Watching the server: log, metrics, and the port that serves them. Knows nothing of sessions or of the store."""
