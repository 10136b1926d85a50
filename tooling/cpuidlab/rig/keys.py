"""The SSH keys of the lab: made once and kept in the user's cache. Each side accepts only the key of the other."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from paramiko import Ed25519Key
from paramiko.pkey import PKey

from cpuidlab.base.artifact_kinds import Kind
from cpuidlab.base.artifacts import file_digest, made
from cpuidlab.base.command import run

# New keys change every image, and with the images every rig.
KEYS = Kind("keys", cost=3600)


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
        """The client's private key."""
        return Ed25519Key.from_private_key_file(str(self.folder / "client_key"))


def lab_keys() -> Keys:
    """Return the keys of this cache. They are made at first use."""

    def make(folder: Path) -> None:
        folder.chmod(0o700)
        for name in ("host_key", "client_key.dropbear"):
            printed = run(["dropbearkey", "-t", "ed25519", "-f", str(folder / name)], seconds=60)
            public = next(line for line in printed.splitlines() if line.startswith("ssh-ed25519 "))
            (folder / f"{name.removesuffix('.dropbear')}.pub").write_text(public + "\n")
        pair = [str(folder / "client_key.dropbear"), str(folder / "client_key")]
        run(["dropbearconvert", "dropbear", "openssh", *pair], seconds=60)

    return Keys(made(KEYS, "ed25519", {"form": "1"}, make))
