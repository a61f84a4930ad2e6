"""Files are written whole: after a failure the old contents stand, and no draft is left."""

import os
import stat
from pathlib import Path

import pytest

from suffice.errors import InputError
from suffice.files import check_figure, check_file, check_folder, write_file, write_folder


def test_a_file_is_replaced_with_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    write_file(path, "one")
    path.chmod(0o600)
    write_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_the_old_contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "page.html"
    write_file(path, "old")

    def fail(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(InputError, match=r"cannot write .*page\.html: No space left on device"):
        write_file(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_followed_and_a_pipe_is_written_to(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    link.symlink_to(real)
    write_file(link, "through")
    assert link.is_symlink()
    assert real.read_text() == "through"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_file(pipe, "into")
    assert os.read(reader, 10) == b"into"
    os.close(reader)
    assert pipe.is_fifo()


def test_a_folder_whose_member_cannot_be_written_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    write_folder(folder, {"policy": b"1", "certificate": b"1"})
    (folder / "certificate").unlink()
    (folder / "certificate").mkdir()
    with pytest.raises(InputError, match="certificate: it is a folder"):
        write_folder(folder, {"policy": b"2", "certificate": b"2"})
    assert (folder / "policy").read_bytes() == b"1"
    with pytest.raises(InputError, match="cannot write"):
        write_folder(folder / "policy" / "below", {"policy": b"3"})


def test_places_are_checked_before_long_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check_file(tmp_path / "new")
    check_folder(tmp_path / "deep" / "down")
    check_figure(tmp_path / "new.svg")
    for check, path in (
        (check_file, tmp_path),
        (check_file, tmp_path / "none" / "new"),
        (check_file, tmp_path / "file" / "new"),
        (check_folder, tmp_path / "file"),
        (check_folder, tmp_path / "file" / "below"),
        (check_figure, tmp_path / "new.gif"),
        (check_figure, tmp_path / "none" / "new.svg"),
    ):
        with pytest.raises(InputError) as caught:
            check(path)
        assert caught.value.hint
