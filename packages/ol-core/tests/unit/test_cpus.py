import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from ol_core.cpus import usable_cpus

AFFINITY = len(os.sched_getaffinity(0))
V1 = "4:memory:/pod\n1:cpu,cpuacct:{}\n0::/\n"


def root(folder: Path, cgroup: str, files: Mapping[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": cgroup, **files}.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


def v1(folder: Path, path: str, quotas: Mapping[str, int]) -> Path:
    files = {f"sys/fs/cgroup/cpu/{group}/cpu.cfs_quota_us": f"{quota}\n" for group, quota in quotas.items()}
    files |= {f"sys/fs/cgroup/cpu/{group}/cpu.cfs_period_us": "100000\n" for group in quotas}
    return root(folder, V1.format(path), files)


@pytest.fixture(autouse=True)
def node_of_64_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(64)))


@pytest.mark.parametrize(
    ("quota", "cpus"),
    [("max 100000", 64), ("400000 100000", 4), ("150000 100000", 1), ("50000 100000", 1), ("9900000 100000", 64)],
)
def test_the_quota_of_cgroup_v2_binds(tmp_path: Path, quota: str, cpus: int) -> None:
    files = {"sys/fs/cgroup/cpu.max": f"{quota}\n"}

    assert usable_cpus(root(tmp_path, "0::/\n", files)) == cpus


def test_the_lowest_quota_of_the_groups_around_binds(tmp_path: Path) -> None:
    files = {
        "sys/fs/cgroup/cpu.max": "max 100000\n",
        "sys/fs/cgroup/pods.slice/cpu.max": "200000 100000\n",
        "sys/fs/cgroup/pods.slice/one/cpu.max": "800000 100000\n",
    }

    assert usable_cpus(root(tmp_path, "0::/pods.slice/one\n", files)) == 2


def test_the_quota_of_cgroup_v1_binds(tmp_path: Path) -> None:
    assert usable_cpus(v1(tmp_path, "/docker/one", {"docker": -1, "docker/one": 300000})) == 3


def test_a_container_finds_its_own_group_at_the_top_where_it_is_told_the_path_on_its_node(tmp_path: Path) -> None:
    assert usable_cpus(v1(tmp_path, "/kubepods/burstable/pod1/one", {"": 200000})) == 2


def test_without_a_quota_all_cpus_of_the_affinity_are_usable(tmp_path: Path) -> None:
    assert usable_cpus(v1(tmp_path, "/", {"": -1})) == 64
    assert usable_cpus(tmp_path / "no such system") == 64


def test_this_process_is_allowed_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()

    assert 1 <= usable_cpus() <= AFFINITY


def test_pools_of_libraries_are_as_large(tmp_path: Path) -> None:
    script = (
        "import os; os.cpu_count = lambda: 64; import ol_core.cpus as cpus; cpus.usable_cpus = lambda: 1; "
        "from ol_core.tables.catalogs import open_catalog\n"
        f"with open_catalog({{'type': 'sql', 'uri': 'sqlite:///{tmp_path}/c.db', 'warehouse': '{tmp_path}'}}, 'x'):\n"
        "    import pyarrow as pa; from pyiceberg.utils.concurrent import ExecutorFactory as factory\n"
        "    print(pa.cpu_count(), factory.get_or_create()._max_workers)"
    )
    unset = {name: value for name, value in os.environ.items() if name != "PYICEBERG_MAX_WORKERS"}
    done = subprocess.run([sys.executable, "-c", script], env=unset, capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["1", "1"]
