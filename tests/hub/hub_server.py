"""A server on loopback that speaks the Hub's protocol, as far as its client uploads with it.

Repositories are created, cards checked, files asked for before the upload, large ones taken by the
batch interface of Git LFS, and commits of lines of JSON carried out. Small text files are regular,
others large, as on the Hub.
"""

import base64
import hashlib
import json
import re
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlparse

import yaml

TOKEN, READ_TOKEN = "hf_writes0000000000000000000000000", "hf_reads00000000000000000000000000"
LICENCES = ("apache-2.0", "mit", "unknown", "other", "cc-by-4.0", "llama2")
REPO = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(.*))?$")
BATCH = re.compile(r"/(datasets/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch$")
NAME = re.compile(r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?")


@dataclass
class Repository:
    """Files of one repository by path: bytes, or the sha256 of a large one."""

    private: bool
    files: dict[str, bytes | str] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)


class HubServer:
    """What was asked and what is kept; `hold` keeps uploads from being answered after so many."""

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.large: dict[str, bytes] = {}
        self.puts: list[str] = []
        self.requests: list[str] = []
        self.hold_after: int | None = None
        self.held, self.release = threading.Event(), threading.Event()
        self.lock = threading.Lock()
        hub = self

        class Handler(_Handler):
            server_state = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "HubServer":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()

    def content(self, kind: str, name: str) -> dict[str, bytes]:
        """Files of a repository as they would be downloaded."""
        files = self.repositories[kind, name].files
        return {
            path: one if isinstance(one, bytes) else self.large[one] for path, one in files.items()
        }


