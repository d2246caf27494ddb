"""The migration's health while it lasts, in one screen: how far behind, what was changed, what was proved."""

from __future__ import annotations

from tests.lab import direct
from tests.lab.loopback import Chain


def test_lag_stopped_replicas_and_tables_that_should_stand_still(fresh_chain: Chain) -> None:
    settings = fresh_chain.pillar() | {"freeze": {}, "signoff": {"flip": ["operations"]}}
    shown = direct.run(settings, "status").answer
    assert shown["alarms"] == []
    assert shown["health"]["lag_ms"].keys() == {"old-db2", "new-relay", "new-db1", "new-db2"}
    assert all(ms is not None and ms < 1000 for ms in shown["health"]["lag_ms"].values())
    assert shown["health"]["proofs"]["signoff.flip"][0]["role"] == "operations"

    # Disks: on demand, for whoever watches all the time does not wait for hosts.
    assert shown["health"]["room"].keys() == {"old-db1", *shown["health"]["lag_ms"]}
    assert all(
        disk["whole_mib"] >= disk["free_mib"] > 0 for disk in shown["health"]["room"].values()
    )
    full = direct.Command(settings, "status", variables={direct.DISK: "900000 9000000"})
    alarms = full.wait().answer["alarms"]
    assert (
        "new-db1: less than 1 GiB, or than a twentieth, is free on /, where its data is" in alarms
    )
    watched = direct.run(settings, "status", hosts=False).answer
    assert watched["health"]["room"] is None

    # Behind, though both threads run: the end of the chain is what counts.
    settings["databases"]["max_lag"] = 300
    fresh_chain["relay"].run("STOP SLAVE; CHANGE MASTER TO MASTER_DELAY=600; START SLAVE")
    fresh_chain.wait_replicating()
    fresh_chain.old.run("INSERT INTO site.writes VALUES (NULL, 1, 1, 1, 'old', SYSDATE(6))")
    alarms = direct.run(settings, "status").answer["alarms"]
    assert "new-db2: it is more than 300 ms behind old-db1" in alarms
    fresh_chain["relay"].run("STOP SLAVE; CHANGE MASTER TO MASTER_DELAY=0; START SLAVE")
    fresh_chain.settle()
    fresh_chain["new-db2"].run("STOP SLAVE SQL_THREAD")
    alarms = direct.run(settings, "status").answer["alarms"]
    assert any(alarm.startswith("new-db2: replication from") for alarm in alarms)
    fresh_chain["new-db2"].run("START SLAVE")

    # The binlogs would be gone before the soak is over.
    fresh_chain.new.run("SET GLOBAL binlog_expire_logs_seconds=3600")
    alarms = direct.run(settings, "status").answer["alarms"]
    assert any("new-db1: binlog_expire_logs_seconds is 3600" in alarm for alarm in alarms)
    fresh_chain.new.run("SET GLOBAL binlog_expire_logs_seconds=0")

    del settings["signoff"]
    settings["databases"]["max_lag"] = 10_000
    assert direct.run(settings, "apply", phase="flip").verdict == "done"
    assert direct.run(settings, "status").answer["alarms"] == []
    fresh_chain.new.run(
        "ALTER TABLE site.writes ADD COLUMN more INT; CREATE TABLE site.further (a INT)"
    )
    fresh_chain.settle()
    (alarm,) = direct.run(settings, "status").answer["alarms"]
    assert alarm == (
        "new-db1: tables were changed that should stand still: site/writes, site/further"
    )
    # A revert ends the freeze.
    assert direct.run(settings, "apply", phase="revert").verdict == "done"
    assert direct.run(settings, "status").answer["alarms"] == []
