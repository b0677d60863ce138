"""A model hub on 127.0.0.1 with the part of the Hugging Face protocol that huggingface_hub uses; it can misbehave."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipeline.models.pull import PullRequest

LARGE = (".safetensors", ".onnx", ".bin", ".pt")  # stored with git-lfs, behind a redirect to another server


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


@dataclass
class Hub:
    """What the server has, how it misbehaves, and the requests that it got."""

    commits: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)  # id: commit: name: bytes
    branches: dict[tuple[str, str], str] = field(default_factory=dict)  # (id, branch): commit
    gated: set[str] = field(default_factory=set)
    token: str = ""  # the only one it accepts
    status: int = 0  # the status of every answer
    page: bytes = b""  # the body of every answer
    damaged: dict[str, bytes] = field(
        default_factory=dict
    )  # name: bytes sent instead, with the headers of the right ones
    replaced: dict[str, bytes] = field(default_factory=dict)  # name: bytes sent instead, with headers that agree
    gone: set[str] = field(default_factory=set)  # listed, but answered with 404
    cuts: int = 0  # how many of the next downloads end early
    cut_after: int = 0  # bytes until then
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)  # method, path, headers
    url: str = ""
    store: str = ""  # URL of the server of large files

    def add(self, hub: str, files: dict[str, bytes], branch: str = "main") -> str:
        """A new commit on a branch; its hash follows from the files."""
        listing = json.dumps({name: git_sha1(data) for name, data in files.items()}, sort_keys=True)
        commit = hashlib.sha1(listing.encode(), usedforsecurity=False).hexdigest()
        self.commits.setdefault(hub, {})[commit] = files
        self.branches[hub, branch] = commit
        return commit

    def ranges(self) -> list[str]:
        return [headers["range"] for method, _, headers in self.requests if method == "GET" and "range" in headers]

    def downloads(self) -> list[str]:
        return [path.rpartition("/")[2] for method, path, _ in self.requests if method == "GET" and "/api/" not in path]


def _listing(file: str, data: bytes) -> dict[str, object]:
    listing: dict[str, object] = {"rfilename": file, "size": len(data), "blobId": git_sha1(data)}
    if file.endswith(LARGE):
        listing["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    return listing


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
            hub.requests.append((self.command, path, {k.lower(): v for k, v in self.headers.items()}))
            if hub.status:
                return self.send(hub.status, {})
            if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
                return self.send(401, {"X-Error-Message": "Invalid credentials in Authorization header"})
            if hub.page:
                return self.send(200, {"Content-Type": "text/html"}, hub.page)
            parts = path.strip("/").split("/")
            if at_store or parts[0] == "release":
                return self.file(path.partition("/x/")[2])
            if parts[:2] == ["api", "models"]:
                return self.info("/".join(parts[2:4]), "/".join(parts[5:]) or "main")
            if len(parts) < 5 or parts[2] != "resolve":
                return self.send(404, {})
            return self.resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))

        def send(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def info(self, name: str, revision: str) -> None:
            if name not in hub.commits:
                return self.send(404, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
            commit = hub.branches.get((name, revision), revision)
            if commit not in hub.commits[name]:
                return self.send(404, {"X-Error-Code": "RevisionNotFound"})
            siblings = [_listing(file, data) for file, data in hub.commits[name][commit].items()]
            return self.send(200, {}, json.dumps({"id": name, "sha": commit, "siblings": siblings}).encode())

        def resolve(self, name: str, commit: str, file: str) -> None:
            if name in hub.gated:
                return self.send(403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted."})
            data = hub.commits[name][commit].get(file)
            if data is None or file in hub.gone:
                return self.send(404, {"X-Error-Code": "EntryNotFound"})
            data = hub.replaced.get(file, data)
            headers = {"X-Repo-Commit": commit}
            if file.endswith(LARGE):
                sha = hashlib.sha256(data).hexdigest()
                headers |= {"X-Linked-Etag": f'"{sha}"', "X-Linked-Size": str(len(data))}
                return self.send(302, headers | {"Location": f"{hub.store}/{name}/{commit}/x/{file}"})
            headers["ETag"] = f'"{git_sha1(data)}"'
            return self.bytes(hub.damaged.get(file, data), headers)

        def file(self, file: str) -> None:
            versions = [files for commits in hub.commits.values() for files in commits.values()]
            data = hub.replaced.get(file) or next(files[file] for files in reversed(versions) if file in files)
            self.bytes(hub.damaged.get(file, data), {"ETag": '"store"'})

        def bytes(self, data: bytes, headers: dict[str, str]) -> None:
            begin, status = 0, 200
            if wanted := self.headers.get("Range"):
                begin, status = int(wanted.removeprefix("bytes=").rstrip("-")), 206
                headers |= {"Content-Range": f"bytes {begin}-{len(data) - 1}/{len(data)}"}
            body = data[begin:]
            if self.command == "GET" and hub.cuts and len(body) > hub.cut_after:
                hub.cuts -= 1
                self.close_connection = True
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: hub.cut_after])
                return
            self.send(status, headers | {"Content-Length": str(len(body))}, body)

    return Answer


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    """Run the hub, and its server of large files on another port, while the block lasts."""
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


# --- what the tests of the models package share ---------------------------------------------------

VIT = "SmilingWolf/wd-vit-tagger-v3"
ONNX = bytes(range(256)) * 1200  # 307,200 bytes
FILES = {
    "README.md": b"# a model\n",
    "config.json": b"{}\n",
    "model.onnx": ONNX,
    "model.safetensors": b"other weights",
    "pytorch_model.bin": b"a pickle",
    "saved_model.pb": b"a graph",
    "selected_tags.csv": b"tag_id,name,category,count\n",
}


def request(hub: Hub, model: str = VIT, revision: str = "main", files: tuple[str, ...] = ()) -> PullRequest:
    return PullRequest.of(model, revision, files, hub.url)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def tree(folder: Path) -> dict[str, bytes]:
    """The content of every file below a folder, by its relative path."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def write_snapshot(cache: Path, repo_id: str, commit: str, files: dict[str, bytes], branch: str = "main") -> Path:
    """A model in the layout of the Hugging Face cache: links to blobs that are named by their hashes."""
    repository = cache / f"models--{repo_id.replace('/', '--')}"
    snapshot = repository / "snapshots" / commit
    for name, data in files.items():
        blob = repository / "blobs" / (sha256(data) if name.endswith(LARGE) else git_sha1(data))
        write_files(blob.parent, {blob.name: data})
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(blob)
    write_files(repository / "refs", {branch: commit.encode()})
    return snapshot
