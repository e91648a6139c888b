"""The faults that these attacks found, and that were mended, one sentence each."""

FOUND = (
    "A link in verify/ was followed when a bundle was packed, so that a patch repository could send private files to a GPU host.",
    "The requirements of a bundle could name a folder or a repository, whose setup.py pip then ran on the machine that packs, beside its credentials.",
    "The requirements of a bundle could put a variable of the environment, such as a token, into the address of an index.",
    "A link patches/.lock had the lock's text written over any file of the user's.",
    "A filter that code of others named in the configuration of fixtool's store, or of its work tree, ran at the next export, refresh, build or rebase --continue with all credentials.",
    "The name of a line could hold a command, which stood in the commands that a person is told to type.",
    "A cached result without its commit left the patch out of the tree, while apply said that it is in.",
    "A pipe in the cache held fixtool for good.",
    "A file or link in the place of .github or .github/workflows was not told by import and lint.",
    "A patch that renamed .gitattributes away was not told by lint.",
    "The rules of Azure, Buildkite and Bitbucket, .lfsconfig and .pre-commit-config.yaml were not told by import and lint.",
    "A link and a file behind it whose names differ only in case were taken for two names.",
    "The login in an index address of ssh:// or ftp:// was printed when the index could not be reached, as were tokens in a parameter, percent-encoded, or in a password with a slash.",
    "A login that was cut in the middle was no longer known as one, so that its beginning was printed.",
    "A warning took control characters to the terminal.",
    "JUnit XML held characters that turn the direction of writing, and commands for the log of a job.",
    "A command for the log of a job stood in JSON documents and in Markdown.",
)
