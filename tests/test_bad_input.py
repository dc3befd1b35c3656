"""Bad input: one clear line, the right exit code, no partial output, and the other inputs are processed."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import av
import pytest
import torch
from helpers import clips
from helpers.networks import lively

from tinyhd_cli import weights


def missing(path):
    pass


def empty(path):
    path.touch()


def text(path):
    path.write_text("These are not the frames that you are looking for.\n" * 100)


def header_only(path):
    """Truncate an MP4, which removes the index at its end."""
    clips.make(path, frames=30, width=320, height=240)
    path.write_bytes(path.read_bytes()[:2000])


def audio_only(path):
    clips.audio_only(path)


def zero_length_stream(path):
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()


def all_frames_damaged(path):
    clips.make(path.with_suffix(".mkv"), frames=4, codec="mjpeg", pixel_format="yuvj420p")
    with av.open(str(path.with_suffix(".mkv"))) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.with_suffix(".mkv").read_bytes())
    path.with_suffix(".mkv").unlink()
    for position, size in packets:
        data[position : position + size + 10] = bytes(size + 10)
    path.write_bytes(data)


def empty_folder(path):
    path.mkdir()


UNREADABLE = {
    missing: "no such file",
    empty: "is empty",
    text: "not a video that FFmpeg can read",
    header_only: "not a video that FFmpeg can read",
    audio_only: "has no video stream (only audio)",
    zero_length_stream: "not a video that FFmpeg can read (End of file)",
    all_frames_damaged: "no frame could be decoded",
    empty_folder: "no videos or images in this folder",
}
OUTPUTS = ("--overlay", "o.mp4", "--maps", "maps", "--npz", "o.npz", "--csv", "o.csv", "--json", "o.json")


def here():
    return sorted(path.name for path in Path().iterdir())


@pytest.mark.parametrize("spoil", UNREADABLE, ids=lambda spoil: spoil.__name__)
def test_unreadable_videos(tinyhd, tmp_path, weights_file, capsys, spoil):
    bad = tmp_path / "bad.mp4"
    spoil(bad)
    assert tinyhd("predict", bad, "--weights", weights_file, *OUTPUTS) == 3
    output = capsys.readouterr()
    assert output.err.splitlines() == [line for line in output.err.splitlines() if line.startswith(f"tinyhd: {bad}: ")]
    assert len(output.err.splitlines()) == 1
    assert UNREADABLE[spoil] in output.err
    assert output.out == ""
    assert here() == []


@pytest.mark.parametrize("spoil", UNREADABLE, ids=lambda spoil: spoil.__name__)
def test_the_other_videos_are_processed(tinyhd, tmp_path, weights_file, capsys, spoil):
    bad = tmp_path / "bad.mp4"
    spoil(bad)
    good = [clips.make(tmp_path / f"{name}.mp4", frames=2) for name in ("one", "two")]
    code = tinyhd("predict", good[0], bad, good[1], "--weights", weights_file, "--csv", "{name}.csv", "--quiet")
    assert code == 1
    assert here() == ["one.csv", "two.csv"]
    assert UNREADABLE[spoil] in capsys.readouterr().err


@pytest.fixture
def ordinary_user():
    """Run as another user if the tests run as root, whom permissions do not restrict."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_permission_denied(tinyhd, tmp_path, weights_file, capsys, request):
    video = clips.make(tmp_path / "secret.mp4", frames=2)
    # Other engines would report that their packages and the cache belong to another user.
    command = ("predict", video, "--weights", weights_file, "--csv", "o.csv", "--engine", "torch")
    assert tinyhd(*command) == 0  # loads all modules
    Path("o.csv").unlink()
    video.chmod(0)
    for folder in (tmp_path, *list(tmp_path.parents)[:3], *weights_file.parents):
        if folder.owner() == Path(sys.prefix).owner() and "pytest" in folder.as_posix():
            folder.chmod(0o755)
    request.getfixturevalue("ordinary_user")
    capsys.readouterr()
    assert tinyhd(*command) == 3
    assert capsys.readouterr().err == f"tinyhd: {video}: permission denied\n"


