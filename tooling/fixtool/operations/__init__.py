"""The operation log: what each command changed, and how it is taken back."""
