"""Real certificates, made by openssl for a test."""

import subprocess
from pathlib import Path

from support.timing import limit_s


class Authority:
    """A certificate authority of the test's own, and what it signs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.certificate = folder / "ca.pem"
        self._key = folder / "ca.key"
        _openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-keyout", self._key, "-out", self.certificate, "-subj", "/CN=test authority",
            "-addext", "basicConstraints=critical,CA:TRUE",
        )  # fmt: skip

    def sign(self, name: str, serial: int) -> tuple[Path, Path]:
        """Certificate and key for localhost; another serial makes another certificate of the same name."""
        certificate, key, request = (self._folder / f"{name}-{serial}.{kind}" for kind in ("pem", "key", "csr"))
        extensions = self._folder / "extensions"
        extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
        _openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", key, "-out", request, "-subj", f"/CN={name}",
        )  # fmt: skip
        _openssl(
            "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key, "-set_serial", str(serial),
            "-days", "2", "-out", certificate, "-extfile", extensions,
        )  # fmt: skip
        return certificate, key


def _openssl(*arguments: str | Path) -> None:
    done = subprocess.run(
        ["openssl", *map(str, arguments)], capture_output=True, text=True, timeout=limit_s(30), check=False
    )
    assert done.returncode == 0, done.stderr
