"""GitHub: its API, its pull requests and issues as values, and the pushes to a fork."""
