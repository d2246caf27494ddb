"""One service as a process, run by the OpenStack environment's own Python.

    python -m tests.lab.cloud.serving nova ADDRESS PORT [CERTIFICATE KEY]

Nova is its API, conductor, scheduler and two computes in one process, which talk over oslo.messaging's in-process
transport: so no message broker is needed. Everything else of it is as released. So it is with Cinder's API, scheduler
and volume.
"""

from __future__ import annotations

import fcntl
import importlib
import os
import sys
import threading
import traceback
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.lab.cloud.configuration import HYPERVISORS
from tests.lab.cloud.doors import Door

APPLICATIONS = {
    "keystone": "keystone.wsgi.api",
    "glance": "glance.wsgi.api",
    "placement": "placement.wsgi.api",
    "neutron": "neutron.wsgi.api",
    "nova": "nova.wsgi.osapi_compute",
    "metadata": "nova.wsgi.metadata",
    "cinder": "cinder.wsgi.api",
}


def _end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    # Threads of the service would keep a process alive that listens nowhere.
    traceback.print_exception(kind, error, trace)
    os._exit(1)


def _hypervisors() -> None:
    """Gives Nova's fake driver an identity for each host: as released it has one for each process.

    A guest of it takes as long to end as somebody holds the lock of deletions.
    """
    from nova.objects import Instance
    from nova.virt import fake

    class Hypervisor(fake.FakeDriver):  # type: ignore[misc]
        def get_available_resource(self, nodename: str) -> dict[str, Any]:
            identity = {"uuid": str(uuid.uuid5(uuid.NAMESPACE_DNS, nodename))}
            resources: dict[str, Any] = super().get_available_resource(nodename)
            return resources | identity

        def get_nodenames_by_uuid(self, refresh: bool = False) -> dict[str, str]:
            del refresh
            names = self.get_available_nodes()
            return {str(uuid.uuid5(uuid.NAMESPACE_DNS, name)): name for name in names}

        def destroy(self, context: Any, instance: Instance, *more: Any, **named: Any) -> None:
            with Path(os.environ["LAB_NOVA_DELETIONS"]).open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH)
                super().destroy(context, instance, *more, **named)

    # Nova looks for drivers among its own alone.
    fake.Hypervisor = Hypervisor


def _nova_services() -> None:
    """Starts conductor, scheduler and computes in this process, and maps the hosts to their cell."""
    from nova import monkey_patch

    monkey_patch.patch(backend="threading")
    import os_brick
    import os_vif
    from nova import config, context, objects, service
    from nova.api.openstack import wsgi_app
    from nova.compute import rpcapi as compute
    from nova.conductor import rpcapi as conductor
    from nova.conf import CONF
    from nova.objects import host_mapping
    from nova.scheduler import rpcapi as scheduler
    from oslo_log import log as logging
    from oslo_service import opts

    config.parse_args(["nova"], default_config_files=[os.environ["LAB_NOVA_CONF"]])
    logging.setup(CONF, "nova")
    sys.excepthook = _end
    opts.register_service_opts(CONF)
    objects.register_all()
    os_brick.setup(CONF)
    os_vif.initialize()
    # The API must not read the configuration a second time.
    wsgi_app.init_global_data = lambda *_: None
    _hypervisors()
    computes = [
        ("nova-compute", compute.RPC_TOPIC, {"topic_alt": compute.RPC_TOPIC_ALT, "host": host})
        for host in HYPERVISORS
    ]
    for binary, topic, extra in (
        ("nova-conductor", conductor.RPC_TOPIC, {}),
        ("nova-scheduler", scheduler.RPC_TOPIC, {}),
        *computes,
    ):
        service.Service.create(binary=binary, topic=topic, **extra).start()
    # Before the API listens: the first server would find no cell otherwise.
    host_mapping.discover_hosts(context.get_admin_context())


def _cinder_services() -> None:
    """Starts volume and scheduler in this process."""
    from cinder import monkey_patch

    monkey_patch.patch(backend="threading")
    import os_brick
    from cinder import objects, rpc, service
    from cinder.common import config  # noqa: F401  (its options)
    from oslo_config import cfg
    from oslo_log import log as logging

    # The API reads the configuration a second time, by these arguments.
    sys.argv += ["--config-file", os.environ["LAB_CINDER_CONF"]]
    objects.register_all()
    cfg.CONF(sys.argv[1:], project="cinder")
    logging.setup(cfg.CONF, "cinder")
    sys.excepthook = _end
    os_brick.setup(cfg.CONF)
    rpc.init(cfg.CONF)
    (backend,) = cfg.CONF.enabled_backends
    volume = {"host": f"{cfg.CONF.host}@{backend}", "service_name": backend, "coordination": True}
    # In this order: as it starts the scheduler asks every back end what it can do, and waits for an answer.
    for binary, more in (("cinder-volume", volume), ("cinder-scheduler", {})):
        service.Service.create(binary=binary, **more).start()


def main() -> int:
    name, address, port, *tls = sys.argv[1:]
    # The services read the arguments as their own.
    sys.argv = [name]
    sys.excepthook = _end
    if name == "nova":
        _nova_services()
    if name == "cinder":
        _cinder_services()
    application: Any = importlib.import_module(APPLICATIONS[name]).application
    sys.excepthook = _end
    from cheroot.wsgi import Server

    server = Server((address, int(port)), Door(application), numthreads=16, request_queue_size=128)
    if tls:
        from cheroot.ssl.builtin import BuiltinSSLAdapter

        server.ssl_adapter = BuiltinSSLAdapter(*tls)
    server.prepare()
    print(f"{name} listens", flush=True)
    threading.excepthook = lambda given: traceback.print_exception(given.exc_value)
    server.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
