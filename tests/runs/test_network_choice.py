from ssd_jax.config.schema import Config
from ssd_jax.interop.published_weights import address_and_path
from ssd_jax.runs.network_choice import choose_row
from ssd_jax.runs.plan import Chosen


def test_without_weights_a_small_network_begins_from_scratch(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "ssd_jax")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("ssd_jax.interop.published_weights.ADDRESS", "http://127.0.0.1:9")
    assert choose_row(None) == "scratch"
    told = "without start weights: training takes longer and reaches less\n  http"
    assert told in caplog.text and "\n  http://127.0.0.1:9/mobilenet_v2" in caplog.text
    assert "copy it to" in caplog.text
    assert choose_row("") == "scratch"
    # Weights of one's own are those of the network that a CPU is given, and nothing is downloaded.
    assert choose_row("torchvision:mine.pth") == "cpu"


def test_a_run_from_scratch_names_the_missing_file_of_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    scratch, chosen = Config(init=""), Chosen(["data.train"], True)
    address, path = address_and_path("imagenet", "mobilenet_v2")
    advice = chosen.missing_weights(scratch)
    reason, command = advice.splitlines()
    assert "in another --workdir" in reason and len(reason) < 150
    assert command == f"  curl --create-dirs -o {path} {address}"
    path.touch()
    assert chosen.missing_weights(scratch).endswith(f"its network; the weights are in {path}")
    assert chosen.missing_weights(scratch.replace({"init": "torchvision:imagenet"})) == ""
    assert Chosen(["init"], True).missing_weights(scratch) == ""
    assert Chosen(None, False).missing_weights(scratch) == ""
