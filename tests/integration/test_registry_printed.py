"""Output of the command line at 80 columns, with long actors, reasons and names."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cxreval.audit.chain import Head
from cxreval.cli import output
from cxreval.cli.app import app
from cxreval.client import Change, Role
from tests.support.access import ClosedRegistry
from tests.support.registry import report_message, small_images, small_spec
from tests.support.system import command

SPEC = small_spec("printed")
WHY = (
    "The authors write that images of the test list were among those"
    " that the network was trained with, all of them."
)


class Printed(ClosedRegistry):
    """A registry with two published rows of one organisation.

    The first was disputed and withdrawn.
    """

    def __enter__(self) -> Printed:
        super().__enter__()
        self.operator.create_benchmark(SPEC)
        self.operator.record_image_list(SPEC.name, small_images())
        self.first, self.second = self._published("First"), self._published("Second")
        self.submitter = self.client("acme/submitter")
        self.submitter.dispute(self.first, WHY)
        self.submitter.withdraw(self.first, "we were wrong")
        self.draft = self.stubs("acme/submitter").create_submission(SPEC.name, b"draft").name
        return self

    def _published(self, model: str) -> str:
        name = self.stubs("acme/submitter").submit(SPEC.name, b"model", model=model).name
        worker = self.stubs("worker")
        lease = worker.lease(SPEC.name)
        worker.complete(lease, report_message(SPEC))
        return name

    def run(self, *arguments: str, who: str = "acme/submitter") -> str:
        """Returns the output of a command on a terminal of 80 columns."""
        environment = {
            "CXREVAL_CLIENT_REGISTRY": self.service.address,
            "CXREVAL_CLIENT_KEY": self.keys[who],
        }
        result = CliRunner().invoke(app, arguments, env=environment, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json"))


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Printed]:
    with Printed(tmp_path_factory.mktemp("printed")) as found:
        yield found


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output.console, "width", 80)


def test_history_loses_nothing_of_actors_and_reasons(registry: Printed) -> None:
    text = registry.run("submission", "history", registry.first)
    assert max(map(len, text.splitlines())) <= 80
    lines = [line.strip() for line in text.splitlines()]
    events = list(registry.submitter.submission_events(registry.first))
    assert [event.change for event in events][-3:] == [
        Change.PUBLISHED,
        Change.DISPUTED,
        Change.WITHDRAWN,
    ]
    for event in events:
        assert f"{event.time:%Y-%m-%dT%H:%M:%SZ}  {event.change:<13}  {event.status}" in lines
        assert f"by {event.actor}" in lines  # unwrapped, so that it can be copied
    assert f"why: {WHY}" in " ".join(lines)
    assert "why: we were wrong" in lines


def test_names_of_keys_can_be_copied_to_the_command_that_revokes_them(registry: Printed) -> None:
    key, _ = registry.operator.create_key("acme", Role.VIEWER)
    lines = registry.run("admin", "key", "list", "acme", who="operator").splitlines()
    assert key.name in lines
    assert max(map(len, lines)) <= 80
    assert "revoked" in registry.run("admin", "key", "revoke", key.name, who="operator")
    events = registry.run("admin", "events", who="operator")
    assert [line.strip() for line in events.splitlines()][:2] == [
        f"{registry.operator.admin_events()[0].time:%Y-%m-%dT%H:%M:%SZ}  key_revoked", key.name,
    ]  # fmt: skip
    assert "…" not in events


def test_submissions_are_listed_newest_first_and_only_to_permitted_callers(
    registry: Printed,
) -> None:
    text = registry.run("submission", "list", "--benchmark", SPEC.name)
    lines = text.splitlines()
    names = [line for line in lines if line.startswith("benchmarks/")]
    assert names == [registry.draft, registry.second, registry.first]
    assert lines[1].startswith("    awaiting_artifact, created 20")
    assert lines[5].strip() == "checkpoint of Second (Organisation)"
    found = registry.json("submission", "list", "--benchmark", SPEC.name)
    assert [item["name"] for item in found] == names
    assert [item["status"] for item in found] == ["awaiting_artifact", "published", "withdrawn"]
    others = registry.run("submission", "list", "--benchmark", SPEC.name, who="rival/submitter")
    assert [registry.draft in others, registry.second in others] == [False, True]


def test_status_shows_the_etag_that_a_change_takes(registry: Printed) -> None:
    etag = registry.submitter.get_submission(registry.draft).etag
    assert f"  etag      {etag}\n" in registry.run("status", registry.draft)
    cancelled = registry.run(
        "submission", "cancel", registry.draft, "--reason", "mine", "--etag", etag
    )
    assert "cancelled" in cancelled


def test_the_board_is_as_it_was_at_any_moment(registry: Printed) -> None:
    times = {
        event.change: event.time for event in registry.submitter.submission_events(registry.first)
    }
    second = {
        event.change: event.time for event in registry.submitter.submission_events(registry.second)
    }
    client = registry.submitter

    def shown(moment: Any) -> list[tuple[str, bool]]:
        return [(row.submission, row.disputed) for row in client.leaderboard(SPEC.name, moment)]

    def records(moment: Any) -> list[str]:
        return [step.submission for step in client.sota_steps(SPEC.name, moment)]

    assert shown(times[Change.CREATED]) == records(times[Change.CREATED]) == []
    assert shown(times[Change.PUBLISHED]) == [(registry.first, False)]
    assert shown(second[Change.PUBLISHED]) == [(registry.first, False), (registry.second, False)]
    assert shown(times[Change.DISPUTED]) == [(registry.first, True), (registry.second, False)]
    assert shown(times[Change.WITHDRAWN]) == shown(None) == [(registry.second, False)]
    assert records(times[Change.DISPUTED]) == [registry.first]
    assert records(None) == [registry.second]


def test_the_command_line_shows_the_board_as_of_a_moment(registry: Printed) -> None:
    board = ("leaderboard", "--benchmark", SPEC.name)
    then = (*board, "--as-of", "2025-01-01")
    assert [row["submission"] for row in registry.json(*board)["entries"]] == [registry.second]
    assert (registry.json(*then)["entries"], registry.json(*then)["sota_steps"]) == ([], [])
    assert "Nothing has been run or scored here yet" in registry.run(*then)


def test_the_board_is_read_at_a_time_as_any_command_prints_it(registry: Printed) -> None:
    history = registry.json("submission", "history", registry.second)
    (published,) = (event["time"] for event in history if event["change"] == "published")
    board = ("leaderboard", "--benchmark", SPEC.name, "--as-of")
    rows = registry.json(*board, published)["entries"]
    assert [row["submission"] for row in rows] == [registry.first, registry.second]
    said = command(*board, "2025-01-01", "--registry", registry.service.address)
    assert (
        "--as-of 2025-01-01 is the end of that day: 2025-01-01T23:59:59.999999+00:00" in said.stderr
    )


def test_the_audit_head_is_published_with_the_board(registry: Printed) -> None:
    client, deadline = registry.submitter, time.monotonic() + 20
    while client.audit_head().place < 8:  # events join the chain within a second or two
        assert time.monotonic() < deadline
        time.sleep(0.1)
    heads = [client.leaderboard(SPEC.name).audit_head]
    heads.append(Head(**registry.json("leaderboard", "--benchmark", SPEC.name)["audit_head"]))
    said, printed = registry.run("leaderboard", "--benchmark", SPEC.name).splitlines()[-2:]
    assert said == "Head of the audit chain:"
    heads.append(Head(int(printed.partition(":")[0]), printed.partition(":")[2]))
    digests = {event.place: event.digest for event in client.audit_chain()}
    assert [digests.get(head.place) for head in heads] == [head.digest for head in heads]
    registry.run("audit", "verify", "--since", printed)


def test_changes_of_a_board_are_printed_with_row_actor_and_reason(registry: Printed) -> None:
    changes = ("leaderboard", "--benchmark", SPEC.name, "--changes")
    text = registry.run(*changes)
    lines = [line.strip() for line in text.splitlines()]
    told = [line.split()[1] for line in lines if line.startswith("20")]
    assert told == ["published", "published", "disputed", "withdrawn"]
    assert [line for line in lines if line.startswith("benchmarks/")] == [
        registry.first, registry.second, registry.first, registry.first,
    ]  # fmt: skip
    assert f"why: {WHY}" in " ".join(lines)
    assert max(map(len, text.splitlines())) <= 80
    assert [(event["submission"], event["change"]) for event in registry.json(*changes)][2:] == [
        (registry.first, "disputed"), (registry.first, "withdrawn"),
    ]  # fmt: skip
    assert registry.json(*changes, "--as-of", "2025-01-01") == []


def test_a_missing_key_prints_how_to_give_one(registry: Printed) -> None:
    ended = command("quota", "--registry", registry.service.address)
    assert (ended.returncode, "error: KEY_MISSING" in ended.stderr) == (1, True)
    assert (
        "--key-file FILE before the command, or CXREVAL_CLIENT_KEY_FILE or CXREVAL_CLIENT_KEY"
        in ended.stderr
    )
    assert (
        command(
            "--key-file", _key_file(registry), "quota", "--registry", registry.service.address
        ).returncode
        == 0
    )


def _key_file(registry: Printed) -> str:
    file: Path = registry.directory / "acme-key"
    file.write_text(registry.keys["acme/submitter"])
    return str(file)
