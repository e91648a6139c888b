"""fixtool keeps a fork of SGLang alive: a patch series, applied, proved, rebased, upstreamed."""

__version__ = "0.1.0"
