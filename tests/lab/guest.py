"""A host that boots as a server of a cloud: Debian's cloud-init, and what the cloud tells a new server of itself.

The packages are unpacked into the host's own disk and nowhere else: on this machine they would change its next boot.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

from tests.lab.hosts import Host, HostError

SOFTWARE = Path(__file__).resolve().parents[2] / "target" / "cloud-init"
# What the metadata service of a cloud has of a server.
TOLD = ("meta_data.json", "user_data", "vendor_data.json")
_SEED = "/var/lib/cloud/seed/config_drive/openstack/latest"
_UNITS = ("cloud-init-local", "cloud-init", "cloud-config", "cloud-final")
# The network is there already, and each host has a name of its own in the lab.
_SETTINGS = """\
datasource_list: [ConfigDrive, None]
network: {config: disabled}
preserve_hostname: true
locale: false
"""


def software() -> Path:
    """Returns the folder with cloud-init and what of it this machine lacks, fetching it on the first call ever."""
    if not SOFTWARE.exists():
        SOFTWARE.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=SOFTWARE.parent) as building:
            archives, root = Path(building, "archives"), Path(building, "root")
            (archives / "partial").mkdir(parents=True)
            root.mkdir()
            fetch = ["apt-get", "-q", "-y", "install", "--reinstall", "--download-only"]
            options = ["--no-install-recommends", f"-oDir::Cache::archives={archives}"]
            done = subprocess.run(
                [*fetch, *options, "cloud-init"], capture_output=True, text=True, timeout=240
            )
            if done.returncode:
                raise HostError(f"cloud-init cannot be had: {done.stderr.strip()[-500:]}")
            for archive in archives.glob("*.deb"):
                subprocess.run(["dpkg-deb", "-x", archive, root], check=True)
            # By rename: a fetch that was killed leaves no half of it behind.
            root.rename(SOFTWARE)
    return SOFTWARE


def blank(host: Host) -> None:
    """Switches a host off, and makes its disk an image: cloud-init, and a minion that has no key and does not run."""
    host.stop()
    # Not over /lib itself, which is a link.
    subprocess.run(
        ["rsync", "--archive", "--keep-dirlinks", f"{software()}/", f"{host.root}/"], check=True
    )
    (host.root / "etc/cloud/cloud-init.disabled").unlink(missing_ok=True)
    host.write("/etc/cloud/cloud.cfg.d/90-lab.cfg", _SETTINGS)
    system = host.root / "etc/systemd/system"
    wanted = system / "cloud-init.target.wants"
    wanted.mkdir(exist_ok=True)
    for unit in _UNITS:
        (wanted / f"{unit}.service").symlink_to(f"/lib/systemd/system/{unit}.service")
    (system / "multi-user.target.wants/salt-minion.service").unlink()
    for end in ("pem", "pub"):
        (host.root / f"etc/salt/pki/minion/minion.{end}").unlink(missing_ok=True)


def boot(host: Host, told: dict[str, bytes]) -> None:
    """Switches it on for the first time as a server that is told this, and waits until cloud-init is through.

    Raises `HostError` where cloud-init had anything to complain of, or is not who the cloud says.
    """
    if host.pid():
        raise HostError(f"{host.name} is the disk of a server that runs")
    for name, content in told.items():
        host.write(f"{_SEED}/{name}", content.decode())
    host.start()
    host.wait("cloud-final.service")
    host.run(["cloud-init", "status", "--wait", "--long"])
    host.run(["cloud-init", "schema", "--system"])
    is_, told_ = host.read("/var/lib/cloud/data/instance-id").strip(), told["meta_data.json"]
    if is_ != json.loads(told_)["uuid"]:
        raise HostError(f"{host.name} takes itself for {is_}, and was told {told_!r}")
