"""`integrations simulate`: faults as a user types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

import pytest

from integrations_pipeline.cli.simulating import run_simulate
from integrations_pipeline.spec.errors import ConfigError

SHOP = """
connection: shop
faults: [503 after 1 once]
api: {url: "http://127.0.0.1:9/v1", pagination: {type: single_page}}
streams:
  orders: {request: GET /orders, records: items, primary_key: id}
"""
INTEGRATIONS = [sys.executable, "-c", "from integrations_pipeline.cli import main; main()"]


def home_with_shop(path: Path) -> None:
    (path / "connections").mkdir()
    (path / "connections" / "shop.yaml").write_text(SHOP, encoding="utf-8")


def status(url: str) -> int:
    try:
        return int(build_opener(ProxyHandler({})).open(url, timeout=30).status)
    except HTTPError as error:
        return error.code


def test_the_faults_of_the_yaml_and_those_typed_are_on(tmp_path: Path) -> None:
    home_with_shop(tmp_path)
    command = [*INTEGRATIONS, "simulate", "shop", "--port", "0", "--fault", "429 every 3rd on orders"]
    environment = {**os.environ, "INTEGRATIONS_HOME": str(tmp_path)}
    with subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        printed = [process.stdout.readline().strip() for _ in range(4)]
        url, control = printed[0].split()[1], printed[3].split()[1]
        try:
            assert printed[1:3] == ["fault: 503 after 1 once", "fault: 429 every 3rd on orders"]
            assert [status(f"{url}/orders") for _ in range(6)] == [200, 503, 200, 429, 200, 200]
            report = json.loads(build_opener(ProxyHandler({})).open(f"{control}shop/faults", timeout=30).read())
            assert [one["hits"] for one in report["faults"]] == [1, 1]
        finally:
            process.terminate()


@pytest.mark.parametrize(
    ("fault", "said"),
    [("trunkate 5%", "did you mean 'truncate'"), ("429 on order", "no stream order .did you mean 'orders'")],
)
def test_a_fault_that_is_none_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, said: str
) -> None:
    home_with_shop(tmp_path)
    monkeypatch.setenv("INTEGRATIONS_HOME", str(tmp_path))
    with pytest.raises(ConfigError, match=said):
        run_simulate(
            ["shop"], records=10, seed=0, port=0, latency_ms=0, enforce_limits=False, faults=[fault], webhooks=None
        )
