"""The models that the server checks boot: checkpoints that are found, and tiny models that are made."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from fixtool.verify.answer import Answer
from support.repositories import ROOT
from support.sglang_server import FakeHost
from verify.server import checkpoint, tiny_models

# --- checkpoints ---------------------------------------------------------------------------------


def copy_models(tiny: Path, to: Path) -> Path:
    """The tiny models as a downloaded checkpoint. Returns the target's folder."""
    for folder in ("target", "assistant"):
        (to / folder).mkdir(parents=True)
        for file in (tiny / folder).iterdir():
            os.link(file, to / folder / file.name)
    return to / "target"


def test_a_checkpoint_and_its_assistant_are_found(host: FakeHost) -> None:
    model = host.folder / "gemma"
    words = ("healthy", "--serves", "--model")
    host.expect(4, f"--model {model}: no such folder", *words, model)

    model = copy_models(host.models, host.folder / "real")
    result = host.expect(4, "has no MTP assistant at", *words, model)
    assert "give its folder with --assistant" in result.last_line

    text = "is no Gemma 4 MTP assistant (model_type 'gemma4'"
    host.expect(4, text, *words, model, "--assistant", model)

    (model.parent / "assistant").rename(model.parent / "target-assistant")
    result = host.expect(0, "", *words, model)
    assert f"{model}-assistant" in result.details["command"]


def test_broken_checkpoints(tiny: Path, tmp_path: Path) -> None:
    def problem() -> str:
        with pytest.raises(Answer) as raised:
            checkpoint.check_weights(checkpoint.find_checkpoint(str(model), None), dummy=False)
        assert raised.value.code == 4
        return raised.value.saw

    model = copy_models(tiny, tmp_path / "real")
    (model.parent / "assistant").rename(model / "assistant")
    models = checkpoint.find_checkpoint(str(model), None)
    assert models.assistant == model / "assistant"
    assert checkpoint.check_weights(models, dummy=False) > 160 << 20
    file = model / "model.safetensors"
    whole = file.read_bytes()
    for content in (b"version https://git-lfs.github.com/spec/v1\n", whole[:1000], whole[:-1]):
        file.unlink()
        file.write_bytes(content)
        assert f"{file} is broken" in problem()
    file.unlink()
    assert "has no safetensors" in problem()
    (model / "model.safetensors.index.json").write_text('{"weight_map": {"a": "a-1-of-2"}}')
    assert "lacks 1 of 1 shards (a-1-of-2)" in problem()
    config = model / "config.json"
    config.unlink()
    assert "it has no config.json" in problem()
    config.write_text("{")
    assert "cannot read" in problem()
    config.write_text('{"text_config": {"num_experts": null}}')
    assert "is dense" in problem()


