import subprocess

import pytest

from ssd_jax.storage.checksums import DamageError, verify_checksums, write_checksums


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "inner" / "deep").mkdir(parents=True)
    (tmp_path / "inner" / "deep" / "a").write_bytes(b"abc")
    (tmp_path / "b c").write_bytes(b"")
    (tmp_path / "other").write_bytes(b"x")
    write_checksums(tmp_path, ["inner", "b c"])
    return tmp_path


def test_the_form_equals_that_of_sha256sum(folder):
    # SHA-256 of nothing and of "abc", from FIPS 180.
    assert (folder / "SHA256SUMS").read_text() == (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  b c\n"
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  inner/deep/a\n"
    )
    subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, check=True, capture_output=True)


def test_intact_files_pass_and_other_files_are_ignored(folder):
    (folder / "other").write_bytes(b"y")
    verify_checksums(folder, ["inner", "b c"])


def test_only_requested_files_are_verified(folder):
    (folder / "b c").write_bytes(b"damaged")
    verify_checksums(folder, ["inner"])
    with pytest.raises(DamageError, match="b c differs from its checksum"):
        verify_checksums(folder, ["b c"])


def test_a_file_without_checksum_is_damage(folder):
    with pytest.raises(DamageError, match="it has no line for other"):
        verify_checksums(folder, ["other"])


def test_lost_lines_of_the_checksums_are_damage(folder):
    (folder / "inner" / "b").write_bytes(b"unlisted")
    with pytest.raises(DamageError, match="it has no line for inner/b"):
        verify_checksums(folder, ["inner"])
    (folder / "SHA256SUMS").write_bytes(b"")
    with pytest.raises(DamageError, match="it has no line for b c"):
        verify_checksums(folder, ["b c"])


def test_a_missing_file_is_damage(folder):
    (folder / "inner" / "deep" / "a").unlink()
    with pytest.raises(DamageError, match="inner/deep/a cannot be read: No such file"):
        verify_checksums(folder, ["inner"])


@pytest.mark.parametrize("content", [b"\xff", b"nothing\n", b"0" * 64 + b" a\n"])
def test_checksums_may_be_damaged_themselves(folder, content):
    (folder / "SHA256SUMS").write_bytes(content)
    with pytest.raises(DamageError, match="SHA256SUMS"):
        verify_checksums(folder, ["inner"])


def test_without_checksums_nothing_is_compared(folder):
    (folder / "SHA256SUMS").unlink()
    verify_checksums(folder, ["inner", "b c"])
