"""The report: one HTML page and its Markdown twin."""
