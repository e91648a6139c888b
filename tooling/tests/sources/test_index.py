"""The package index, against a real HTTP server on this machine; one test uses the real index."""

from __future__ import annotations

import hashlib
import inspect
import re
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from fixtool.errors import CannotRun, UsageError
from fixtool.sources import index, release
from fixtool.sources.index import PipConfig, WheelFile
from fixtool.wheel import build
from support.package_index import (
    ARM,
    X86,
    Heard,
    Server,
    largest_file,
    make_wheel,
    serve,
    use_index,
)
from support.processes import GENEROUS


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


# -- finding -----------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["json", "html"])
def test_finds_every_wheel_of_the_release(server: Server, style: str) -> None:
    server.style = style
    paths = [make_wheel(server.folder, "1.2.0", tag) for tag in (ARM, X86)]
    make_wheel(server.folder, "1.3.0")
    make_wheel(server.folder, "1.2.0", name="sglang_router")
    (server.folder / "sglang-1.2.0.tar.gz").write_bytes(b"source")
    wheels = index.find("SGLang", "1.2")
    assert [wheel.filename for wheel in wheels] == [paths[1].name, paths[0].name]
    assert [wheel.tags for wheel in wheels] == [(X86,), (ARM,)]
    for wheel in wheels:
        assert (
            wheel.sha256
            == hashlib.sha256((server.folder / wheel.filename).read_bytes()).hexdigest()
        )
        assert wheel.version == "1.2.0"
        if style == "json":
            assert wheel.size == (server.folder / wheel.filename).stat().st_size


def test_no_version_means_the_newest_that_is_final(server: Server) -> None:
    for version in ("1.9.0", "1.10.0", "2.0.0rc1"):
        make_wheel(server.folder, version)
    assert {wheel.version for wheel in index.find("sglang")} == {"1.10.0"}
    assert index.versions("sglang") == ("1.9.0", "1.10.0", "2.0.0rc1")


def test_an_unknown_version_names_its_neighbours(server: Server) -> None:
    for minor in range(1, 9):
        make_wheel(server.folder, f"1.{minor}.0")
    with pytest.raises(CannotRun) as caught:
        index.find("sglang", "1.4.7")
    assert caught.value.message.endswith(
        "no release 1.4.7; the nearest are: 1.2.0, 1.3.0, 1.4.0, 1.5.0, 1.6.0, 1.7.0"
    )


def test_a_release_with_a_source_archive_only(server: Server) -> None:
    (server.folder / "sglang-0.5.0.tar.gz").write_bytes(b"source")
    make_wheel(server.folder, "0.6.0")
    with pytest.raises(CannotRun, match="only a source archive") as caught:
        index.find("sglang", "0.5.0")
    assert caught.value.hint == "use the git tag: the same command with --source git"


def test_what_is_no_version_is_a_usage_error(server: Server) -> None:
    with pytest.raises(UsageError, match="'latest' is not a release"):
        index.find("sglang", "latest")
    assert server.seen == []


def test_a_server_that_is_down_gets_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(Server(tmp_path)) as gone:
        pass
    use_index(monkeypatch, INDEX_URL=gone.url.replace("//", "//me:secret@"))
    with pytest.raises(CannotRun) as caught:
        index.find("sglang", "1.0")
    assert caught.value.message == (
        f"the package index cannot be reached: {gone.url}/sglang/ (Connection refused)"
    )
    assert caught.value.hint is not None
    for way in ("--source PATH", "PIP_INDEX_URL=URL", "PIP_FIND_LINKS=DIR"):
        assert way in caught.value.hint


