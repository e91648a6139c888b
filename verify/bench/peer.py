"""Loads another project's routing kernel out of its file, without that project's package.

The file (upstream's, from a release's wheel, or vLLM's model file) is read when the benchmark runs and
is not kept in this repository. It must define ``gemma4_fused_routing``, or a function whose name
starts with that.
"""

from __future__ import annotations

import ast
import inspect
import tempfile
from pathlib import Path
from types import ModuleType

from verify.routing.load import LAUNCHER, load_kernel

_IMPORTS = "from __future__ import annotations\n\nimport torch\nimport triton\nimport triton.language as tl"


def extract_launcher(file: str) -> str:
    """The source of a peer's launcher and of what it needs of its file.

    The rest is left out, since it may import packages that are not installed. So are decorators that
    may register an operator that is registered already.
    """
    module = ast.parse(Path(file).read_text(encoding="utf-8"))
    named = {name: node for node in module.body for name in _defined_names(node)}
    launcher = min((name for name in named if name.startswith(LAUNCHER)), key=len, default=None)
    if launcher is None:
        raise AttributeError(f"{file} has no {LAUNCHER}")
    needs: set[ast.stmt] = set()
    todo = [launcher]
    while todo:
        if (name := todo.pop()) in named and named[name] not in needs:
            needs.add(named[name])
            todo += [node.id for node in ast.walk(named[name]) if isinstance(node, ast.Name)]
    for node in needs:
        if isinstance(node, ast.FunctionDef):
            node.decorator_list = [
                by
                for by in node.decorator_list
                if ast.unparse(by).startswith(("triton.", "torch."))
            ]
    body = [ast.unparse(node) for node in module.body if node in needs]
    if launcher != LAUNCHER:
        body.append(f"{LAUNCHER} = {launcher}")
    return "\n\n".join([_IMPORTS, *body]) + "\n"


def _defined_names(node: ast.stmt) -> list[str]:
    """The names that a statement defines; none for an import, which is not extracted."""
    if isinstance(node, ast.FunctionDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def load_peer(file: str, name: str) -> ModuleType:
    """The extracted module, its launcher called as ours is (vLLM's has the scale last)."""
    bare = Path(tempfile.mkdtemp()) / f"{name}.py"
    bare.write_text(extract_launcher(file), encoding="utf-8")
    module = load_kernel(bare, name)
    theirs = module.gemma4_fused_routing
    if [*inspect.signature(theirs).parameters][:3] != ["gating_output", "per_expert_scale", "topk"]:
        vars(module)[LAUNCHER] = lambda logits, scale, topk: theirs(
            gating_output=logits, per_expert_scale=scale, topk=topk
        )
    return module
