"""A small archive of packages on the loopback, signed with a key of its own, as apt reads any other."""

import gzip
import hashlib
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CONTROL = """\
Package: {name}
Version: {version}
Architecture: amd64
Maintainer: Nobody <nobody@example.org>
Description: a package of a selftest
"""
STANZA = """\
{control}Filename: {file}
Size: {size}
SHA256: {digest}

"""
RELEASE = """\
Origin: selftest
Suite: {suite}
Codename: {suite}
Date: {date}
{more}Architectures: amd64
Components: main
SHA256:
 {digest} {size} main/binary-amd64/Packages
 {packed_digest} {packed_size} main/binary-amd64/Packages.gz
"""
DATE = "Sat, 01 Jan 2022 00:00:00 UTC"


class Key:
    """A key that signs suites; `public` is the keyring that checks its signatures."""

    def __init__(self, home: Path) -> None:
        home.mkdir(mode=0o700)
        self._home = home
        self.public = home / "public.gpg"
        self._gpg("--quick-generate-key", "selftest", "ed25519", "sign", "never")
        self.public.write_bytes(self._gpg("--export"))

    def sign(self, text: str) -> bytes:
        """Return the text with its signature."""
        return self._gpg("--clearsign", text=text)

    def end(self) -> None:
        """End the agent that gpg has started."""
        subprocess.run(["gpgconf", "--homedir", str(self._home), "--kill", "all"], check=True)

    def _gpg(self, *words: str, text: str = "") -> bytes:
        line = ["gpg", "--homedir", str(self._home), "--batch", "--passphrase", "", "--pinentry-mode", "loopback"]
        return subprocess.run([*line, *words], input=text.encode(), capture_output=True, check=True).stdout


class SignedArchive:
    """One suite in a folder; `address` is its mirror once it is served."""

    def __init__(self, folder: Path, key: Key, suite: str = "own") -> None:
        self.folder, self.key, self.suite = folder, key, suite
        self.address = ""
        self._stanzas: list[str] = []

    @property
    def index(self) -> Path:
        return self.folder / f"dists/{self.suite}/main/binary-amd64/Packages.gz"

    def pool(self, name: str, version: str) -> Path:
        """The file of a package."""
        return self.folder / f"pool/{name}_{version}_amd64.deb"

    def add(self, name: str, version: str, files: Mapping[str, str], more: str = "") -> None:
        """Put a package with these files (path to text) into the archive; `more` are lines for its control file."""
        root = self.folder / "work" / name
        for path, text in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        self.add_tree(name, version, root, more)

    def add_tree(self, name: str, version: str, root: Path, more: str = "") -> None:
        """Put a package with what lies in the folder `root` into the archive."""
        control = CONTROL.format(name=name, version=version) + more
        (root / "DEBIAN").mkdir(parents=True)
        (root / "DEBIAN/control").write_text(control)
        deb = self.pool(name, version)
        deb.parent.mkdir(exist_ok=True, parents=True)
        subprocess.run(["dpkg-deb", "-Zgzip", "-z1", "--root-owner-group", "-b", str(root), str(deb)], check=True,
                       stdout=subprocess.DEVNULL)  # fmt: skip
        file, size = deb.relative_to(self.folder), deb.stat().st_size
        self._stanzas.append(STANZA.format(control=control, file=file, size=size, digest=_digest(deb.read_bytes())))

    def publish(self, more: str = "") -> None:
        """Write the index and sign it; `more` are lines for the file that is signed."""
        index = "".join(self._stanzas).encode()
        packed = gzip.compress(index)
        self.index.parent.mkdir(parents=True, exist_ok=True)
        self.index.write_bytes(packed)
        release = RELEASE.format(
            suite=self.suite, date=DATE, more=more, digest=_digest(index), size=len(index),
            packed_digest=_digest(packed), packed_size=len(packed),
        )  # fmt: skip
        (self.folder / f"dists/{self.suite}/InRelease").write_bytes(self.key.sign(release))

    @contextmanager
    def served(self) -> Iterator[None]:
        """Serve the archive over HTTP on the loopback."""
        with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(self.folder))) as server:
            self.address = f"http://127.0.0.1:{server.server_port}"
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Print nothing."""


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
