"""A worker that is killed while it runs a script; the next one runs it again."""

from __future__ import annotations

import time

from cxreval.client import EvaluationStatus, Purpose, Tier
from tests.e2e.test_scripts import SCRIPT, run, submit_table
from tests.e2e.test_scripts import isolation as isolation  # noqa: PLC0414 - the fixture
from tests.e2e.test_scripts import system as system  # noqa: PLC0414 - the fixture


def test_worker_that_is_killed_while_a_script_runs_leaves_it_to_the_next_one(system, isolation):
    name = submit_table(system, f"import time\ntime.sleep(2)\n{SCRIPT}", "killed")
    run(system, isolation, Purpose.MEASURE)
    scripts = f"--scripts={system.directory / 'environments'}"
    worker = system.start_worker("first", scripts)

    def reproduction(status):
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            for found in system.registry.list_evaluations(name):
                if found.purpose is Purpose.REPRODUCE and found.status is status:
                    return found
            time.sleep(0.05)
        raise AssertionError(f"no reproduction {status} in time")

    reproduction(EvaluationStatus.RUNNING)
    time.sleep(1)
    worker.kill()
    worker.wait(30)
    second = system.start_worker("second", scripts)
    ended = reproduction(EvaluationStatus.SUCCEEDED)
    second.kill()
    assert ended.attempt == 2
    assert system.registry.get_submission(name).tier is Tier.REPRODUCED
