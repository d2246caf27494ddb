"""Owns a certificate authority of a test's own, and what it signs: by address, as servers are reached."""

from __future__ import annotations

import subprocess
from pathlib import Path


class Authority:
    """Makes its key on first sight; everything stays below one folder."""

    def __init__(self, folder: Path, name: str = "the lab's own authority") -> None:
        self.folder = folder
        self.certificate = folder / "ca.pem"
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        self._openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", f"/CN={name}", "-keyout", "ca.key", "-out", "ca.pem"),
            *("-addext", "basicConstraints=critical,CA:TRUE"),
        )

    def sign(self, name: str, address: str) -> tuple[Path, Path]:
        """Returns certificate and key of a server that is reached at an address."""
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName=IP:{address}\nbasicConstraints=CA:FALSE\n")
        self._openssl(
            *("req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}"),
            *("-keyout", f"{name}.key", "-out", f"{name}.csr"),
        )
        self._openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key"),
            *("-CAcreateserial", "-days", "2", "-extfile", str(extensions), "-out", f"{name}.pem"),
        )
        # The server runs as another user.
        (self.folder / f"{name}.key").chmod(0o644)
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)