def test_an_index_that_lacks_the_project_is_passed_over(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine whose extra index holds other packages only."""
    empty, full = tmp_path / "empty" / "simple", tmp_path / "full"
    (empty / "other").mkdir(parents=True)
    wheel = make_wheel(full / "files", "3.0")
    page = full / "simple" / "sglang" / "index.html"
    page.parent.mkdir(parents=True)
    sha = index.sha256_of(wheel)
    page.write_text(f'<a href="../../files/{wheel.name}#sha256={sha}">{wheel.name}</a>')
    extra = f"{empty.as_uri()} {(full / 'simple').as_uri()}"
    use_index(monkeypatch, INDEX_URL=server.url, EXTRA_INDEX_URL=extra)
    make_wheel(server.folder, "1.0")
    assert index.versions("sglang") == ("1.0", "3.0")
    (listed,) = index.find("sglang", "3.0")
    assert (listed.url, listed.sha256) == (wheel.as_uri(), sha)
    assert index.fetch(listed, tmp_path / "cache").read_bytes() == wheel.read_bytes()


@pytest.mark.parametrize("kind", ["folder", "page on disk", "page on a server"])
def test_find_links(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    links = tmp_path / "links"
    wheel = make_wheel(links, "1.0")
    sha = index.sha256_of(wheel)
    place = str(links)
    if kind == "page on disk":
        page = tmp_path / "page.html"
        page.write_text(f'<a href="links/{wheel.name}#sha256={sha}">get it here</a>')
        place = page.as_uri()
    if kind == "page on a server":
        make_wheel(server.folder, "1.0")
        place = f"{server.url}/sglang/"
    use_index(monkeypatch, NO_INDEX="1", FIND_LINKS=place)
    (listed,) = index.find("sglang", "1.0")
    assert (listed.filename, listed.sha256) == (wheel.name, sha)
    assert index.fetch(listed, tmp_path / "cache").read_bytes() == wheel.read_bytes()


def test_pip_config_is_merged_as_pip_merges_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = http://127.0.0.1:1/a\nextra-index-url = file:///x\n  file:///y\n"
        "cert = /ca.pem\ntimeout = 7\ntrusted-host = 127.0.0.1\n"
        "[install]\nindex-url = http://127.0.0.1:1/b\nclient-cert = /me.pem\n"
    )
    use_index(monkeypatch, PROXY="http://127.0.0.1:3128", FIND_LINKS="/w1 /w2")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setattr(index, "sys", sys)  # pip itself is asked
    assert index.pip_config() == PipConfig(
        indexes=("http://127.0.0.1:1/b", "file:///x", "file:///y"),
        links=("/w1", "/w2"),
        cert="/ca.pem",
        client_cert="/me.pem",
        proxy="http://127.0.0.1:3128",
        timeout=7.0,
        trusted=("127.0.0.1",),
    )


def test_the_proxy_of_pips_configuration_is_used(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = "http://127.0.0.1:1/simple"
    use_index(monkeypatch, INDEX_URL=nowhere, PROXY=server.url.removesuffix("/simple"))
    with pytest.raises(CannotRun, match="no index has a wheel of sglang"):
        index.find("sglang")
    assert server.seen == [(f"{nowhere}/sglang/", None)]


def test_without_pip_its_environment_still_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_pip = tmp_path / "python"
    no_pip.write_text("#!/bin/sh\nexit 1\n")
    no_pip.chmod(0o755)
    use_index(monkeypatch, INDEX_URL="http://127.0.0.1:1/a", DEFAULT_TIMEOUT="9")
    monkeypatch.setattr(sys, "executable", str(no_pip))
    config = index.pip_config()
    assert (config.indexes, config.timeout) == (("http://127.0.0.1:1/a",), 9.0)


# -- choosing ----------------------------------------------------------------------------------


def test_choose_takes_the_interpreters_best() -> None:
    wheels = [
        WheelFile(f"sglang-1.0-{tag}.whl", "", None, None, "1.0", (tag,))
        for tag in ("py3-none-any", X86, ARM)
    ]
    assert index.choose(wheels, [X86, "py3-none-any"]).tags == (X86,)
    assert index.choose(wheels, ["cp310-cp310-linux_x86_64", "py3-none-any"]).tags == (
        "py3-none-any",
    )
    for order in (wheels, wheels[::-1]):
        assert index.choose(order[:], ["cp39-cp39-win32"]).tags == (X86,)
    assert index.fitting(wheels, ["cp39-cp39-win32"]) is None


# -- fetching ----------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def part_of(wheel: WheelFile, cache: Path) -> Path:
    return cache / str(wheel.sha256) / f"{wheel.filename}.part"


@pytest.fixture
def wheel(server: Server) -> WheelFile:
    """A wheel of about 300 kB on the server."""
    noise = b"".join(hashlib.sha256(bytes([n, m])).digest() for n in range(40) for m in range(250))
    make_wheel(server.folder, "1.0", files={"sglang/data.bin": noise})
    return index.find("sglang", "1.0")[0]


def test_fetch_then_never_again(cache: Path, server: Server, wheel: WheelFile) -> None:
    heard = Heard()
    path = index.fetch(wheel, cache, heard)
    assert path == cache / str(wheel.sha256) / wheel.filename
    assert path.read_bytes() == (server.folder / wheel.filename).read_bytes()
    assert heard.total == heard.amount == wheel.size
    assert index.fetch(wheel, cache) == path
    assert server.asked(".whl") == [None]


def test_a_file_damaged_in_the_cache_is_fetched_again(
    cache: Path, server: Server, wheel: WheelFile
) -> None:
    path = index.fetch(wheel, cache)
    good = path.read_bytes()
    path.write_bytes(good[:-1] + b"x")
    assert index.fetch(wheel, cache).read_bytes() == good


def test_a_wrong_hash_is_refused_and_leaves_nothing(
    cache: Path, server: Server, wheel: WheelFile
) -> None:
    other = index.fetch(wheel, cache)
    before = snapshot(cache)
    make_wheel(server.folder, "2.0")
    name = f"sglang-2.0-{X86}.whl"
    server.hashes[name] = promised = "0" * 64
    with pytest.raises(CannotRun) as caught:
        index.fetch(index.find("sglang", "2.0")[0], cache)
    assert promised in caught.value.message
    assert index.sha256_of(server.folder / name) in caught.value.message
    assert snapshot(cache) == before
    assert other.exists()


def test_a_broken_transfer_goes_on_where_it_stopped(
    cache: Path, server: Server, wheel: WheelFile
) -> None:
    server.break_after = 100_000
    with pytest.raises(CannotRun, match="broke off") as caught:
        index.fetch(wheel, cache)
    assert caught.value.hint is not None
    assert "run the same command again" in caught.value.hint
    part = part_of(wheel, cache)
    have = part.stat().st_size
    assert 0 < have <= 100_000
    server.break_after = None
    heard = Heard()
    path = index.fetch(wheel, cache, heard)
    assert server.asked(".whl") == [None, f"bytes={have}-"]
    assert path.read_bytes() == (server.folder / wheel.filename).read_bytes()
    assert heard.amount == wheel.size
    assert not part.exists()


@pytest.mark.slow(5)
def test_a_server_that_sends_a_byte_now_and_then_is_given_up(
    cache: Path, server: Server, wheel: WheelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte comes before pip's timeout, so that the transfer would go on for days."""
    monkeypatch.setenv("PIP_TIMEOUT", "0.5")
    server.drip = 0.05
    with pytest.raises(CannotRun, match=r"broke off: only \d+ bytes came in \d+ seconds") as caught:
        index.fetch(wheel, cache)
    assert "it goes on from where it stopped" in str(caught.value.hint)
    with pytest.raises(CannotRun, match=r"only \d+ bytes came in \d+ seconds"):
        index.find("sglang")
    server.drip = None
    assert index.fetch(wheel, cache).is_file()
    assert server.asked(".whl")[-1] != "bytes=0-"


def test_a_page_without_an_end_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_PAGE", 20)
    with pytest.raises(CannotRun, match="its page has more than 20 bytes"):
        index.find("sglang")


def test_a_server_without_range_starts_over(cache: Path, server: Server, wheel: WheelFile) -> None:
    server.break_after, server.ranges = 100_000, False
    with pytest.raises(CannotRun, match="broke off"):
        index.fetch(wheel, cache)
    server.break_after = None
    path = index.fetch(wheel, cache)
    assert server.asked(".whl") == [None, "bytes=100000-"]
    assert path.read_bytes() == (server.folder / wheel.filename).read_bytes()


def test_a_part_that_was_damaged_costs_one_more_run(
    cache: Path, server: Server, wheel: WheelFile
) -> None:
    part = part_of(wheel, cache)
    part.parent.mkdir(parents=True)
    part.write_bytes(b"rubbish")
    with pytest.raises(CannotRun, match="not what the index promised"):
        index.fetch(wheel, cache)
    assert index.fetch(wheel, cache).is_file()


def test_a_wheel_without_a_hash_is_refused_unless_it_is_local(
    cache: Path, server: Server, wheel: WheelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.hashes[wheel.filename] = None
    (bare,) = index.find("sglang", "1.0")
    with pytest.raises(CannotRun, match="no sha256"):
        index.fetch(bare, cache)
    assert server.asked(".whl") == []
    use_index(monkeypatch, NO_INDEX="true", FIND_LINKS=str(server.folder))
    (local,) = index.find("sglang", "1.0")
    assert index.fetch(local, cache).is_file()


def test_a_full_disk_keeps_the_part(cache: Path, server: Server, wheel: WheelFile) -> None:
    with largest_file(150_000), pytest.raises(CannotRun, match=r"cannot keep .* File too large"):
        index.fetch(wheel, cache)
    part = part_of(wheel, cache)
    assert 0 < part.stat().st_size <= 150_000
    assert index.fetch(wheel, cache).is_file()
    assert server.asked(".whl")[1] is not None


def test_a_cache_that_cannot_be_written(tmp_path: Path, server: Server, wheel: WheelFile) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CannotRun, match="Not a directory") as caught:
        index.fetch(wheel, tmp_path / "file")
    assert caught.value.hint is not None
    assert "FIXTOOL_CACHE_DIR" in caught.value.hint


def test_two_runs_at_once_do_not_mix(cache: Path, server: Server, wheel: WheelFile) -> None:
    server.hold = threading.Event()
    paths: list[Path] = []
    first = threading.Thread(target=lambda: paths.append(index.fetch(wheel, cache)))
    first.start()
    assert server.held.wait(GENEROUS)
    with pytest.raises(CannotRun, match="is in use by process"):
        index.fetch(wheel, cache)
    server.hold.set()
    first.join()
    assert [index.sha256_of(path) for path in paths] == [wheel.sha256]


def test_a_file_that_the_index_lists_and_does_not_have(
    cache: Path, server: Server, wheel: WheelFile
) -> None:
    gone = replace(wheel, url=wheel.url + ".gone")
    with pytest.raises(CannotRun, match="404"):
        index.fetch(gone, cache)
    assert snapshot(cache) == {}


# -- the module --------------------------------------------------------------------------------


def test_importing_is_cheap() -> None:
    code = "import fixtool.sources.index, fixtool.sources.release, fixtool.wheel.build, sys; print(*sys.modules)"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "fixtool.wheel.build" in out
    assert {"pypi_simple", "requests", "pyproject_metadata"} & set(out) == set()


@pytest.mark.parametrize("module", [index, release, build], ids=lambda module: module.__name__)
def test_no_host_is_written_down(module: ModuleType) -> None:
    hosts = set(re.findall(r"\b(?:https?|ssh|git)://([\w.-]+)", inspect.getsource(module)))
    assert hosts <= {"127.0.0.1"}


@pytest.mark.pypi
def test_the_real_index(online: None) -> None:
    wheels = index.find("sglang", "0.5.23")
    assert len(wheels) == 6
    assert all(wheel.sha256 and wheel.size for wheel in wheels)
    assert index.choose(wheels, [ARM]).tags == (ARM,)
    with pytest.raises(CannotRun, match=r"the nearest are: .*0\.5\.23"):
        index.find("sglang", "0.5.9999")
