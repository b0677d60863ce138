"""A hub of models on 127.0.0.1 that speaks the part of the real one's protocol that prep uses, and can misbehave."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".onnx", ".bin", ".pt")  # kept elsewhere, behind a redirect, as with git-lfs


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


@dataclass
class Hub:
    """What the server has, how it misbehaves, and what it was asked."""

    commits: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)  # id: commit: name: bytes
    branches: dict[tuple[str, str], str] = field(default_factory=dict)  # (id, branch): commit
    gated: set[str] = field(default_factory=set)
    token: str = ""  # the only one it accepts
    commit_said: str = ""  # with every file, instead of its own
    status: int = 0  # answer everything with it
    page: bytes = b""  # answer everything with it
    lies: dict[str, bytes] = field(default_factory=dict)  # name: what is sent instead of its bytes
    gone: set[str] = field(default_factory=set)  # listed, but no longer there
    cut: int = 0  # how many of the next downloads end early
    after: int = 0  # bytes until then
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)  # method, path, headers
    url: str = ""
    store: str = ""  # the server of large files

    def add(self, hub: str, files: dict[str, bytes], branch: str = "main") -> str:
        """A new commit on a branch; its hash follows from the files."""
        listing = json.dumps({name: git_sha1(data) for name, data in files.items()}, sort_keys=True)
        commit = hashlib.sha1(listing.encode(), usedforsecurity=False).hexdigest()
        self.commits.setdefault(hub, {})[commit] = files
        self.branches[hub, branch] = commit
        return commit

    def ranges(self) -> list[str]:
        return [headers["range"] for method, _, headers in self.asked if method == "GET" and "range" in headers]

    def downloads(self) -> list[str]:
        return [path.rpartition("/")[2] for method, path, _ in self.asked if method == "GET" and "/api/" not in path]


def _answer(hub: Hub, at_store: bool) -> type[BaseHTTPRequestHandler]:
    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.reply()

        def do_GET(self) -> None:
            self.reply()

        def reply(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append((self.command, path, {k.lower(): v for k, v in self.headers.items()}))
            if hub.status:
                return self.say(hub.status, {})
            if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
                return self.say(401, {"X-Error-Message": "Invalid credentials in Authorization header"})
            if hub.page:
                return self.say(200, {"Content-Type": "text/html"}, hub.page)
            parts = path.strip("/").split("/")
            if at_store or parts[0] == "release":
                return self.file(path.partition("/x/")[2])
            if parts[:2] == ["api", "models"]:
                return self.info("/".join(parts[2:4]), "/".join(parts[5:]) or "main")
            return self.resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))

        def say(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def info(self, name: str, revision: str) -> None:
            if name not in hub.commits:
                return self.say(404, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
            commit = hub.branches.get((name, revision), revision)
            if commit not in hub.commits[name]:
                return self.say(404, {"X-Error-Code": "RevisionNotFound"})
            siblings = [
                {"rfilename": file, "size": len(data), "blobId": git_sha1(data)}
                for file, data in hub.commits[name][commit].items()
            ]
            return self.say(200, {}, json.dumps({"id": name, "sha": commit, "siblings": siblings}).encode())

        def resolve(self, name: str, commit: str, file: str) -> None:
            if name in hub.gated:
                return self.say(403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted."})
            data = hub.commits[name][commit].get(file)
            if data is None or file in hub.gone:
                return self.say(404, {"X-Error-Code": "EntryNotFound"})
            known = {"X-Repo-Commit": hub.commit_said or commit}
            if file.endswith(LARGE):
                sha = hashlib.sha256(data).hexdigest()
                known |= {"X-Linked-Etag": f'"{sha}"', "X-Linked-Size": str(len(data))}
                return self.say(302, known | {"Location": f"{hub.store}/{name}/{commit}/x/{file}"})
            known["ETag"] = f'"{git_sha1(data)}"'
            return self.bytes(hub.lies.get(file, data), known)

        def file(self, file: str) -> None:
            versions = [files for commits in hub.commits.values() for files in commits.values()]
            data = next(files[file] for files in reversed(versions) if file in files)
            self.bytes(hub.lies.get(file, data), {"ETag": '"store"'})

        def bytes(self, data: bytes, headers: dict[str, str]) -> None:
            begin, status = 0, 200
            if wanted := self.headers.get("Range"):
                begin, status = int(wanted.removeprefix("bytes=").rstrip("-")), 206
                headers |= {"Content-Range": f"bytes {begin}-{len(data) - 1}/{len(data)}"}
            body = data[begin:]
            if self.command == "GET" and hub.cut and len(body) > hub.after:
                hub.cut -= 1
                self.close_connection = True
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: hub.after])
                return
            self.say(status, headers | {"Content-Length": str(len(body))}, body)

    return Answer


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    """Run the hub, and its store of large files on a port of its own, while the block lasts."""
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), _answer(hub, at_store)) for at_store in (False, True)]
    hub.url, hub.store = (f"http://127.0.0.1:{server.server_address[1]}" for server in servers)
    threads = [threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
