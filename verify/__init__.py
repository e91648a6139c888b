"""What fixtool verify runs against SGLang: probes, checks, mutants, benchmarks and their results.

These modules run in the Python that has SGLang's dependencies; fixtool only starts them as scripts.
README.md describes each folder and the contract between fixtool and a script.
"""
