"""A named tree that the serving benchmark runs, perhaps with another routing kernel or made-up weights.

The tree itself is not changed. What runs is a folder of links to it, in which a changed file is a copy
with something appended: the later definition of a function is the one that is imported.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from fixtool.verify.answer import BROKE, Answer
from fixtool.verify.runner.git_ids import blob_id, folder_id
from verify.routing.load import LAUNCHER, find_kernel

_WEIGHTS = "python/sglang/srt/model_loader/weight_utils.py"
# SGLang's own fills every tensor with ±0.001, norms too, and tensors of one size with the same numbers.
# All activations vanish, all tokens take the same experts, and a batch is too fast.
_DUMMY = '''

def initialize_dummy_weights(model, low=-0.05, high=0.05, seed=1234):
    """Norms and scales are one, every other tensor is random, each with its own numbers."""
    import zlib

    for name, tensor in model.state_dict().items():
        if not torch.is_floating_point(tensor):
            continue
        if tensor.dim() < 2:
            tensor.fill_(1.0)
        else:
            draw = torch.Generator(device=tensor.device).manual_seed(seed + zlib.crc32(name.encode()))
            tensor.uniform_(low, high, generator=draw)
'''

_VERIFYING = "python/sglang/srt/speculative/eagle_utils.py"
# Made-up weights never agree with the assistant's, so no draft would be accepted. This answers yes for
# each, and the drafts are the tokens out; all that a server computes stays. (SGLang's own
# SGLANG_SIMULATE_ACC_LEN makes every token the same one, which would take the same experts.)
_ACCEPT = '''

_verify_tree_greedy_func = verify_tree_greedy_func


def verify_tree_greedy_func(
    predicts, accept_index, accept_token_num, candidates, retrieve_index, retrieve_next_token,
    retrieve_next_sibling, target_predict, topk=-1,
):
    """Every draft of a chain is accepted, and after the last comes the target's own token."""
    found = _verify_tree_greedy_func(
        predicts, accept_index, accept_token_num, candidates, retrieve_index, retrieve_next_token,
        retrieve_next_sibling, target_predict, topk,
    )
    tokens = torch.cat([candidates[:, 1:], target_predict[:, -1:]], dim=1)
    predicts[retrieve_index.flatten().long()] = tokens.flatten().to(predicts.dtype)
    accept_index.copy_(retrieve_index)
    accept_token_num.fill_(candidates.shape[1] - 1)
    return found
'''


@dataclass
class Contender:
    """A tree to be timed. ``folder`` is what runs; ``files`` are those that are not the tree's own."""

    name: str
    tree: Path
    kernel: Path | None = None
    folder: Path = field(init=False)
    files: dict[str, str] = field(default_factory=dict)  # path in the tree -> git blob id

    def __post_init__(self) -> None:
        self.folder = self.tree

    def details(self) -> dict[str, Any]:
        return {
            "tree": str(self.tree),
            "python_tree": folder_id(self.tree / "python"),
            "kernel": None
            if self.kernel is None
            else {"file": str(self.kernel), "blob": blob_id(self.kernel.read_bytes())},
            "files_not_the_trees": self.files,
        }

    def lay_out(self, folder: Path, *, dummy: bool, accept: bool = False) -> None:
        """Make ``folder``, if a file must differ from the tree's. ``dummy``: make the weights up;
        ``accept``: accept every draft of the assistant."""
        if not (self.tree / "python/sglang/launch_server.py").is_file():
            raise Answer(BROKE, f"{self.tree} holds no python/sglang/launch_server.py")
        contents: dict[str, bytes] = {}
        if self.kernel is not None:
            path, text = self._other_kernel()
            contents[path] = self._appended(path, f"\n\n{text}")
        if dummy:
            contents[_WEIGHTS] = self._appended(_WEIGHTS, _DUMMY)
        if accept:
            contents[_VERIFYING] = self._appended(_VERIFYING, _ACCEPT)
        if contents:
            overlay(self.tree, folder, contents)
            self.folder = folder
            self.files = {path: blob_id(content) for path, content in contents.items()}

    def _other_kernel(self) -> tuple[str, str]:
        """Path in the tree of the file that defines its own kernel, and the text to append to it."""
        option = f"--kernel {self.name}={self.kernel}"
        assert self.kernel is not None
        try:
            file = find_kernel(self.tree)
            text = self.kernel.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise Answer(BROKE, f"{option}: {error}") from None
        if file is None:
            raise Answer(BROKE, f"{option}: {self.tree} has no {LAUNCHER} to be replaced")
        if f"def {LAUNCHER}(" not in text:
            raise Answer(BROKE, f"{option}: it defines no {LAUNCHER}")
        return str(file.relative_to(self.tree)), text

    def _appended(self, path: str, more: str) -> bytes:
        """A file of the tree with ``more`` appended. Raises Answer (broke) if that is not Python."""
        try:
            text = (self.tree / path).read_text(encoding="utf-8") + more
            compile(text, path, "exec", dont_inherit=True)
        except (OSError, SyntaxError) as error:
            raise Answer(BROKE, f"{self.name}: {error}") from None
        return text.encode()


def overlay(tree: Path, target: Path, contents: Mapping[str, bytes]) -> None:
    """Make ``target`` like ``tree``, except for the files in ``contents`` (by path in the tree).

    Whole folders are linked where possible. Through the links SGLang finds the sources that it
    compiles at run time at the same path for all trees, and so compiles them once.
    """
    opened = {str(parent) for path in contents for parent in PurePosixPath(path).parents}

    def link(folder: str) -> None:
        (target / folder).mkdir(parents=True, exist_ok=True)
        for entry in os.scandir(tree / folder):
            path = f"{folder}/{entry.name}"
            if path in opened and entry.is_dir():
                link(path)
            elif path not in contents and entry.name != "__pycache__":
                (target / path).symlink_to(os.path.realpath(entry.path))

    link("python")
    for path, content in contents.items():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).write_bytes(content)


def folders_of_modules(tree: Path) -> list[Path]:
    """The folders to name to compileall, which follows a link to a folder only if it is named."""
    folders = [tree / "python"]
    for folder, names, _ in os.walk(tree / "python"):
        folders += [path for name in names if (path := Path(folder, name)).is_symlink()]
    return folders
