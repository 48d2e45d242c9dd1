"""The files for operators, in deploy/, say what the program understands."""

from __future__ import annotations

import re
import socket
from dataclasses import fields
from pathlib import Path

import yaml

from zkv.actors.notify import Notifier
from zkv.config import NodeConfig
from zkv.ctl.server import FLAGS, configure, read_file

DEPLOY = Path(__file__).parents[3] / "deploy"


def test_the_sample_settings_can_be_served() -> None:
    config = configure(read_file(str(DEPLOY / "zkv.yaml")))
    config.check_bootstrap()
    assert config.name == "n1"


def test_the_sample_explains_every_setting_and_shows_its_default() -> None:
    """A setting that is commented out shows what holds without it."""
    text = (DEPLOY / "zkv.yaml").read_text()
    shown = {key: yaml.safe_load(value) for key, value in re.findall(r"^# ([a-z-]+): (\S+)$", text, re.MULTILINE)}
    given = set(read_file(str(DEPLOY / "zkv.yaml")))
    assert {FLAGS[key] for key in shown} | given == set(FLAGS.values())
    defaults: dict[str, object] = {
        field.name: list(field.default) if isinstance(field.default, tuple) else field.default
        for field in fields(NodeConfig)
    }
    assert {FLAGS[key]: value for key, value in shown.items()} == {FLAGS[key]: defaults[FLAGS[key]] for key in shown}


def test_a_service_manager_is_told(tmp_path: Path) -> None:
    """READY when it is, WATCHDOG as often as asked for, and nothing where nobody listens."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        notifier = Notifier({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "30000000"})
        notifier.ready()
        notifier.alive()
        notifier.stopping()
        assert [manager.recv(100) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"STOPPING=1"]
        assert notifier.watchdog_s == 15
    Notifier({"NOTIFY_SOCKET": path}).ready()
    assert Notifier({"WATCHDOG_USEC": "30000000"}).watchdog_s == 0
    assert Notifier({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}).watchdog_s == 0


def test_every_setting_the_manifest_makes_is_one() -> None:
    """And what it makes can be served, once names stand for the pod's."""
    documents = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
    [container] = documents[2]["spec"]["template"]["spec"]["containers"]
    given = {item["name"]: item.get("value", "zkv-1") for item in container["env"]}
    assert {name.removeprefix("ZKV_").lower() for name in given} <= set(FLAGS.values())
    config = configure(
        {
            name.removeprefix("ZKV_").lower(): value.replace("$(ZKV_NAME)", given["ZKV_NAME"])
            for name, value in given.items()
        }
    )
    config.check_bootstrap()
