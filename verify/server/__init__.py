"""Checks that boot a real SGLang server, and what they need: tiny models, GPUs, logs, a recorder."""
