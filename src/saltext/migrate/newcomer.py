"""
The minion of a host that does not exist yet: its key, accepted beforehand, and what the host runs at its first boot.
And the key of a host that is no more: taken away, so that whoever has its disk is nobody.

The private half leaves here once, inside the user data; a copy of the public half is kept in the migration's own
folder, so that a key of ours is told from one that somebody else had accepted.
"""

from __future__ import annotations

import base64
import json
import os
import re
from pathlib import Path
from typing import Any

import salt.crypt
import salt.utils.crypt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from salt.exceptions import CommandExecutionError

Dunders = dict[str, Any]

BITS = 2048
# An image brings its minion; it only has to read what was written for it.
FIRST_BOOT = ["systemctl enable salt-minion.service", "systemctl restart salt-minion.service"]


def answer(opts: Dunders, folder: Path, asked: dict[str, Any]) -> Any:
    """Answer one question of the engine about a new host."""
    if asked["ask"] == "known":
        return [host for host in asked["hosts"] if _somebody_elses(opts, folder, host)]
    if asked["ask"] == "accepted":
        return [host for host in asked["hosts"] if _accepted(opts, host).exists()]
    if asked["ask"] == "revoke":
        return [revoke(opts, host) for host in asked["hosts"]]
    return user_data(opts, folder, asked["host"], asked["masters"], asked["commands"])


def revoke(opts: Dunders, host: str) -> str:
    """
    Take away the key of a minion; one that has none is no error.

    opts
        The master's configuration.
    host
        The minion's id, in full.
    """
    _accepted(opts, host).unlink(missing_ok=True)
    # Only a new session key makes the old one useless to who still has it.
    salt.crypt.dropfile(opts["cachedir"], opts["user"])
    return host


def user_data(
    opts: Dunders, folder: Path, host: str, masters: list[str], commands: list[str]
) -> str:
    """
    Make and accept a key for a minion, and return its cloud-config in base64.

    opts
        The master's configuration.
    folder
        Where the copy of the public half is kept.
    host
        The minion's id.
    masters
        Whom the minion obeys; empty means the name ``salt``.
    commands
        Shell lines to run once it is configured; empty restarts the minion of the image.
    """
    if _somebody_elses(opts, folder, host):
        # Accepted since the checks looked.
        raise CommandExecutionError(
            f"somebody accepted another key of {host}\nhint: salt-key -d {host}, if that is the one to be replaced"
        )
    private, public = _key_pair()
    config: dict[str, Any] = {"id": host}
    if masters:
        config["master"] = masters[0] if len(masters) == 1 else masters
    if len(masters) > 1:
        # What a minion says when it is asked whom it obeys.
        config |= {"master_type": "str", "migrate_masters": masters}
    # A minion keeps one key for all its masters; it has it before it hears any of them, so that none is taken on trust.
    master_key, config["master_finger"] = _master(opts)
    first = "#cloud-config\n" + json.dumps(
        {
            "write_files": [
                _file("/etc/salt/minion.d/90-saltext-migrate.conf", json.dumps(config), "0644"),
                _file("/etc/salt/pki/minion/minion.pem", private, "0400"),
                _file("/etc/salt/pki/minion/minion.pub", public, "0644"),
                _file("/etc/salt/pki/minion/minion_master.pub", master_key, "0644"),
            ],
            "runcmd": [["sh", "-c", line] for line in commands or FIRST_BOOT],
        }
    )
    # Kept first: a key that is accepted and not known as ours would be in our own way.
    _write(folder / "newcomers" / host, public, 0o600)
    _write(_accepted(opts, host), public, 0o644)
    return base64.b64encode(first.encode()).decode()


def _somebody_elses(opts: Dunders, folder: Path, host: str) -> bool:
    accepted, ours = _accepted(opts, host), folder / "newcomers" / host
    if not accepted.exists():
        return False
    return not ours.exists() or ours.read_text() != accepted.read_text()


def _accepted(opts: Dunders, host: str) -> Path:
    # It becomes a file name.
    if not re.fullmatch(r"[\w.-]{1,250}", host) or host.startswith("."):
        raise CommandExecutionError(f"{host!r} is no minion id\nhint: correct it in migrate:nodes")
    return Path(opts["pki_dir"], "minions", host)


def _master(opts: Dunders) -> tuple[str, str]:
    """Tell the master's public key, and its fingerprint."""
    path = Path(opts["pki_dir"], "master.pub")
    if not path.exists():
        raise CommandExecutionError(
            f"there is no {path}, so a new minion could not know its master\n"
            "hint: start the Salt master once, it makes its key"
        )
    finger = salt.utils.crypt.pem_finger(path=str(path), sum_type=opts["hash_type"])
    return path.read_text(), str(finger)


def _key_pair() -> tuple[str, str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=BITS)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private.decode(), public.decode()


def _file(path: str, content: str, mode: str) -> dict[str, str]:
    return {"path": path, "content": content, "permissions": mode}


def _write(path: Path, content: str, mode: int) -> None:
    """Write a file by rename, as whoever owns its folder: the master reads it as its own user."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.saltext-migrate")
    with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as file:
        file.write(content)
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(half, owner.st_uid, owner.st_gid)
    half.rename(path)
