"""Detectors are uploaded to and downloaded from the hub; a local server imitates it."""

import base64
import functools
import hashlib
import http.server
import json
import threading

import numpy as np
import pytest
import yaml

from ssd_jax import Detector
from ssd_jax.errors import UserError
from ssd_jax.interop.hub import ModelCard, hub_folder, push, save_for_hub
from tests.helpers.random_detector import NAMES, random_trained

hub = pytest.importorskip("huggingface_hub")
COMMIT = "c0ffee" + "0" * 34
NUMBERS = {"mAP": 0.87654, "loss": 1.5}


class FakeHub(http.server.BaseHTTPRequestHandler):
    """Repositories in memory for `snapshot_download`, `create_repo` and `upload_folder`."""

    protocol_version = "HTTP/1.1"

    def answer(self, status, content=b"", **headers):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass

    def do_GET(self):
        path = self.path.partition("?")[0]
        files = self.server.files
        name = "/".join(path.removeprefix("/api/models/").lstrip("/").split("/")[:2])
        if name not in files:
            self.answer(404, X_Error_Code="RepoNotFound")
        elif path.startswith("/api/models/") and "/tree/" in path:
            self.answer(200, [self.entry(name, file) for file in files[name]])
        elif path.startswith("/api/models/"):
            siblings = [{"rfilename": file} for file in files[name]]
            self.answer(200, {"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings})
        else:
            content = files[name][path.rpartition("/")[2]]
            digest = hashlib.sha256(content).hexdigest()
            self.answer(200, content, ETag=f'"{digest}"', X_Repo_Commit=COMMIT)

    def do_HEAD(self):
        self.do_GET()

    def entry(self, name, file):
        content = self.server.files[name][file]
        oid = hashlib.sha1(content).hexdigest()
        return {"type": "file", "path": file, "size": len(content), "oid": oid}

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path, files = self.path.partition("?")[0], self.server.files
        if path == "/api/validate-yaml":
            self.answer(200, {"errors": [], "warnings": []})
        elif self.headers.get("Authorization") != "Bearer right":
            self.answer(401, {"error": "Invalid username or password."})
        elif path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            files.setdefault(name, {})
            self.answer(200, {"url": f"{self.server.address}/{name}", "id": name})
        elif "/preupload/" in path:
            asked = [file["path"] for file in json.loads(body)["files"]]
            chosen = {"uploadMode": "regular", "shouldIgnore": False}
            self.answer(200, {"files": [{"path": each} | chosen for each in asked]})
        else:
            name = "/".join(path.removeprefix("/api/models/").split("/")[:2])
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    value = line["value"]
                    files[name][value["path"]] = base64.b64decode(value["content"])
            url = f"{self.server.address}/{name}/commit/{COMMIT}"
            self.answer(200, {"success": True, "commitOid": COMMIT, "commitUrl": url})


@pytest.fixture
def server(monkeypatch, tmp_path):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), FakeHub) as started:
        started.files, started.address = {}, f"http://127.0.0.1:{started.server_port}"
        threading.Thread(target=started.serve_forever, daemon=True).start()
        api = functools.partial(hub.HfApi, endpoint=started.address)
        monkeypatch.setattr(
            hub,
            "snapshot_download",
            functools.partial(
                hub.snapshot_download, endpoint=started.address, cache_dir=tmp_path / "cache"
            ),
        )
        for name in ("create_repo", "upload_folder"):
            monkeypatch.setattr(hub, name, getattr(api(token="right"), name))
        started.refused = api(token="wrong")
        yield started
        started.shutdown()


@pytest.fixture
def folder(tmp_path):
    save_for_hub(random_trained(), tmp_path / "finder", ModelCard("me/finder", NUMBERS, "mit"))
    return tmp_path / "finder"


def test_a_detector_is_uploaded_to_the_hub_and_downloaded(server, folder, detector):
    (folder / "private.txt").write_text("stays here")
    assert push(folder, "me/finder") == f"{server.address}/me/finder/commit/{COMMIT}"
    wanted = {"README.md", "SHA256SUMS", "config.json", "model.safetensors"}
    assert set(server.files["me/finder"]) == wanted
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    for name in ("hf:me/finder", f"hf:me/finder@{COMMIT}"):
        loaded = Detector.from_pretrained(name)
        assert loaded.class_names == NAMES
    np.testing.assert_array_equal(loaded(image).boxes, detector(image).boxes)


def test_errors_of_the_hub_are_reported(server, folder, monkeypatch):
    with pytest.raises(UserError, match=r"hf:me/none cannot be downloaded: .*hf auth login"):
        hub_folder("me/none")
    monkeypatch.setattr(hub, "create_repo", server.refused.create_repo)
    with pytest.raises(UserError, match=r"cannot be uploaded to me/finder: .*hf auth login"):
        push(folder, "me/finder")
    for name in ("finder", "me/a/b", "me/finder@"):
        with pytest.raises(UserError, match="is not a repository of the hub: write USER/NAME"):
            Detector.from_pretrained(f"hf:{name}")
    with pytest.raises(UserError, match="names a revision"):
        push(folder, "me/finder@main")


def test_downloads_from_the_hub_are_verified(server, folder):
    push(folder, "me/finder")
    server.files["me/finder"]["config.json"] += b" "
    with pytest.raises(UserError, match="is damaged"):
        Detector.from_pretrained("hf:me/finder")


def test_the_card_describes_the_detector(folder):
    card = (folder / "README.md").read_text()
    _, header, text = card.split("---\n", 2)
    told = yaml.safe_load(header)
    assert told["license"] == "mit" and told["pipeline_tag"] == "object-detection"
    (result,) = told["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == 0.8765
    assert "# finder\n" in text and "| mAP | 0.8765 |" in text
    assert all(f"`{name}`" in text for name in NAMES)
    assert "1.5" not in text and 'from_pretrained("hf:me/finder")' in text
    assert "license" not in ModelCard("x").text(random_trained()).split("---")[1]


def test_the_card_keeps_names_of_files_to_itself():
    from ssd_jax.config.schema import as_config
    from tests import tiny

    config = as_config(tiny.get_config()).replace(
        {"data.train": "secret/data", "init": "run:secret/run", "augment.custom": "secret:blur"}
    )
    card = ModelCard("x").text(random_trained()._replace(config=config))
    assert "secret" not in card and "learning_rate" in card
