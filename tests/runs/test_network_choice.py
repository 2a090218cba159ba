from ssd_jax.runs.network_choice import choose_row


def test_without_weights_a_small_network_begins_from_scratch(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "ssd_jax")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("ssd_jax.interop.published_weights.ADDRESS", "http://127.0.0.1:9")
    assert choose_row(None) == "scratch"
    told = "without start weights; training from scratch takes longer and reaches less"
    assert told in caplog.text and ". http://127.0.0.1:9/mobilenet_v2" in caplog.text
    assert "copy it to" in caplog.text
    assert choose_row("") == "scratch"
    # Weights of one's own are those of the network that a CPU is given, and nothing is downloaded.
    assert choose_row("torchvision:mine.pth") == "cpu"
