"""Does the Gemma 4 MTP assistant lack the pipeline group that its parent's methods read?

`Gemma4AssistantForCausalLM.__init__` calls `PreTrainedModel.__init__` instead of its parent's. If the
parent's `tie_weights` and `load_weights` read `self.pp_group`, which only the parent's `__init__`
sets, the assistant raises while it is built ("no attribute 'pp_group'"). So does every server that
is started with it as its draft model.

0   every assistant class of the tree can be built, and its `pp_group` is SGLang's pipeline group
1   one of them is not so: the line says what it raised, or what it holds instead
2   the probe broke, or its control did: the parent class, built with the same process groups, must
    hold that group
77  the tree has no MTP assistant, or nothing in the parent class reads `self.pp_group`
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import traceback
from typing import Any

from fixtool.verify.answer import BROKE, DOES_NOT_APPLY, NOT_PRESENT, PRESENT, Answer, answer, tree
from fixtool.verify.sglang_on_cpu import from_tree, in_tree, install, versions


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
    """Whether an error is about the missing group, by its text or by the tree's line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if not in_tree(frame.filename).startswith("..")]
    return "pp_group" in str(error) or bool(ours and "pp_group" in (ours[-1].line or ""))


def main() -> Answer:
    details: dict[str, Any] = {"stand_ins": install(), **versions()}
    mtp = from_tree("sglang.srt.models.gemma4_mtp", absent=DOES_NOT_APPLY)
    file = in_tree(mtp.__file__)
    classes = mtp.EntryClass if isinstance(mtp.EntryClass, list) else [mtp.EntryClass]
    assistant = mtp.Gemma4AssistantForCausalLM
    if assistant not in classes or assistant.__mro__[0].__module__ != mtp.__name__:
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

    pipeline = pipeline_group(parent, details)
    details["built"] = []
    for assistant_class in classes:
        if problem := problem_of(assistant_class, pipeline):
            raise Answer(PRESENT, f"{file}: {assistant_class.__name__} {problem}", details)
        details["built"].append(assistant_class.__name__)
    return Answer(
        NOT_PRESENT,
        f"{file}: {' and '.join(details['built'])} built, with the pipeline group "
        f"{pipeline.unique_name} that {', '.join(readers)} of {parent.__name__} read",
        details,
    )


def pipeline_group(parent: Any, details: dict[str, Any]) -> Any:
    """SGLang's pipeline group of one rank. The control: the parent class, once built, must hold it."""
    from verify import tiny

    details["stand_ins"] += tiny.one_rank()
    import torch

    pipeline = from_tree("sglang.srt.distributed.parallel_state").get_pp_group()
    if not torch.distributed.is_initialized() or pipeline.world_size != 1:
        raise Answer(BROKE, f"no pipeline group of one rank to compare with: {pipeline!r}", details)
    if getattr(parent(tiny.text_config()), "pp_group", None) is not pipeline:
        raise Answer(BROKE, f"control: {parent.__name__} does not hold the pipeline group", details)
    return pipeline


def problem_of(assistant_class: Any, pipeline: Any) -> str | None:
    """What is wrong with an assistant class that is built, or None."""
    from verify import tiny

    try:
        model = assistant_class(tiny.assistant_config())
        model.tie_weights()
    except Exception as error:
        if not about_pp_group(error):
            raise
        return f"cannot be built: {type(error).__name__}: {error}"
    held: Any = getattr(model, "pp_group", None)
    if held is pipeline:
        return None
    name = getattr(held, "unique_name", held)
    return f"is built, but its pp_group is {name}, not the pipeline group {pipeline.unique_name}"


if __name__ == "__main__":
    answer(main)
