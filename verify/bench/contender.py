"""A tree under a name, as the serving benchmark runs it: perhaps with another routing kernel, and
perhaps with weights made up on the GPU.

Neither changes the tree. What runs is a folder of links to it, in which a file that has to be otherwise
is a copy with something appended: the later definition of a function is the one that is imported.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from fixtool.verify.answer import BROKE, Answer
from fixtool.verify.runner.git_ids import blob_id, folder_id
from verify.routing.load import LAUNCHER, find_kernel

_WEIGHTS = "python/sglang/srt/model_loader/weight_utils.py"
# SGLang's own gives every tensor ±0.001, norms too, and tensors of one size the same numbers: all
# that flows through it vanishes, all tokens take the same experts, and a batch costs too little.
_DUMMY = '''

def initialize_dummy_weights(model, low=-0.05, high=0.05, seed=1234):
    """Norms and scales one, every other tensor random, and each its own."""
    import zlib

    for name, one in model.state_dict().items():
        if not torch.is_floating_point(one):
            continue
        if one.dim() < 2:
            one.fill_(1.0)
        else:
            drawn = torch.Generator(device=one.device).manual_seed(seed + zlib.crc32(name.encode()))
            one.uniform_(low, high, generator=drawn)
'''


@dataclass
class Contender:
    """``place`` is the folder that runs; ``files`` are those that are not the tree's own."""

    name: str
    tree: Path
    kernel: Path | None = None
    place: Path = field(init=False)
    files: dict[str, str] = field(default_factory=dict)  # path in the tree -> git blob id

    def __post_init__(self) -> None:
        self.place = self.tree

    def details(self) -> dict[str, Any]:
        return {
            "tree": str(self.tree),
            "python_tree": folder_id(self.tree / "python"),
            "kernel": None
            if self.kernel is None
            else {"file": str(self.kernel), "blob": blob_id(self.kernel.read_bytes())},
            "files_not_the_trees": self.files,
        }

    def lay_out(self, place: Path, *, dummy: bool) -> None:
        """Make ``place``, if anything is to be otherwise than in the tree."""
        if not (self.tree / "python/sglang/launch_server.py").is_file():
            raise Answer(BROKE, f"{self.tree} holds no python/sglang/launch_server.py")
        contents: dict[str, bytes] = {}
        if self.kernel is not None:
            path, text = self._other_kernel()
            contents[path] = self._and(path, f"\n\n{text}")
        if dummy:
            contents[_WEIGHTS] = self._and(_WEIGHTS, _DUMMY)
        if contents:
            overlay(self.tree, place, contents)
            self.place = place
            self.files = {path: blob_id(content) for path, content in contents.items()}

    def _other_kernel(self) -> tuple[str, str]:
        """Path in the tree of the file that defines its own, and what to define after it."""
        asked = f"--kernel {self.name}={self.kernel}"
        assert self.kernel is not None
        try:
            at = find_kernel(self.tree)
            text = self.kernel.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise Answer(BROKE, f"{asked}: {error}") from None
        if at is None:
            raise Answer(BROKE, f"{asked}: {self.tree} has no {LAUNCHER} to be replaced")
        if f"def {LAUNCHER}(" not in text:
            raise Answer(BROKE, f"{asked}: it defines no {LAUNCHER}")
        return str(at.relative_to(self.tree)), text

    def _and(self, path: str, more: str) -> bytes:
        """A file of the tree and what comes after it, which has to be Python still."""
        try:
            text = (self.tree / path).read_text(encoding="utf-8") + more
            compile(text, path, "exec", dont_inherit=True)
        except (OSError, SyntaxError) as error:
            raise Answer(BROKE, f"{self.name}: {error}") from None
        return text.encode()


def overlay(tree: Path, place: Path, contents: Mapping[str, bytes]) -> None:
    """``place`` as ``tree``, but for files with other ``contents``: links to whole folders where
    possible. Through them SGLang finds the sources that it compiles at run time at one and the same
    path, and so compiles them once for all trees."""
    opened = {str(one) for path in contents for one in PurePosixPath(path).parents}

    def graft(folder: str) -> None:
        (place / folder).mkdir(parents=True, exist_ok=True)
        for entry in os.scandir(tree / folder):
            path = f"{folder}/{entry.name}"
            if path in opened and entry.is_dir():
                graft(path)
            elif path not in contents and entry.name != "__pycache__":
                (place / path).symlink_to(os.path.realpath(entry.path))

    graft("python")
    for path, content in contents.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_bytes(content)


def compile_ahead(places: list[Path], env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Bytecode of all trees, in the background, while the first of them boots, under its server's
    environment but for the mark that says who is the server's. compileall does not follow a link to
    a folder, unless it is named."""
    folders = []
    for place in places:
        folders.append(place / "python")
        for folder, inner, _ in os.walk(place / "python"):
            folders += [Path(folder, one) for one in inner if Path(folder, one).is_symlink()]
    return subprocess.Popen(
        [sys.executable, "-m", "compileall", "-q", "-j", "4", *map(str, folders)],
        env={name: value for name, value in env.items() if name != "FIXTOOL_SERVER"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
