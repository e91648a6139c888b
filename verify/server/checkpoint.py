"""Checks a real checkpoint before a server spends minutes on loading it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from fixtool.verify.answer import CANNOT_RUN, Answer
from verify.server.tiny_models import Models, weight_bytes


def find_checkpoint(model: str, assistant: str | None) -> Models:
    """The folders of ``model`` and of its assistant, which may lie beside it or inside it.

    Each is a folder, or the name of a model in the Hugging Face cache. Raises Answer (cannot run) if
    one of them is missing.
    """
    target = _folder(model, "--model")
    if assistant is not None:
        return Models(target, _folder(assistant, "--assistant"))
    beside, inside = target.with_name(f"{target.name}-assistant"), target / "assistant"
    for folder in (beside, inside):
        if folder.is_dir():
            return Models(target, folder)
    if (named := _cached(f"{model}-assistant")) is not None:
        return Models(target, named)
    raise Answer(
        CANNOT_RUN,
        f"{target} has no MTP assistant at {beside} or {inside}: give its folder with --assistant",
    )


def _folder(name: str, option: str) -> Path:
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder.resolve()
    if (cached := _cached(name)) is not None:
        return cached
    raise Answer(
        CANNOT_RUN,
        f"{option} {name}: no such folder, and no such model in the Hugging Face cache; download the "
        "checkpoint and give its folder",
    )


def _cached(name: str) -> Path | None:
    """The folder of a model that `hf download` has downloaded, by its hub name; None if there is none."""
    home = os.environ.get("HF_HOME") or "~/.cache/huggingface"
    hub = Path(os.environ.get("HF_HUB_CACHE") or Path(home, "hub")).expanduser()
    if name.count("/") != 1 or ".." in name:
        return None
    model = hub / f"models--{name.replace('/', '--')}"
    try:
        revision = (model / "refs" / "main").read_text().strip()
    except OSError:
        return None
    folder = model / "snapshots" / revision
    return folder if folder.is_dir() else None


def check_weights(models: Models, *, dummy: bool) -> int:
    """Check both folders, and return how many bytes of weights a server will load from them.

    With ``dummy`` the weights are made up, and only the configurations are read. Raises Answer
    (cannot run) if something is missing or broken.
    """
    target, assistant = _config(models.target), _config(models.assistant)
    text = target.get("text_config") or target
    if not text.get("num_experts"):
        raise Answer(
            CANNOT_RUN,
            f"{models.target} is dense (num_experts: {text.get('num_experts')}), so it never routes: "
            "give a mixture of experts, such as google/gemma-4-26B-A4B-it",
        )
    if assistant.get("model_type") != "gemma4_assistant":
        raise Answer(
            CANNOT_RUN,
            f"{models.assistant} is no Gemma 4 MTP assistant (model_type "
            f"{assistant.get('model_type')!r}, not 'gemma4_assistant'): give another --assistant",
        )
    if not dummy:
        return _safetensors(models.target) + _safetensors(models.assistant)
    try:
        return weight_bytes(target) + weight_bytes(assistant)
    except (KeyError, TypeError) as error:
        raise Answer(CANNOT_RUN, f"{models.target}: config.json lacks {error}") from None


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Answer(CANNOT_RUN, f"{folder} is no checkpoint: it has no config.json") from None
    except (OSError, ValueError) as error:
        raise Answer(CANNOT_RUN, f"cannot read {path}: {error}") from None
    if not isinstance(config, dict):
        raise Answer(CANNOT_RUN, f"cannot read {path}: it holds no object")
    return config


def _safetensors(folder: Path) -> int:
    """The bytes of all shards, once each is there and as long as its own header says."""
    files = set(folder.glob("*.safetensors"))
    index = folder / "model.safetensors.index.json"
    if index.exists():
        try:
            listed = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise Answer(CANNOT_RUN, f"cannot read {index}: {error}") from None
        if missing := sorted(listed - {file.name for file in files}):
            raise Answer(
                CANNOT_RUN,
                f"{folder} lacks {len(missing)} of {len(listed)} shards ({missing[0]}): finish the "
                "download",
            )
    if not files:
        raise Answer(CANNOT_RUN, f"{folder} has no safetensors: download the weights into it")
    for path in sorted(files):
        size = path.stat().st_size
        try:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                if not 2 <= length <= size - 8:
                    raise ValueError("it has no header")
                header = json.loads(file.read(length))
            tensors = [entry for name, entry in header.items() if name != "__metadata__"]
            wanted = 8 + length + max((t["data_offsets"][1] for t in tensors), default=0)
            if size != wanted:
                raise ValueError(f"{size} bytes, not {wanted}")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise Answer(
                CANNOT_RUN, f"{path} is broken ({error}): download it again (a git-lfs pointer?)"
            ) from None
    return sum(file.stat().st_size for file in files)
