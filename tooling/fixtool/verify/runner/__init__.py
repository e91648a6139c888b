"""What runs a plan on a host, in the target's Python. A bundle carries this folder as it lies, so
it imports the standard library and itself alone, and works on Python 3.10 and newer."""
