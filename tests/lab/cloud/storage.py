"""A Cinder driver that declares every volume made: there is no disk that could hold one."""

from __future__ import annotations

from typing import Any

from cinder import interface
from cinder.volume import driver


@interface.volumedriver
class Declared(driver.VolumeDriver):
    VERSION = "1"

    def do_setup(self, context: Any) -> None:
        """Has nothing to prepare."""

    def check_for_setup_error(self) -> None:
        """Has nothing that could be wrong."""

    def _update_volume_stats(self) -> None:
        self._stats = {
            "volume_backend_name": "declared",
            "vendor_name": "lab",
            "driver_version": self.VERSION,
            "storage_protocol": "iscsi",
            "total_capacity_gb": "infinite",
            "free_capacity_gb": "infinite",
        }

    def create_volume(self, volume: Any) -> None:
        """Has nothing to write."""

    def delete_volume(self, volume: Any) -> None:
        """Has nothing to wipe."""

    def ensure_export(self, context: Any, volume: Any) -> None:
        """Has nobody to show it to."""

    def create_export(self, context: Any, volume: Any, connector: Any) -> None:
        """Has nobody to show it to."""

    def remove_export(self, context: Any, volume: Any) -> None:
        """Has shown it to nobody."""

    def initialize_connection(self, volume: Any, connector: Any) -> dict[str, Any]:
        return {"driver_volume_type": "iscsi", "data": {"volume_id": volume.id}}

    def terminate_connection(self, volume: Any, connector: Any, **more: Any) -> None:
        """Has nothing to cut."""
