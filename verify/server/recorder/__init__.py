"""Evidence from inside a live server: these modules run in the processes of SGLang itself."""