@pytest.mark.parametrize("output", OUTPUTS[::2])
def test_unwritable_outputs(tinyhd, tmp_path, weights_file, capsys, output):
    """A file has the name of the folder that the output needs."""
    video = clips.make(tmp_path / "clip.mp4", frames=2)
    Path("file").write_text("kept")
    name = dict(zip(OUTPUTS[::2], OUTPUTS[1::2], strict=True))[output]
    assert tinyhd("predict", video, "--weights", weights_file, output, f"file/{name}") == 5
    errors = capsys.readouterr().err
    assert errors.startswith(f"tinyhd: file/{name}: cannot be written: ")
    assert len(errors.splitlines()) == 1
    assert here() == ["file"]
    assert Path("file").read_text() == "kept"


@pytest.mark.parametrize(
    ("output", "name"), list(zip(OUTPUTS[::2], OUTPUTS[1::2], strict=True)), ids=lambda value: value.strip("-")
)
def test_full_disk(tmp_path, weights_file, output, name):
    """File sizes are limited, as on a full disk; existing files are kept."""
    video = clips.make(tmp_path / "clip.mp4", frames=40, width=256, height=192)
    folder = tmp_path / "out"
    folder.mkdir()
    limit = 30_000 if output not in ("--csv", "--json", "--maps") else 500

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [sys.executable, "-B", "-m", "tinyhd_cli", "predict", str(video), "--weights", str(weights_file)]
    result = subprocess.run(
        [*command, output, str(folder / name), "--quiet"],
        capture_output=True,
        text=True,
        preexec_fn=limited,
        check=False,
    )
    assert result.returncode == 5, result.stderr
    assert result.stderr.startswith(f"tinyhd: {folder / name}: cannot be written: "), result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert list(folder.iterdir()) == []


def wrong_network(path):
    """Write a single-output network with the metadata of a multi-output network."""
    from safetensors.torch import load_file, save_file

    network = lively("tinyhd-s-quarter")
    weights.save(path, network.state_dict(), network.spec)
    tensors = load_file(path)
    multi = lively("tinyhd-m-quarter")
    weights.save(path, multi.state_dict(), multi.spec)
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    save_file(tensors, path, metadata)


