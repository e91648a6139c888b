"""Changes a series: starts one, imports, exports and drops patches."""
