"""A token is never written or printed, and the servers of the tests listen to this machine alone."""

from __future__ import annotations

import ast
import os
from pathlib import Path

from tests.hub_server import TOKEN, Hub
from tests.vcrd.hub_users import User
from tests.workspace import CANARY, ROOT, Workspace

REPO = "org/made"
LOOPBACK = {"127.0.0.1", "localhost", "::1"}


def holding(folder: Path, secret: str) -> list[str]:
    """Files with a secret in them, plain or as part of a name."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [str(path) for path in files if secret.encode() in path.read_bytes() or secret in path.name]


def test_a_run_that_knows_a_token_writes_it_nowhere(finished: Workspace) -> None:
    """The chain ran with it in its environment; manifests, reports, logs and caches of DVC are all looked at."""
    assert finished.environment["HF_TOKEN"] == CANARY
    assert holding(finished.root, CANARY) == []


def test_no_command_of_a_run_prints_a_token(finished: Workspace) -> None:
    for command in (("stages", "show"), ("stages", "errors"), ("stages.label_steps", "--dry-run"), ("vcrd", "doctor")):
        done = finished.run("python", "-m", *command)
        assert done.returncode == 0, done.stderr
        assert CANARY not in done.stdout + done.stderr, command


def test_nothing_that_is_pushed_pulled_or_said_about_it_holds_a_token(
    hub: Hub, user: User, small_run: Path, tmp_path: Path
) -> None:
    run = small_run
    said = [user.check("push", run, REPO), user.check("card", run), user.check("pull", REPO, tmp_path / "made")]
    hub.refused = "training/_manifest.json"
    try:
        refused = user.vcrd("pull", REPO, tmp_path / "again")
    finally:
        hub.refused = None
    assert refused.rc == 2
    missing = user.vcrd("pull", "org/none", tmp_path / "none")
    assert missing.rc == 2
    assert TOKEN not in "".join([*said, refused.out, missing.out])
    assert [name for name, data in hub.files(REPO).items() if TOKEN.encode() in data] == []
    assert holding(tmp_path, TOKEN) == []
    assert any(request.startswith("PUT") for request in hub.requests)


def test_the_stand_in_of_the_hub_listens_on_loopback(hub: Hub) -> None:
    assert hub.url.startswith("http://127.0.0.1:")
    port = int(hub.url.rpartition(":")[2])
    listening = [
        line.split()[1]
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        if line.split()[3] == "0A" and int(line.split()[1].rpartition(":")[2], 16) == port
    ]
    assert [place.partition(":")[0] for place in listening] == ["0100007F"]


def test_every_address_that_tests_and_benchmarks_listen_on_is_this_machine() -> None:
    servers = {"ThreadingHTTPServer", "HTTPServer", "create_server", "bind", "TCPServer", "ThreadingTCPServer"}
    found = []
    for path in [
        *(ROOT / "tests").rglob("*.py"),
        *(ROOT / "benchmarks").glob("*.py"),
        *(ROOT / "scripts").glob("*.py"),
    ]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        constants = {ast.unparse(node.targets[0]): node.value for node in tree.body if isinstance(node, ast.Assign)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Tuple):
                host = constants.get(ast.unparse(node.args[0].elts[0]), node.args[0].elts[0])
                if ast.unparse(node.func).rpartition(".")[2] in servers:
                    found.append((path.name, getattr(host, "value", None)))
    assert ("hub_server.py", "127.0.0.1") in found
    assert [place for place in found if place[1] not in LOOPBACK] == []


def test_only_the_hubs_library_and_doctor_speak_of_tokens() -> None:
    """A token comes from the environment or the library's own store; our code never takes one in its hands."""
    readers = [
        path.relative_to(ROOT).as_posix()
        for room in ("vcrd", "pipeline", "stages")
        for path in (ROOT / room).rglob("*.py")
        if {"get_token", "HF_TOKEN"} & _names(path)
    ]
    assert readers == ["vcrd/cli/doctor.py"]
    assert "HF_TOKEN" not in os.environ or os.environ["HF_TOKEN"] != TOKEN


def _names(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    names |= {alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
    return names | {node.attr for node in nodes if isinstance(node, ast.Attribute)}
