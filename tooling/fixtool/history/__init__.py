"""What upstream's commits and releases did to each patch."""
