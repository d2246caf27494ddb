"""The configuration files of every service: only what differs from its defaults."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.lab.cloud.software import ENVIRONMENT

PASSWORD = "lab-secret-7d1f03"
DATABASES = (
    *("keystone", "glance", "placement", "nova_api", "nova", "nova_cell0", "neutron"),
    "cinder",
)
PORTS = {
    "keystone": 0,
    "glance": 1,
    "placement": 2,
    "nova": 3,
    "neutron": 4,
    "metadata": 5,
    # 6 is the database's.
    "keystone-tls": 7,
    "cinder": 8,
}
REGION = "RegionOne"
HOST = "fakehost"
# On which servers run: two, so that a pair can be kept apart.
HYPERVISORS = (HOST, f"{HOST}-2")


@dataclass(frozen=True)
class Place:
    """Where a plane lives."""

    home: Path
    address: str
    base: int

    @property
    def database(self) -> int:
        """The port of its database."""
        return self.base + 6

    @property
    def deletions(self) -> Path:
        """What is locked while no server may go."""
        return self.home / "state" / "nova" / "deletions"

    def url(self, service: str) -> str:
        return f"http://{self.address}:{self.base + PORTS[service]}"

    def dsn(self, name: str) -> str:
        return f"mysql+pymysql://lab:{PASSWORD}@{self.address}:{self.database}/{name}?charset=utf8"


def write(place: Place) -> None:
    """Writes all of them, anew."""
    files = {
        "keystone/keystone.conf": _keystone(place),
        "glance/glance-api.conf": _glance(place),
        "placement/placement.conf": _placement(place),
        "nova/nova.conf": _nova(place),
        "neutron/neutron.conf": _neutron(place),
        "cinder/cinder.conf": _cinder(place),
        # How the driver of this lab is found: as that of any package.
        "plugins/lab_cloud-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: lab-cloud\nVersion: 1\n",
        "plugins/lab_cloud-1.dist-info/entry_points.txt": (
            "[neutron.ml2.mechanism_drivers]\ndeclared = tests.lab.cloud.binding:Declared\n"
        ),
    }
    for name, text in files.items():
        path = place.home / "etc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for source in (
        *("nova/api-paste.ini", "neutron/api-paste.ini", "cinder/api-paste.ini"),
        *("cinder/resource_filters.json", "glance/glance-api-paste.ini"),
    ):
        shutil.copy(ENVIRONMENT / "etc" / source, place.home / "etc" / source)
    for folder in ("fernet", "credential"):
        (place.home / "keys" / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
    for folder in ("images", "staging", "tasks", "nova", "neutron", "cinder", "log"):
        (place.home / "state" / folder).mkdir(parents=True, exist_ok=True)


def environment(place: Place) -> dict[str, str]:
    """What every process of the plane gets."""
    etc = place.home / "etc"
    from tests.lab.cloud.software import REPOSITORY  # noqa: PLC0415  (one word of it)

    return {
        "PATH": f"{ENVIRONMENT / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(place.home),
        "XDG_CACHE_HOME": str(place.home / "cache"),
        "PYTHONPATH": f"{REPOSITORY}:{etc / 'plugins'}",
        "PYTHONWARNINGS": "ignore",
        "LANG": "C.UTF-8",
        "OS_KEYSTONE_CONFIG_DIR": str(etc / "keystone"),
        "OS_GLANCE_CONFIG_DIR": str(etc / "glance"),
        "OS_PLACEMENT_CONFIG_DIR": str(etc / "placement"),
        "OS_NOVA_CONFIG_DIR": str(etc / "nova"),
        "OS_NEUTRON_CONFIG_DIR": str(etc / "neutron"),
        "OS_NEUTRON_CONFIG_FILES": "neutron.conf",
        "LAB_NOVA_CONF": str(etc / "nova" / "nova.conf"),
        "LAB_NOVA_DELETIONS": str(place.deletions),
        "LAB_CINDER_CONF": str(etc / "cinder" / "cinder.conf"),
    }


def _account(place: Place) -> str:
    keystone = f"{place.url('keystone')}/v3"
    return f"""
auth_type = password
auth_url = {keystone}
www_authenticate_uri = {keystone}
username = svc
password = {PASSWORD}
project_name = service
user_domain_name = Default
project_domain_name = Default
region_name = {REGION}
service_token_roles_required = true
"""


def _keystone(place: Place) -> str:
    return f"""
