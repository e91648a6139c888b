"""Another project's routing kernel, lifted out of its file.

The file is read where the benchmark runs, and never kept: upstream's, out of a release's wheel, or
vLLM's model file. It has a ``gemma4_fused_routing``, or a function whose name begins so.
"""

from __future__ import annotations

import ast
import inspect
import tempfile
from pathlib import Path
from types import ModuleType

from verify.routing import load as kernel

_IMPORTS = "from __future__ import annotations\n\nimport torch\nimport triton\nimport triton.language as tl"


def lifted(file: str) -> str:
    """The text of a peer's launcher, and of what it needs of its file: the rest may import packages
    that are not here, and its decorators may register what is there already."""
    parsed = ast.parse(Path(file).read_text(encoding="utf-8"))
    named = {name: one for one in parsed.body for name in _defines(one)}
    launcher = min((one for one in named if one.startswith(kernel.NAME)), key=len, default=None)
    if launcher is None:
        raise AttributeError(f"{file} has no {kernel.NAME}")
    needs, todo = set(), [launcher]
    while todo:
        if (name := todo.pop()) in named and named[name] not in needs:
            needs.add(named[name])
            todo += [one.id for one in ast.walk(named[name]) if isinstance(one, ast.Name)]
    for one in needs:
        if isinstance(one, ast.FunctionDef):
            one.decorator_list = [
                by for by in one.decorator_list if ast.unparse(by).startswith(("triton.", "torch."))
            ]
    body = [ast.unparse(one) for one in parsed.body if one in needs]
    if launcher != kernel.NAME:
        body.append(f"{kernel.NAME} = {launcher}")
    return "\n\n".join([_IMPORTS, *body]) + "\n"


def _defines(one: ast.stmt) -> list[str]:
    """The names that a statement gives a meaning to in its file; an import gives none that is lifted."""
    if isinstance(one, ast.FunctionDef):
        return [one.name]
    targets = one.targets if isinstance(one, ast.Assign) else [getattr(one, "target", None)]
    return [each.id for each in targets if isinstance(each, ast.Name)]


def load(file: str, name: str) -> ModuleType:
    """What is lifted of that file, called as ours is: vLLM has the scale last."""
    bare = Path(tempfile.mkdtemp()) / f"{name}.py"
    bare.write_text(lifted(file), encoding="utf-8")
    module = kernel.load(bare, name)
    theirs = module.gemma4_fused_routing
    if [*inspect.signature(theirs).parameters][:3] != ["gating_output", "per_expert_scale", "topk"]:
        module.gemma4_fused_routing = lambda logits, scale, topk: theirs(
            gating_output=logits, per_expert_scale=scale, topk=topk
        )
    return module
