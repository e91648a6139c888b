"""One verb a file: its options, its call into the core, its answer."""