[DEFAULT]
use_stderr = true
[database]
connection = {place.dsn("keystone")}
[identity]
# Logins cost the test machine, not an attacker.
password_hash_rounds = 4
[token]
provider = fernet
[fernet_tokens]
key_repository = {place.home}/keys/fernet
[fernet_receipts]
key_repository = {place.home}/keys/fernet
[credential]
key_repository = {place.home}/keys/credential
"""


def _glance(place: Place) -> str:
    state = place.home / "state"
    return f"""
[DEFAULT]
use_stderr = true
enabled_backends = fs:file
node_staging_uri = file://{state}/staging
[glance_store]
default_backend = fs
[fs]
filesystem_store_datadir = {state}/images
[os_glance_staging_store]
filesystem_store_datadir = {state}/staging
[os_glance_tasks_store]
filesystem_store_datadir = {state}/tasks
[database]
connection = {place.dsn("glance")}
[keystone_authtoken]
{_account(place)}
[paste_deploy]
flavor = keystone
config_file = {place.home}/etc/glance/glance-api-paste.ini
"""


def _placement(place: Place) -> str:
    return f"""
[DEFAULT]
use_stderr = true
[placement_database]
connection = {place.dsn("placement")}
[api]
auth_strategy = keystone
[keystone_authtoken]
{_account(place)}
"""


def _nova(place: Place) -> str:
    account = _account(place)
    return f"""
[DEFAULT]
use_stderr = true
host = {HOST}
my_ip = {place.address}
state_path = {place.home}/state/nova
compute_driver = fake.Hypervisor
transport_url = fake:///
vif_plugging_is_fatal = false
vif_plugging_timeout = 0
metadata_workers = 1
[api_database]
connection = {place.dsn("nova_api")}
[database]
connection = {place.dsn("nova")}
[api]
auth_strategy = keystone
[scheduler]
workers = 1
discover_hosts_in_cells_interval = 5
[conductor]
workers = 1
[wsgi]
api_paste_config = {place.home}/etc/nova/api-paste.ini
[keystone_authtoken]
{account}
[service_user]
send_service_user_token = true
{account}
[placement]
{account}
[neutron]
{account}
service_metadata_proxy = true
metadata_proxy_shared_secret = {PASSWORD}
[glance]
endpoint_override = {place.url("glance")}
[cinder]
{account}
os_region_name = {REGION}
[oslo_concurrency]
lock_path = {place.home}/state/nova
[oslo_messaging_notifications]
driver = noop
"""


def _neutron(place: Place) -> str:
    return f"""
[DEFAULT]
use_stderr = true
host = {HOST}
state_path = {place.home}/state/neutron
core_plugin = ml2
service_plugins =
transport_url = fake:///
rpc_workers = 0
rpc_state_report_workers = 0
api_paste_config = {place.home}/etc/neutron/api-paste.ini
notify_nova_on_port_status_changes = false
notify_nova_on_port_data_changes = false
[database]
connection = {place.dsn("neutron")}
[keystone_authtoken]
{_account(place)}
[nova]
{_account(place)}
[ml2]
type_drivers = local,flat,vlan,vxlan
tenant_network_types = vxlan
mechanism_drivers = declared
extension_drivers = port_security
[ml2_type_vxlan]
vni_ranges = 1:1000
[oslo_concurrency]
lock_path = {place.home}/state/neutron
[oslo_policy]
[oslo_messaging_notifications]
driver = noop
"""


def _cinder(place: Place) -> str:
    return f"""
[DEFAULT]
use_stderr = true
host = {HOST}
my_ip = {place.address}
state_path = {place.home}/state/cinder
transport_url = fake:///
auth_strategy = keystone
enabled_backends = declared
# Several services in one process report as the last of them that was started.
service_down_time = 86400
api_paste_config = {place.home}/etc/cinder/api-paste.ini
resource_query_filters_file = {place.home}/etc/cinder/resource_filters.json
glance_api_servers = {place.url("glance")}
[declared]
volume_driver = tests.lab.cloud.storage.Declared
volume_backend_name = declared
[database]
connection = {place.dsn("cinder")}
[keystone_authtoken]
{_account(place)}
[oslo_concurrency]
lock_path = {place.home}/state/cinder
[oslo_messaging_notifications]
driver = noop
"""
