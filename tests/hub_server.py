"""A stand-in for the Hub's HTTP interface on this machine, written from what the Hub documents and its client asks for.

Data sets, git blobs and LFS objects are kept in memory. A commit is seen by readers all at once, as on the Hub. A hook
runs before and behind every request, so that a test can stop a client at an exact place.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = (".parquet", ".png")
NONE = "0" * 40
TOKEN = "hf_forTestsOnlyNoRealToken"  # accepted here and nowhere else
Tree = dict[str, tuple[str, bytes]]


def git_digest(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class Repo:
    """A data set: its commits, newest last; a tree is path -> (lfs or regular, bytes)."""

    private: bool
    commits: list[tuple[str, Tree]] = field(default_factory=lambda: [("1" * 40, {})])

    def tree(self, revision: str) -> tuple[str, Tree] | None:
        if revision == "main":
            return self.commits[-1]
        return next((commit for commit in self.commits if commit[0] == revision), None)


class Hub:
    """The state, and the server's address."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.hook: Callable[[str, str], None] = lambda moment, request: None
        self.refused: str | None = None
        self._open, self._changed = 0, threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def entered(self, count: int) -> None:
        with self._changed:
            self._open += count
            self._changed.notify_all()

    def wait_idle(self) -> None:
        """Wait until every request that arrived is served: that of a killed client is served to its end."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._open == 0, 60)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def files(self, repo: str) -> dict[str, bytes]:
        """What a reader sees at main."""
        return {path: data for path, (_, data) in self.repos[repo].commits[-1][1].items()} if repo in self.repos else {}


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self) -> None:
        self.hub.entered(1)
        try:
            self._serve()
        finally:
            self.hub.entered(-1)

    def _serve(self) -> None:
        request = f"{self.command} {self.path}"
        self.hub.requests.append(request)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            self.hub.hook("before", request)
            self._route(urlsplit(self.path).path.strip("/").split("/"), body)
            self.hub.hook("behind", request)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = _answer

    def _send(self, status: int, body: object = None, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, {"error": code}, X_Error_Code=code)

    def _route(self, parts: list[str], body: bytes) -> None:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}" and parts[0] != "objects":
            self._refuse(401, "RepoNotFound")  # as the Hub: who may not see it is not told that it is there
        elif parts[:3] == ["api", "repos", "create"]:
            self._create(json.loads(body))
        elif parts[:2] == ["api", "validate-yaml"]:
            self._send(200, {"errors": [], "warnings": []})
        elif parts[0] == "objects":
            self._put_object(parts[1], body)
        elif parts[0] == "datasets" and parts[2].endswith(".git"):
            self._batch(json.loads(body))
        elif (repo := self.hub.repos.get(self._name(parts))) is None:
            self._refuse(404, "RepoNotFound")
        elif parts[0] == "datasets":
            self._resolve(repo, unquote(parts[4]), unquote("/".join(parts[5:])))
        else:
            self._api(repo, parts[4:], body)

    @staticmethod
    def _name(parts: list[str]) -> str:
        return "/".join(parts[2:4] if parts[0] == "api" else parts[1:3])

    def _create(self, asked: dict) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        status = 409 if name in self.hub.repos else 200
        self.hub.repos.setdefault(name, Repo(private=asked.get("visibility") == "private"))
        self._send(status, {"url": f"{self.hub.url}/datasets/{name}", "name": name})

    def _put_object(self, oid: str, body: bytes) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            self._refuse(400, "BadObject")
        else:
            self.hub.objects[oid] = body
            self._send(200, {})

    def _batch(self, asked: dict) -> None:
        objects = []
        for item in asked["objects"]:
            upload = {"upload": {"href": f"{self.hub.url}/objects/{item['oid']}"}}
            objects.append(item if item["oid"] in self.hub.objects else {**item, "actions": upload})
        self._send(200, {"transfer": "basic", "objects": objects})

    def _api(self, repo: Repo, parts: list[str], body: bytes) -> None:
        verb = parts[0] if parts else "revision"
        found = repo.tree(unquote(parts[1]) if len(parts) > 1 else "main")
        if found is None:
            self._refuse(404, "RevisionNotFound")
        elif verb == "revision":
            name = self._name(urlsplit(self.path).path.strip("/").split("/"))
            self._send(200, {"id": name, "sha": found[0], "private": repo.private, "siblings": []})
        elif verb == "tree":
            asked = parse_qs(urlsplit(self.path).query).get("recursive", ["false"])
            listed = _listing(found[1], unquote("/".join(parts[2:])), recursive=asked[0].lower() in ("true", "1"))
            if not listed and len(parts) > 2:
                return self._refuse(404, "EntryNotFound")
            self._send(200, listed)
        elif verb == "paths-info":
            paths = parse_qs(body.decode())["paths"]
            listed = {item["path"]: item for item in _listing(found[1], "", recursive=True)}
            self._send(200, [listed[path] for path in paths if path in listed])
        elif verb == "preupload":
            self._send(200, {"files": [self._mode(item["path"], found[1]) for item in json.loads(body)["files"]]})
        elif verb == "commit":
            self._commit(repo, [json.loads(line) for line in body.splitlines() if line.strip()])
        else:
            self._refuse(404, "NoSuchCall")

    @staticmethod
    def _mode(path: str, tree: Tree) -> dict:
        mode = {"path": path, "uploadMode": "lfs" if path.endswith(LARGE) else "regular", "shouldIgnore": False}
        return mode | ({"oid": git_digest(tree[path][1])} if path in tree and not path.endswith(LARGE) else {})

    def _commit(self, repo: Repo, lines: list[dict]) -> None:
        head, tree = repo.commits[-1]
        tree = dict(tree)
        for line in lines:
            key, value = line["key"], line["value"]
            if key == "header" and value.get("parentCommit") not in (None, head):
                return self._refuse(412, "PreconditionFailed")
            if key == "file":
                tree[value["path"]] = ("regular", base64.b64decode(value["content"]))
            elif key == "lfsFile":
                if value["oid"] not in self.hub.objects:
                    return self._refuse(400, "MissingObject")
                tree[value["path"]] = ("lfs", self.hub.objects[value["oid"]])
            elif key == "deletedFile":
                del tree[value["path"]]
        # A client may take a file of a commit that it has seen from its cache, so that no two may have one name.
        content = [(path, git_digest(data)) for path, (_, data) in sorted(tree.items())]
        oid = hashlib.sha1(f"{head}{content}{len(repo.commits)}".encode()).hexdigest()
        repo.commits.append((oid, tree))
        url = f"{self.hub.url}/datasets/{self._name(self.path.strip('/').split('/'))}/commit/{oid}"
        return self._send(200, {"success": True, "commitOid": oid, "commitUrl": url})

    def _resolve(self, repo: Repo, revision: str, path: str) -> None:
        found = repo.tree(revision)
        if found is None:
            return self._refuse(404, "RevisionNotFound")
        if path == self.hub.refused:
            return self._refuse(403, "Forbidden")
        if path not in found[1]:
            return self._send(404, {}, X_Error_Code="EntryNotFound", X_Repo_Commit=found[0])
        mode, data = found[1][path]
        etag = hashlib.sha256(data).hexdigest() if mode == "lfs" else git_digest(data)
        headers = {"X_Repo_Commit": found[0], "ETag": f'"{etag}"', "X_Linked_Size": str(len(data))}
        start = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0]
        if int(start):
            headers["Content_Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            return self._send(206, data[int(start) :], **headers)
        return self._send(200, data, **headers)


def _listing(tree: Tree, folder: str, *, recursive: bool) -> list[dict]:
    """What lies in a folder; of all that is below it, or of the next level alone."""
    under = PurePosixPath(folder)
    files = [path for path in map(PurePosixPath, sorted(tree)) if path.is_relative_to(under)]
    folders = sorted({parent for path in files for parent in path.parents if under in parent.parents})
    listed = [{"type": "directory", "path": str(path), "size": 0, "oid": "0" * 40} for path in folders]
    listed += [_info(str(path), *tree[str(path)]) for path in files]
    return [item for item in listed if recursive or PurePosixPath(item["path"]).parent == under]


def _info(path: str, mode: str, data: bytes) -> dict:
    info = {"type": "file", "path": path, "size": len(data), "oid": git_digest(data)}
    oid = hashlib.sha256(data).hexdigest()
    return info | ({"lfs": {"oid": oid, "size": len(data), "pointerSize": 130}} if mode == "lfs" else {})
