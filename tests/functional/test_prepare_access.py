"""How the new cloud is reached: tokens that die, passwords, regions, credentials, clouds.yaml, an API that is slow."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.lab import direct
from tests.lab.cloud.building import Site
from tests.lab.cloud.furnished import Furnished


@pytest.fixture
def site(cloud: Furnished, tmp_path: Any) -> Site:
    return Site(cloud, str(tmp_path / "state"))


def test_a_token_that_dies_is_replaced(site: Site) -> None:
    # Each service takes one token for dead, and goes on to do so: sent again, it would be refused again.
    dead = {"method": "GET", "effect": "revoke", "times": 1}
    site.cloud.plane.fault("nova", {**dead, "path": "/v2.1/flavors/detail"})
    site.cloud.plane.fault("neutron", {**dead, "path": "/v2.0/ports"})
    done = site.apply()
    assert done.verdict == "done", done.problem
    site.stands()
    for service in ("nova", "neutron"):
        assert 401 in [entry["status"] for entry in site.cloud.plane.requests(service)]


def test_a_wrong_password_is_said_and_not_shown(site: Site) -> None:
    site.pillar["clouds"]["new"]["auth"]["password"] = "wrong-4711"
    done = direct.run(site.pillar, "cloud.check")
    (finding,) = done.answer["findings"]
    assert finding["subject"] == "new cloud: login"
    assert "401" in finding["found"] or "authenticat" in finding["found"]
    assert "wrong-4711" not in repr((done.answer, done.events))


def test_a_region_that_is_not_there(site: Site) -> None:
    site.pillar["clouds"]["new"]["region_name"] = "Nowhere"
    found = site.findings()
    assert set(found) == {f"cloud new cloud: {what}" for what in ("compute", "image", "network")}


def test_no_region_is_needed(site: Site) -> None:
    del site.pillar["clouds"]["new"]["region_name"]
    assert site.findings() == {}


def test_an_application_credential_does(site: Site) -> None:
    new = site.cloud.new
    body = {"application_credential": {"name": f"lab-{time.time()}", "unrestricted": False}}
    path = f"/users/{new.user_id}/application_credentials"
    made = new.post("identity", path, body)["application_credential"]
    site.pillar["clouds"]["new"]["auth"] = {
        "auth_url": f"{site.cloud.plane.keystone}/v3",
        "application_credential_id": made["id"],
        "application_credential_secret": made["secret"],
    }
    done = site.plan()
    assert done.answer, done.problem
    assert len(done.answer["changes"]) == 11
    assert made["secret"] not in repr((done.answer, done.events))


def test_clouds_yaml_does(site: Site, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import yaml

    access = site.pillar["clouds"]["new"]
    folder = tmp_path / ".config" / "openstack"
    folder.mkdir(parents=True)
    (folder / "clouds.yaml").write_text(yaml.safe_dump({"clouds": {"lab": access}}))
    monkeypatch.setenv("HOME", str(tmp_path))
    site.pillar["clouds"]["new"] = {"cloud": "lab"}
    assert site.findings() == {}
    site.pillar["clouds"]["new"] = {"cloud": "other"}
    done = direct.run(site.pillar, "cloud.check")
    assert done.problem["kind"] == "settings"
    assert "clouds.yaml" in done.problem["message"]


def test_an_api_that_does_not_answer_is_not_waited_for_long(site: Site) -> None:
    site.pillar["clouds"]["new"]["deadlines"] = {"connect": 1000, "request": 1000}
    site.cloud.plane.fault("keystone", {"path": "/v3/auth/tokens", "effect": "slow", "seconds": 120,
                                        "times": 1})  # fmt: skip
    began = time.monotonic()
    found = site.findings()
    assert time.monotonic() - began < 60
    assert "in time" in found["cloud new cloud: login"]
