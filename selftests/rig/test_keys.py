"""The lab's keys: made once, private, and both sides fit."""

from pathlib import Path

import pytest
from cpuidlab.base.errors import LabError
from cpuidlab.rig.keys import Keys, lab_keys


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        made = lab_keys()
        assert lab_keys() == made
    return made


def test_nobody_else_reads_them(keys: Keys) -> None:
    assert keys.folder.stat().st_mode & 0o777 == 0o700


def test_the_public_key_is_the_clients(keys: Keys) -> None:
    kind, base64 = keys.client_public.read_text().split()[:2]
    assert (kind, base64) == (keys.client.get_name(), keys.client.get_base64())
    assert keys.client.can_sign()


def test_the_pinned_key_is_the_host_s_and_no_other(keys: Keys) -> None:
    assert keys.pinned.encode() != keys.client.get_base64().encode()
    assert keys.pinned in (keys.folder / "host_key.pub").read_text()
    assert keys.host_key_dropbear.stat().st_size > 64


@pytest.mark.parametrize("damage", [b"", b"no key", b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"])
def test_a_damaged_key_is_one_line_that_says_what_to_do(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "client_key").write_bytes(damage)
    with pytest.raises(LabError, match=f"client_key is damaged; remove {tmp_path} and run again"):
        _ = Keys(tmp_path).client


@pytest.mark.parametrize("name", ["host_key", "client_key.pub"])
def test_each_key_changes_the_digest(keys: Keys, tmp_path: Path, name: str) -> None:
    for file in ("host_key", "client_key.pub"):
        (tmp_path / file).write_bytes((keys.folder / file).read_bytes())
    assert Keys(tmp_path).digest == keys.digest
    (tmp_path / name).write_text("another")
    assert Keys(tmp_path).digest != keys.digest