class _Handler(BaseHTTPRequestHandler):
    server_state: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = self._begin()
        if path == "/api/whoami-v2":
            if self._token() in (TOKEN, READ_TOKEN):
                return self._answer(200, {"name": "me", "type": "user", "orgs": []})
            return self._fail(401, "Invalid username or password.")
        found = REPO.match(path)
        repository = found and self.server_state.repositories.get((found[1], found[2]))
        if not found or repository is None:
            return self._fail(404, "Repository not found", "RepoNotFound")
        if (found[3] or "").startswith("tree/"):
            return self._answer(200, [_entry(*one) for one in repository.files.items()])
        sha = repository.commits[-1] if repository.commits else "0" * 40
        info = {"id": found[2], "private": repository.private, "sha": sha, "siblings": []}
        return self._answer(200, info | {"tags": [], "downloads": 0, "likes": 0})

    def do_POST(self) -> None:
        path, body = self._begin(), self._body()
        if path == "/api/validate-yaml":
            return self._validate(json.loads(body))
        if path.startswith("/verify/"):
            is_there = path.rsplit("/", 1)[1] in self.server_state.large
            return self._answer(200 if is_there else 404, {})
        if self._token() != TOKEN:
            message = "You don't have the rights to write with this token."
            return self._fail(403 if self._token() == READ_TOKEN else 401, message)
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if BATCH.match(path):
            return self._batch(json.loads(body))
        found = REPO.match(path)
        repository = found and self.server_state.repositories.get((found[1], found[2]))
        if not found or repository is None:
            return self._fail(404, "Repository not found", "RepoNotFound")
        if (found[3] or "").startswith("preupload/"):
            return self._answer(200, {"files": _modes(repository, json.loads(body)["files"])})
        return self._commit(found[1], found[2], body)

    def do_PUT(self) -> None:
        path, hub = self._begin(), self.server_state
        oid = path.rsplit("/", 1)[1]
        body = self._body()
        if hashlib.sha256(body).hexdigest() != oid:  # cut off: who sent it has died
            return self._fail(400, "not what its id says")
        with hub.lock:
            hub.puts.append(oid)
            is_held = hub.hold_after is not None and len(hub.puts) > hub.hold_after
            if not is_held:
                hub.large[oid] = body
        if is_held:
            hub.held.set()
            hub.release.wait(60)
            return self._fail(500, "too late")
        return self._answer(200, {})

    def _begin(self) -> str:
        self.server_state.requests.append(f"{self.command} {urlparse(self.path).path}")
        return urlparse(self.path).path

    def _validate(self, asked: dict[str, Any]) -> None:
        front = yaml.safe_load(asked["content"].split("---\n")[1])
        named = front.get("license", [])
        named = [named] if isinstance(named, str) else named
        wrong = [one for one in named if one not in LICENCES]
        if "other" in named and not front.get("license_name"):
            wrong.append("other without license_name")
        if asked["repoType"] == "model" and "/" not in front.get("base_model", "/"):
            wrong.append("base_model")
        errors = [{"message": f'"{one}" is not allowed'} for one in wrong]
        self._answer(400 if errors else 200, {"errors": errors, "warnings": []})

    def _create(self, asked: dict[str, Any]) -> None:
        hub, organisation = self.server_state, asked["organization"]
        kind, name = f"{asked.get('type', 'model')}s", f"{organisation}/{asked['name']}"
        if organisation == "others":
            return self._fail(403, "You don't have the rights to create a model under 'others'")
        if not NAME.fullmatch(asked["name"]) or asked["name"] == "reserved":
            return self._fail(400, "This name is reserved")
        url = f"{hub.url}/{'datasets/' if kind == 'datasets' else ''}{name}"
        if (kind, name) in hub.repositories:
            return self._fail(409, "You already created this repo", url=url)
        is_private = asked.get("visibility") == "private" or bool(asked.get("private"))
        hub.repositories[kind, name] = Repository(is_private)
        return self._answer(200, {"url": url, "name": name, "id": name})

    def _batch(self, asked: dict[str, Any]) -> None:
        hub = self.server_state
        objects = [dict(one) for one in asked["objects"]]
        for one in objects:
            if one["oid"] not in hub.large:
                upload = {"href": f"{hub.url}/lfs/{one['oid']}"}
                verify = {"href": f"{hub.url}/verify/{one['oid']}"}
                one["actions"] = {"upload": upload, "verify": verify}
        self._answer(200, {"transfer": "basic", "objects": objects})

    def _commit(self, kind: str, name: str, body: bytes) -> None:
        hub = self.server_state
        repository = hub.repositories[kind, name]
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                assert value["oid"] in hub.large, "a commit of what was never sent"
                repository.files[value["path"]] = value["oid"]
            elif line["key"] == "deletedFile":
                del repository.files[value["path"]]
        repository.commits.append(hashlib.sha1(body).hexdigest())
        commit = repository.commits[-1]
        page = f"{hub.url}/{'datasets/' if kind == 'datasets' else ''}{name}/commit/{commit}"
        self._answer(200, {"commitUrl": page, "commitOid": commit})

    def _token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _fail(self, status: int, message: str, code: str = "", **more: str) -> None:
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self._answer(status, {"error": message} | more, headers)

    def _answer(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        all_headers = {"Content-Type": "application/json", "Content-Length": str(len(data))}
        for name, text in (all_headers | (headers or {})).items():
            self.send_header(name, text)
        with suppress(BrokenPipeError, ConnectionResetError):  # who asked may have been killed
            self.end_headers()
            self.wfile.write(data)


def _modes(repository: Repository, files: list[dict[str, Any]]) -> list[dict[str, Any]]:
    answers = []
    for one in files:
        is_text = one["path"].endswith((".md", ".json", ".txt", ".jinja")) and one["size"] < 10**6
        answer = {"path": one["path"], "shouldIgnore": False}
        there = repository.files.get(one["path"])
        if there is not None:
            answer["oid"] = _git_oid(there) if isinstance(there, bytes) else there
        answers.append(answer | {"uploadMode": "regular" if is_text else "lfs"})
    return answers


def _git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _entry(path: str, one: bytes | str) -> dict[str, Any]:
    size = len(one) if isinstance(one, bytes) else 1
    oid = _git_oid(one) if isinstance(one, bytes) else one
    entry = {"type": "file", "path": path, "size": size, "oid": oid}
    return (
        entry
        if isinstance(one, bytes)
        else entry | {"lfs": {"oid": one, "size": 1, "pointerSize": 1}}
    )