class Bomb:
    """Object that runs code when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.system, (f"touch {self.path}",))


def test_bad_weights(tinyhd, tmp_path, capsys):
    video = clips.make(tmp_path / "clip.mp4", frames=2)
    wrong_network(tmp_path / "other.safetensors")
    torch.save({"student_model": Bomb(tmp_path / "exploded")}, tmp_path / "bomb.pth")
    text(tmp_path / "text.pth")
    empty(tmp_path / "empty.safetensors")
    single = lively("tinyhd-s-quarter")
    weights.save(tmp_path / "single.safetensors", single.state_dict(), single.spec)
    cases = {
        ("--weights", tmp_path / "other.safetensors"): "not weights of tinyhd-m-quarter",
        ("--weights", tmp_path / "bomb.pth"): "refused: it contains more than tensors",
        ("--weights", tmp_path / "text.pth"): "damaged, or not a PyTorch file",
        ("--weights", tmp_path / "empty.safetensors"): "empty file",
        ("--weights", tmp_path / "missing.safetensors"): "no such file",
        ("--weights", tmp_path / "single.safetensors", "--model", "tinyhd-m-quarter"): "not tinyhd-m-quarter",
    }
    for options, message in cases.items():
        assert tinyhd("predict", video, *options) == 4, options
        errors = capsys.readouterr().err
        assert message in errors
        assert len(errors.splitlines()) == 1, errors
        assert here() == []
    assert not (tmp_path / "exploded").exists()


def test_embedded_weights_with_a_wrong_hash(tinyhd, tmp_path, capsys, monkeypatch):
    """One bit of a registered file is flipped."""
    network = lively("tinyhd-m-quarter")
    info = weights.save(tmp_path / "embedded.safetensors", network.state_dict(), network.spec)
    registry = tmp_path / "registry.toml"
    registry.write_text(
        f'default = "mine"\n[weights.mine]\nfile = "embedded.safetensors"\nsha256 = "{info.sha256}"\n'
        'config = { architecture = "tinyhd", outputs = "multi", width = "quarter", decoders = ["d1", "d2", "d3"] }\n'
    )
    monkeypatch.setenv("TINYHD_REGISTRY", str(registry))
    video = clips.make(tmp_path / "clip.mp4", frames=2)
    assert tinyhd("predict", video, "--csv", "o.csv") == 0
    Path("o.csv").unlink()
    data = bytearray((tmp_path / "embedded.safetensors").read_bytes())
    data[-5] ^= 1
    (tmp_path / "embedded.safetensors").write_bytes(data)
    capsys.readouterr()
    assert tinyhd("predict", video, "--csv", "o.csv") == 4
    errors = capsys.readouterr().err
    assert info.sha256 in errors
    assert len(errors.splitlines()) == 1
    assert here() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--codec", "h246"), "did you mean"),
        (("--colormap", "turbbo"), "did you mean turbo"),
        (("--normalize", "frames"), "did you mean frame"),
        (("--preset", "mediun"), "did you mean medium"),
        (("--alpha", "1.5"), "--alpha must be between 0 and 1"),
        (("--threshold", "1"), "--threshold"),
        (("--crf", "99"), "--crf"),
        (("--crf", "high"), "crf"),
        (("--device", "tpu"), "--device 'tpu'"),
        (("--overlay", "o.xyz"), "the suffix of a video must be one of"),
        (("--overlay", "o.wmv"), "the suffix of a video must be one of"),
        (("--npz", "o.csv"), "--npz"),
        (("--model", "tinyhd-m-quater"), "did you mean tinyhd-m-quarter"),
        (("--csv", "o.txt"), "--csv"),
        (("--overlay", "same.mp4", "--maps", "same.mp4"), "to the same file"),
        (("--wrong",), "--wrong"),
    ],
    ids=lambda value: "-".join(value).strip("-") if isinstance(value, tuple) else "",
)
def test_wrong_usage(tinyhd, tmp_path, weights_file, capsys, options, message):
    video = clips.make(tmp_path / "clip.mp4", frames=2)
    assert tinyhd("predict", video, "--weights", weights_file, *options) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert len(errors.splitlines()) == 1, errors
    assert here() == []


def test_outputs_that_would_overwrite_each_other_or_the_input(tinyhd, tmp_path, weights_file, capsys):
    (tmp_path / "a").mkdir()
    videos = [clips.make(tmp_path / name, frames=2) for name in ("clip.mp4", "a/clip.mp4")]
    before = videos[0].read_bytes()
    assert tinyhd("predict", *videos, "--weights", weights_file, "--overlay", "o.mp4") == 2
    assert "--out-dir" in capsys.readouterr().err
    assert tinyhd("predict", *videos, "--weights", weights_file, "--out-dir", "out") == 2
    assert "would both be written to out/clip_overlay.mp4" in capsys.readouterr().err
    assert tinyhd("predict", videos[0], "--weights", weights_file, "--overlay", videos[0]) == 2
    assert "is the input itself" in capsys.readouterr().err
    assert videos[0].read_bytes() == before
    assert here() == []


def test_outputs_that_would_overwrite_another_input(tinyhd, weights_file, capsys):
    clips.make(Path("x.mp4"), frames=2)
    other = clips.make(Path("x_overlay.mp4"), frames=3)
    before = other.read_bytes()
    assert tinyhd("predict", "x.mp4", "x_overlay.mp4", "--weights", weights_file) == 2
    assert "x_overlay.mp4: is one of the inputs" in capsys.readouterr().err
    assert other.read_bytes() == before
    Path("png").mkdir()
    assert tinyhd("predict", "x.mp4", "--weights", weights_file, "--maps", "png", "--quiet") == 0
    before = Path("png/0001.png").read_bytes()
    assert tinyhd("predict", "png/0001.png", "--weights", weights_file, "--maps", "png") == 2
    assert Path("png/0001.png").read_bytes() == before


@pytest.mark.parametrize("name", ["", ".", "/", f"{'n' * 300}.csv"])
def test_outputs_with_an_impossible_name(tinyhd, tmp_path, weights_file, capsys, name):
    video = clips.make(tmp_path / "clip.mp4", frames=2)
    assert tinyhd("predict", video, "--weights", weights_file, "--csv", name) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert tinyhd("predict", video, "--weights", weights_file, "--csv", name, "--out-dir", "out") == 2
    assert here() == []


def test_stderr_on_a_full_disk(tmp_path, weights_file):
    """The work continues if stderr is on a full disk."""
    video = clips.make(tmp_path / "clip.mp4", frames=2)
    command = [sys.executable, "-m", "tinyhd_cli", "predict", "none.mp4", str(video), "--weights", str(weights_file)]
    with Path("/dev/full").open("w") as full:
        result = subprocess.run([*command, "--csv", "{name}.csv"], cwd=tmp_path, stderr=full, check=False)
    assert result.returncode == 1
    assert (tmp_path / "clip.csv").is_file()


def test_no_arguments_show_help_and_are_wrong_usage(tinyhd, capsys):
    assert tinyhd() == 2
    output = capsys.readouterr()
    assert "Usage" in output.out + output.err
    assert tinyhd("predict") == 2
    assert "VIDEO" in capsys.readouterr().err
    assert tinyhd("predikt") == 2
    assert "predict" in capsys.readouterr().err
    assert tinyhd("predict", "clip.mp4", "--overlai", "o.mp4") == 2
    output = capsys.readouterr().err
    assert "--overlay" in output
    assert "tinyhd predict --help" in output
    Path("clip.mp4").touch()
    assert tinyhd("clip.mp4") == 2
    assert "did you mean tinyhd predict clip.mp4?" in capsys.readouterr().err


def test_debug_shows_the_traceback(tinyhd, tmp_path, capsys):
    video = clips.make(tmp_path / "clip.mp4", frames=2)
    assert tinyhd("predict", video, "--weights", tmp_path / "none.pth", "--debug") == 4
    errors = capsys.readouterr().err
    assert "Traceback" in errors
    assert errors.splitlines()[-1].startswith("tinyhd: ")


def test_unexpected_errors_are_one_line(tinyhd, tmp_path, weights_file, capsys, monkeypatch):
    from tinyhd_cli.inference import model

    def broken(self, clip):
        raise RuntimeError("the network failed\nin many\nlines")

    monkeypatch.setattr(model.Model, "infer", broken)
    video = clips.make(tmp_path / "clip.mp4", frames=2)
    assert tinyhd("predict", video, "--weights", weights_file) == 1
    errors = capsys.readouterr().err
    assert "unexpected RuntimeError: the network failed (use --debug" in errors
    assert len(errors.splitlines()) == 1
    assert here() == []


def test_messages_and_progress_as_json(tinyhd, tmp_path, weights_file, capsys, monkeypatch):
    """Every line on stderr is an event; the level distinguishes errors, progress and information."""
    clip = clips.make(tmp_path / "clip.mp4", frames=3)
    for switch in (["--json-log"], []):
        if not switch:
            monkeypatch.setenv("TINYHD_JSON_LOG", "1")
        assert tinyhd("predict", clip, "gone.mp4", *switch, "--weights", weights_file, "--out-dir", "out") == 1
        events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
        assert {event["level"] for event in events} == {"error", "progress", "info", "summary"}
        assert next(event["message"] for event in events if event["level"] == "error") == "gone.mp4: no such file"
        last = [event for event in events if event["level"] == "progress"][-1]
        assert (last["label"], last["done"], last["total"]) == ("clip.mp4", 3, 3)
        assert all(event["time"] > 1e9 for event in events)
    monkeypatch.delenv("TINYHD_JSON_LOG")
    assert tinyhd("predict", "gone.mp4") == 3
    assert capsys.readouterr().err == "tinyhd: gone.mp4: no such file\n"
    assert tinyhd("predict", "") == 3  # not the current folder
    assert capsys.readouterr().err == "tinyhd: the name of an input is empty\n"
