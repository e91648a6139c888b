"""Checks of SGLang on several ranks: pipeline stages on the CPU, and servers on several GPUs."""
