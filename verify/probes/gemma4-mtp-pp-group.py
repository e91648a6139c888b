"""Is the Gemma 4 MTP assistant built without the pipeline group that its parent's methods ask for?

`Gemma4AssistantForCausalLM.__init__` calls `PreTrainedModel.__init__` and not its parent's. Where
the parent's `tie_weights` and `load_weights` read `self.pp_group`, which only the parent's
`__init__` sets, the assistant dies while it is built ("no attribute 'pp_group'"), and with it every
server that is started with it as its draft model.

0   each assistant class of the tree is built, and its `pp_group` is SGLang's pipeline group
1   one is not: the line says what it raised, or what it holds instead
2   the probe broke, or its control did: the parent class, built in the same world, must hold that
    group
77  the tree has no MTP assistant, or nothing in the parent class reads `self.pp_group`
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import traceback
from typing import Any

from verify.answer import BROKE, DOES_NOT_APPLY, NOT_PRESENT, PRESENT, Answer, answer, tree
from verify.standins import from_tree, in_tree, install, versions


def readers_of_pp_group(owner: type) -> list[str]:
    """The methods of a class, as written, that read ``self.pp_group``."""
    written = ast.parse(textwrap.dedent(inspect.getsource(owner)))
    return sorted(
        {
            method.name
            for method in ast.walk(written)
            if isinstance(method, ast.FunctionDef) and method.name != "__init__"
            for node in ast.walk(method)
            if isinstance(node, ast.Attribute)
            and node.attr == "pp_group"
            and isinstance(node.ctx, ast.Load)
            and isinstance(node.value, ast.Name)
            and node.value.id == "self"
        }
    )


def about_pp_group(error: Exception) -> bool:
    """Whether an error is the missing group: by its text, or by the tree's line it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if not in_tree(frame.filename).startswith("..")]
    return "pp_group" in str(error) or bool(ours and "pp_group" in (ours[-1].line or ""))


def main() -> Answer:
    details: dict[str, Any] = {"stand_ins": install(), **versions()}
    mtp = from_tree("sglang.srt.models.gemma4_mtp", absent=DOES_NOT_APPLY)
    file = in_tree(mtp.__file__)
    entries = mtp.EntryClass if isinstance(mtp.EntryClass, list) else [mtp.EntryClass]
    assistant = mtp.Gemma4AssistantForCausalLM
    if assistant not in entries or assistant.__mro__[0].__module__ != mtp.__name__:
        raise Answer(BROKE, f"{file} has no Gemma4AssistantForCausalLM of its own", details)
    parent = assistant.__mro__[1]
    readers = readers_of_pp_group(parent)
    details.update(file=file, parent=parent.__qualname__, readers=readers, tree=tree())
    if not readers:
        raise Answer(
            DOES_NOT_APPLY,
            f"{file}: no method of the assistant's parent {parent.__name__} reads self.pp_group",
            details,
        )

    from verify import tiny

    details["stand_ins"] += tiny.one_rank()
    import torch

    pipeline = from_tree("sglang.srt.distributed.parallel_state").get_pp_group()
    if not torch.distributed.is_initialized() or pipeline.world_size != 1:
        raise Answer(BROKE, f"no pipeline group of one rank to compare with: {pipeline!r}", details)
    control = parent(tiny.text_config())
    if getattr(control, "pp_group", None) is not pipeline:
        raise Answer(BROKE, f"control: {parent.__name__} does not hold the pipeline group", details)

    details["built"] = []
    for built in entries:
        try:
            model = built(tiny.assistant_config())
            model.tie_weights()
        except Exception as error:
            if not about_pp_group(error):
                raise
            said = f"{type(error).__name__}: {error}"
            raise Answer(
                PRESENT, f"{file}: {built.__name__} cannot be built: {said}", details
            ) from error
        held = getattr(model, "pp_group", None)
        if held is not pipeline:
            name = getattr(held, "unique_name", held)
            raise Answer(
                PRESENT,
                f"{file}: {built.__name__} is built, but its pp_group is {name}, "
                f"not the pipeline group {pipeline.unique_name}",
                details,
            )
        details["built"].append(built.__name__)
    return Answer(
        NOT_PRESENT,
        f"{file}: {' and '.join(details['built'])} built, with the pipeline group "
        f"{pipeline.unique_name} that {', '.join(readers)} of {parent.__name__} read",
        details,
    )


if __name__ == "__main__":
    answer(main)
