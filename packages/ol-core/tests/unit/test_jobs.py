import json

import dagster as dg
from ol_core.orchestration.jobs import Worker, asset_job


@dg.asset
def one() -> None: ...


def test_a_job_states_its_runtime_its_worker_and_that_nobody_else_retries_it() -> None:
    job = asset_job("make_one", one, description="Makes one.", max_runtime_seconds=90.4, worker=Worker(1.5, 2048))
    resolved = dg.Definitions(assets=[one], jobs=[job]).resolve_job_def("make_one")

    stated = {"cpu": "1.5", "memory": "2048Mi"}
    assert resolved.description == "Makes one."
    assert resolved.tags["dagster/max_retries"] == "0"
    assert resolved.tags["dagster/max_runtime"] == "90"
    assert json.loads(resolved.tags["dagster-k8s/config"]) == {
        "container_config": {"resources": {"requests": stated, "limits": stated}}
    }
