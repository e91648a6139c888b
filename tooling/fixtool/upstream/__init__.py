"""Sends one patch upstream: its commits, its checks, its pull request."""