def test_a_checkpoint_by_its_hub_name(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    for name, part in (("it", "target"), ("it-assistant", "assistant")):
        (tmp_path / f"models--google--{name}/refs").mkdir(parents=True)
        (tmp_path / f"models--google--{name}/refs/main").write_text("abc\n")
        (tmp_path / f"models--google--{name}/snapshots").mkdir()
        (tmp_path / f"models--google--{name}/snapshots/abc").symlink_to(tiny / part)
    models = checkpoint.find_checkpoint("google/it", None)
    assert models.assistant.name == "abc"
    assert checkpoint.check_weights(models, dummy=True) > 160 << 20


# --- tiny models ---------------------------------------------------------------------------------


def test_the_models_are_the_same_everywhere(tiny: Path) -> None:
    hashes = {
        name: hashlib.sha256((tiny / name / "model.safetensors").read_bytes()).hexdigest()[:16]
        for name in ("target", "assistant")
    }
    assert hashes == {"target": "4bc8602d93c5ddcb", "assistant": "e353a1647e373807"}


def test_the_safetensors_files_are_valid(tiny: Path) -> None:
    content = (tiny / "target/model.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert (8 + length) % 8 == 0
    end = 0
    for name, shape in tiny_models.tensor_shapes(tiny_models.target_config("tiny")).items():
        start, stop = header[name]["data_offsets"]
        assert (header[name]["dtype"], header[name]["shape"]) == ("BF16", list(shape))
        assert start == end
        end = stop
    assert 8 + length + end == len(content)
    # bf16 1.0 in a norm; 0.5 to 2 in the experts' scale, mostly different ones.
    assert tensor(content, header, "model.language_model.norm.weight") == b"\x80\x3f" * 256
    layer = "model.language_model.layers.3."
    scale = tensor(content, header, f"{layer}router.per_expert_scale")
    assert set(scale[1::2]) == {0x3F}
    assert len({scale[i : i + 2] for i in range(0, 256, 2)}) > 64
    other = tensor(content, header, "model.language_model.layers.4.router.proj.weight")
    assert tensor(content, header, f"{layer}router.proj.weight") != other


def tensor(content: bytes, header: dict[str, Any], name: str) -> bytes:
    start = 8 + int.from_bytes(content[:8], "little")
    first, last = header[name]["data_offsets"]
    return content[start + first : start + last]


def test_the_full_size_is_a_configuration_only(tmp_path: Path) -> None:
    models = tiny_models.make(tmp_path / "full", "full")
    assert not list((tmp_path / "full").rglob("*.safetensors"))
    assert 48e9 < checkpoint.check_weights(models, dummy=True) < 56e9


@pytest.mark.slow(8)
def test_transformers_would_make_the_same_tensors(tiny: Path) -> None:
    """With a Python that has transformers: FIXTOOL_TARGET_PYTHON, or this one."""
    target = os.environ.get("FIXTOOL_TARGET_PYTHON", sys.executable)
    code = """
import sys, json, torch
try:
    if torch.version.cuda is None:
        ops = torch.library.Library("torchvision", "DEF")
        for op in ("nms", "qnms"): ops.define(f"{op}(Tensor a, Tensor b, float c) -> Tensor")
    import transformers
    from transformers import AutoConfig, AutoTokenizer, Gemma4AssistantForCausalLM
    from transformers import Gemma4ForConditionalGeneration
except ImportError as error:
    print("no", error); sys.exit(77)
found = {}
for name, cls in (("target", Gemma4ForConditionalGeneration), ("assistant", Gemma4AssistantForCausalLM)):
    at = f"{sys.argv[1]}/{name}"
    with torch.device("meta"):
        model = cls(AutoConfig.from_pretrained(at))
    found[name] = {k: list(v.shape) for k, v in model.state_dict().items() if k != "lm_head.weight"}
tokens = AutoTokenizer.from_pretrained(at)
found["text"] = tokens.decode(tokens.encode("hello G\\u00e9"))
print(json.dumps(found))
"""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    result = subprocess.run(
        [target, "-c", code, str(tiny)], capture_output=True, text=True, env=env, check=False
    )
    if result.returncode != 0 and ("No module named" in result.stdout + result.stderr):
        pytest.skip(f"{target} has no transformers with Gemma 4")
    assert result.returncode == 0, result.stderr
    shapes = json.loads(result.stdout.splitlines()[-1])
    for name, config in (
        ("target", tiny_models.target_config),
        ("assistant", tiny_models.assistant_config),
    ):
        ours = {
            key: list(shape) for key, shape in tiny_models.tensor_shapes(config("tiny")).items()
        }
        assert shapes[name] == ours
    assert shapes["text"] == "hello Gé"


def without_weights(monkeypatch: pytest.MonkeyPatch, pause: float = 0.0) -> list[Path]:
    """Make models with empty weights; the list gets each file that is written."""
    written: list[Path] = []

    def write(path: Path, *_: object) -> None:
        time.sleep(pause)
        written.append(path)
        path.write_bytes(b"")

    monkeypatch.setattr(tiny_models, "_write_safetensors", write)
    return written


def test_a_folder_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = without_weights(monkeypatch, pause=0.05)
    threads = [
        threading.Thread(target=tiny_models.make, args=(tmp_path / "deep/models",))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written) == 2
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["models", "models.lock"]


def test_a_process_killed_while_it_makes_them_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import sys, time; from verify.server import tiny_models as models\n"
        "models._write_safetensors = lambda *_: (print('here', flush=True), time.sleep(60))\n"
        "models.make(sys.argv[1])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "models")],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as maker:
        assert maker.stdout is not None
        maker.stdout.readline()
        maker.kill()
    assert not (tmp_path / "models").exists()
    written = without_weights(monkeypatch)
    tiny_models.make(tmp_path / "models")
    assert len(written) == 2
    assert {path.name for path in tmp_path.iterdir()} - {"home"} == {"models", "models.lock"}


def test_an_outdated_folder_is_replaced_and_any_other_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = without_weights(monkeypatch)
    tiny_models.make(tmp_path / "models")
    monkeypatch.setattr(tiny_models, "_RECIPE", 99)
    tiny_models.make(tmp_path / "models")
    assert len(written) == 4
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("x")
    with pytest.raises(FileExistsError, match="holds something else"):
        tiny_models.make(tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]
