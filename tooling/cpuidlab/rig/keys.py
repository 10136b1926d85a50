"""The SSH keys of the lab: made once and kept in the user's cache. Each side accepts only the key of the other."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

from cpuidlab.base.artifact_kinds import Kind
from cpuidlab.base.artifacts import file_digest, made
from cpuidlab.base.command import run
from cpuidlab.base.errors import LabError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from paramiko import PKey

# New keys change every image, and with the images every rig.
KEYS = Kind("keys", cost=3600)
# A VM that is emulated signs quickest with Ed25519, and checks a signature of RSA in a quarter of the time.
KINDS = {"host_key": "ed25519", "client_key.dropbear": "rsa"}


@dataclass(frozen=True)
class Keys:
    """The host key that every VM shows, and the client key that every VM lets in: files in `folder`."""

    folder: Path

    @property
    def host_key_dropbear(self) -> Path:
        """The private host key of the VMs, in dropbear's own format."""
        return self.folder / "host_key"

    @property
    def client_public(self) -> Path:
        """The client's public key, a line for authorized_keys."""
        return self.folder / "client_key.pub"

    @property
    def digest(self) -> str:
        """Changes when a key does."""
        return file_digest(self.host_key_dropbear) + file_digest(self.client_public)

    @cached_property
    def pinned(self) -> str:
        """The host key that a VM must show, in base64."""
        return (self.folder / "host_key.pub").read_text().split()[1]

    @cached_property
    def client(self) -> PKey:
        """The client's private key. Raises LabError where its file is damaged."""
        from cryptography.hazmat.primitives.serialization import load_ssh_private_key  # noqa: PLC0415  see login.py
        from paramiko import RSAKey  # noqa: PLC0415

        file = self.folder / "client_key"
        try:  # unchecked: the check takes 50 ms, and with wrong numbers in the key no VM would let us in
            private = load_ssh_private_key(file.read_bytes(), None, unsafe_skip_rsa_key_validation=True)
        except ValueError as error:
            raise LabError(f"{file} is damaged; remove {self.folder} and run again") from error
        return RSAKey(key=cast("RSAPrivateKey", private))


def lab_keys() -> Keys:
    """Return the keys of this cache. They are made at first use."""

    def make(folder: Path) -> None:
        folder.chmod(0o700)
        for name, kind in KINDS.items():
            printed = run(["dropbearkey", "-t", kind, "-f", str(folder / name)], seconds=60)
            public = next(line for line in printed.splitlines() if line.startswith(f"ssh-{kind} "))
            (folder / f"{name.removesuffix('.dropbear')}.pub").write_text(public + "\n")
        pair = [str(folder / "client_key.dropbear"), str(folder / "client_key")]
        run(["dropbearconvert", "dropbear", "openssh", *pair], seconds=60)

    return Keys(made(KEYS, "lab", {"form": "2"}, make))
