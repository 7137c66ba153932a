"""Training and extraction on two machines, one of which is lost: ``examples/cluster/two_machines.sh``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

CLUSTER = Path(__file__).parents[1] / "examples/cluster"


@pytest.mark.skipif("SACMA_MACHINES" not in os.environ, reason="takes minutes; set SACMA_MACHINES=1, as root")
@pytest.mark.parametrize("what", ["torchrun", "ray"])
def test_a_lost_machine_changes_no_result(what: str) -> None:
    script = [str(CLUSTER / "two_machines.sh"), what]
    done = subprocess.run(
        script, env=os.environ | {"PYTHON": sys.executable}, capture_output=True, text=True, check=False
    )
    if done.returncode == 77:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    assert f"{what}: two machines" in done.stdout


def test_scripts_can_be_parsed() -> None:
    pods = yaml.safe_load_all((CLUSTER / "kubernetes.yaml").read_text())
    (job,) = [one for one in pods if one["kind"] == "Job"]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    scripts = [path.read_text() for path in sorted(CLUSTER.glob("*.s*"))] + container["args"]
    assert len(scripts) == 4
    for script in scripts:
        assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
