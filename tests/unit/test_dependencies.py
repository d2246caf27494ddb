"""What the wheel is made of: one HTTP client, and no OpenSSL."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import tomllib

LOCK = Path(__file__).resolve().parents[2] / "Cargo.lock"


def test_there_is_one_http_client_and_no_openssl() -> None:
    names = Counter(package["name"] for package in tomllib.loads(LOCK.read_text())["package"])
    assert names["reqwest"] == names["rustls"] == 1
    assert not [name for name in names if "openssl" in name or name == "native-tls"]
