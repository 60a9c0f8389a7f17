"""Who may come in: passwords (slow on purpose, in threads) and tokens (fast on purpose)."""
