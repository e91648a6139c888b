"""Where the upstream tree comes from: a git remote, a local repository, or a release."""
