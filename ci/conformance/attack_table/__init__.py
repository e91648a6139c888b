"""The attacks that ``ci/conformance/attacks`` tries: one module for each kind."""
