import concurrent.futures
import contextlib
import hashlib
import http.server
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from ssd_jax.config.schema import as_config
from ssd_jax.errors import UserError
from ssd_jax.interop import published_weights
from ssd_jax.interop.formats import read_format
from ssd_jax.interop.published_weights import FILES, published_file
from ssd_jax.interop.pytorch_layouts import (
    torchvision_layout,
    torchvision_mobilenet_v2_layout,
    torchvision_vgg16_layout,
)
from ssd_jax.interop.renaming import to_pytorch
from ssd_jax.interop.transfer import Classes, flatten, transfer
from ssd_jax.models.network import build_network
from ssd_jax.models.ssd import BACKBONES
from tests import tiny
from tests.helpers.random_variables import random_variables
from tools import torch_files


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A server of weights: its `files` by name, the `requests` that came; it answers on `go_on`."""
    files, requests, go_on = {}, [], threading.Event()
    go_on.set()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.removeprefix("/models/")
            requests.append(name)
            go_on.wait(60)
            if name not in files:
                return self.send_error(404)
            content, length = files[name]
            self.send_response(200)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}/models"
    monkeypatch.setattr(published_weights, "ADDRESS", address)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    def publish(content, trained_on="imagenet", backbone="vgg16", length=None):
        """Publishes a file under the name that its hash gives it; returns where it is kept."""
        name = f"weights-{hashlib.sha256(content).hexdigest()[:8]}.pth"
        monkeypatch.setitem(FILES[trained_on], backbone, name)
        files[name] = content, len(content) if length is None else length
        return tmp_path / "cache" / "ssd_jax" / "weights" / name

    stopped = threading.Event()

    def stop():
        if not stopped.is_set():
            stopped.set()
            server.shutdown()
            server.server_close()
            thread.join()

    with contextlib.ExitStack() as stack:
        stack.callback(stop)
        yield SimpleNamespace(
            address=address, files=files, requests=requests, go_on=go_on, publish=publish, stop=stop
        )


def left_in(folder):
    return {path.name for path in folder.iterdir()} - {"lock"}


def test_a_file_is_downloaded_once_and_then_needs_no_network(published, capsys):
    kept = published.publish(b"weights" * 1000)
    kept.parent.mkdir(parents=True)
    (kept.parent / ".0123.tmp.pth").write_bytes(b"half")  # of a process that was killed
    assert published_file("imagenet", "vgg16") == kept
    assert kept.read_bytes() == b"weights" * 1000 and left_in(kept.parent) == {kept.name}
    assert f"{kept.name}: 100%|" in (told := capsys.readouterr().err) and "7.00k/7.00k" in told
    published.stop()
    assert published_file("imagenet", "vgg16") == kept
    assert published.requests == [kept.name]


def test_a_file_placed_by_the_user_is_used(published):
    kept = published.publish(b"weights")
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"weights")
    assert published_file("imagenet", "vgg16") == kept and not published.requests


def test_a_damaged_file_is_refused_with_the_fix(published):
    kept = published.publish(b"weights")
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"weighty")
    wanted, found = (hashlib.sha256(text).hexdigest()[:8] for text in (b"weights", b"weighty"))
    complaint = f"{kept} is damaged: its SHA-256 begins with {found}, but must begin with {wanted}"
    with pytest.raises(UserError, match=f"{complaint}; remove it to download it again"):
        published_file("imagenet", "vgg16")
    assert not published.requests
    kept.unlink()
    assert published_file("imagenet", "vgg16").read_bytes() == b"weights"


def test_a_download_with_a_wrong_hash_is_not_kept(published):
    kept = published.publish(b"weights")
    published.files[kept.name] = b"weighty", 7
    with pytest.raises(UserError, match=f"/models/{kept.name} sent a wrong file"):
        published_file("imagenet", "vgg16")
    assert left_in(kept.parent) == set()


def test_a_truncated_file_is_not_kept(published):
    kept = published.publish(b"weights", length=1000)
    with pytest.raises(
        UserError, match=r"ended after 7 of 1,000 bytes\): download it on another machine"
    ):
        published_file("imagenet", "vgg16")
    assert left_in(kept.parent) == set()


@pytest.mark.parametrize("is_reached", [True, False], ids=["no file", "no server"])
def test_without_a_network_the_address_and_the_place_are_named(published, is_reached):
    kept = published.publish(b"weights")
    published.files.clear()
    if not is_reached:
        published.stop()
    reason = "HTTP Error 404: Not Found" if is_reached else "Connection refused"
    with pytest.raises(UserError) as error:
        published_file("imagenet", "vgg16")
    assert str(error.value) == (
        f"{published.address}/{kept.name} cannot be downloaded ({reason}): download it on "
        f"another machine, and copy it to {kept}"
    )


def test_other_processes_wait_for_a_download(published):
    kept = published.publish(b"weights")
    published.go_on.clear()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first = pool.submit(published_file, "imagenet", "vgg16")
        while not published.requests:
            time.sleep(0.01)
        second = pool.submit(published_file, "imagenet", "vgg16")
        with pytest.raises(concurrent.futures.TimeoutError):
            second.result(timeout=0.2)
        published.go_on.set()
        assert first.result(timeout=60) == second.result(timeout=60) == kept
    assert published.requests == [kept.name]


def test_every_backbone_with_published_weights_is_one():
    assert {backbone for files in FILES.values() for backbone in files} <= set(BACKBONES)


def network(num_classes, **options):
    config = tiny.get_config()
    config.model.update(options)
    return build_network(as_config(config).model, num_classes)


def content(variables, layout, boxes_per_cell, tmp_path):
    """A state dict as PyTorch saves it."""
    tensors = to_pytorch(variables, layout, boxes_per_cell)
    tensors = {name: tensor for name, tensor in tensors.items() if "/" not in name}
    torch_files.save_zip(tmp_path / "saved.pth", torch_files.state_dict(tensors))
    return (tmp_path / "saved.pth").read_bytes()


@pytest.mark.parametrize(
    "backbone, layout, unfilled",
    [
        ("vgg16", torchvision_vgg16_layout(), {"conv4_3_norm", "fc6", "fc7"}),
        ("mobilenet_v2", torchvision_mobilenet_v2_layout(), set()),
    ],
)
def test_a_backbone_starts_from_imagenet(backbone, layout, unfilled, published, tmp_path):
    options = {"backbone": backbone, "batch_norm": backbone != "vgg16"}
    if backbone != "vgg16":
        options |= {"feature_sizes": (4, 2, 1, 1), "strides": (16, 32, 64, 64)}
    ours = network(3, **options)
    parameters, statistics = random_variables(ours)
    trained = {"backbone": parameters["backbone"]}, {"backbone": statistics.get("backbone", {})}
    for name in unfilled:
        del trained[0]["backbone"][name]
    published.publish(content(trained, layout, (), tmp_path), "imagenet", backbone)
    foreign = read_format("torchvision", "imagenet", ours)
    wanted = flatten(trained)
    assert foreign.arrays.keys() == wanted.keys() and len(wanted) >= 26
    for name, array in wanted.items():
        np.testing.assert_array_equal(foreign.arrays[name], array, err_msg=name)
    assert foreign.class_names == () and foreign.left_over == []


def test_a_detector_starts_from_coco_with_classes_by_name(published, tmp_path):
    boxes = ((8.0, 8.0),) * 4
    theirs = network(90, batch_norm=False, shapes=(boxes,) * 4)
    variables = random_variables(theirs)
    published.publish(content(variables, torchvision_layout(), (4,) * 4, tmp_path), "coco")
    # One map has another number of boxes here.
    ours = network(3, batch_norm=False, shapes=(boxes[:3], boxes, boxes, boxes))
    foreign = read_format("torchvision", "coco", ours)
    classes = Classes(("dog", "zebu", "person"), foreign.class_names)
    result = transfer(random_variables(ours, 1), foreign.arrays, classes, (3, 4, 4, 4))
    statuses = {name: status for name, _, status in result.statuses}
    assert statuses["heads/logits/1/bias"] == "background and 2 of 3 classes copied by name"
    assert statuses["heads/logits/0/bias"] == "new: in the weights it is 364"
    assert statuses["heads/offsets/1/bias"] == statuses["backbone/fc6/conv/kernel"] == "copied"
    given = variables[0]["heads"]["logits"][1]["bias"].reshape(4, 91)
    filled = np.reshape(result.variables[0]["heads"]["logits"][1]["bias"], (4, 4))
    np.testing.assert_array_equal(filled[:, [0, 1, 3]], given[:, [0, 18, 1]])


def test_another_backbone_is_refused(published):
    options = {"feature_sizes": (4, 2, 1, 1), "strides": (16, 32, 64, 64)}
    ours = network(3, backbone="mobilenet_v2", batch_norm=True, **options)
    complaint = "weights of torchvision:coco are for the backbone vgg16, .*, not for mobilenet_v2"
    with pytest.raises(UserError, match=complaint):
        read_format("torchvision", "coco", ours)
    with pytest.raises(UserError, match="are 'COCO', but must be imagenet, coco or a file"):
        read_format("torchvision", "COCO", ours)
    assert not published.requests
