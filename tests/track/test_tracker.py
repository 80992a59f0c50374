"""The tracker, live and by command; what is bad input and what becomes of it."""

import io
import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from saccade.cli.main import run
from saccade.deploy import compare, load_program, lower, save_program
from saccade.events import REPRESENTATIONS, EventStream, FrameStream, write_events
from saccade.events.framing import Framing
from saccade.events.windows import WINDOWS, ByCount, ByTime
from saccade.files import load_model, save_model
from saccade.models import create_model
from saccade.track.baselines import BASELINES
from saccade.track.codec import encoded
from saccade.track.crops import region_of
from saccade.track.evaluate import tracked
from saccade.track.live import follow
from saccade.track.tracker import HELD_BROKEN, HELD_SILENT, Tracker
from saccade.verify import wake

HEIGHT, WIDTH, WINDOW_US = 60, 80, 10_000
BOX = (20.0, 20.0, 12.0, 12.0)


def blob(windows=8, speed=2.0, empty=(), begin=0):
    """A square of events that moves to the right, ``speed`` pixels a window, and rests in some windows."""
    draw = np.random.default_rng(0)
    t = np.sort(draw.integers(0, windows * WINDOW_US, windows * 150))
    t[0] = 0
    t = t[~np.isin(t // WINDOW_US, empty)]
    x = (20 + speed * t / WINDOW_US).astype(int) + draw.integers(0, 12, len(t))
    y = 20 + draw.integers(0, 12, len(t))
    kept = (x >= 0) & (x < WIDTH)
    return EventStream(begin + t[kept], x[kept], y[kept], draw.integers(0, 2, kept.sum()), HEIGHT, WIDTH)


FRAMING = Framing(REPRESENTATIONS["gtp"], ByTime(duration_us=WINDOW_US), HEIGHT, WIDTH)


def model_of(**changes):
    torch.manual_seed(0)
    small = {"widths": (8, 8, 16, 16), "heads": 2, "search": 64, "template": 32, "head_width": 16}
    model = create_model("sdtrack_small", **(small | changes)).eval()
    model.frames = FRAMING.record() | {"steps": 1}
    return model


@pytest.fixture(scope="module")
def woken():
    """A network whose neurons fire, untrained, saying that the target is in the middle."""
    model = model_of()
    frames = FrameStream("gtp", HEIGHT, WIDTH)
    made = torch.stack([frames.update(w, i, i + 1) for i, w in enumerate(blob().by_duration(WINDOW_US))])
    wide = torch.zeros(len(made), 3, 96, 96)
    wide[:, :, :60, :80] = made
    wake(model, wide[None])
    with torch.no_grad():
        for name, values in (("score", (0.0,)), ("size", (-1.1, -1.1)), ("offset", (2.0, 2.0))):
            last = getattr(model.head, name)[-1]
            last.weight.mul_(0.0 if name == "score" else 0.02)  # of equal scores the first place counts
            last.bias.copy_(torch.tensor(values))
    return model


@pytest.fixture
def file(woken, tmp_path):
    save_model(woken, tmp_path / "tracker.safetensors")
    return tmp_path / "tracker.safetensors"


def boxes(tracker, events=None, **options):
    pieces = iter([blob() if events is None else events])
    return list(follow(tracker, options.pop("framing", FRAMING), pieces, BOX, **options))


def test_a_step_a_window(woken):
    steps = boxes(Tracker(woken))
    assert [step.number for step in steps] == list(range(8))
    assert steps[0].box == BOX
    assert steps[0].found is None
    for step in steps[1:]:
        x, y, w, h = step.box
        assert 0 <= x < x + w <= WIDTH
        assert 0 <= y < y + h <= HEIGHT
        assert step.found.held == ""
        assert step.found.scores.shape == (4, 4)
        assert step.latency_ms > 0


def test_pieces_change_nothing(woken):
    events = blob()
    whole = [step.box for step in boxes(Tracker(woken))]
    pieces = [events[i : i + 77] for i in range(0, len(events), 77)]
    parts = [step.box for step in follow(Tracker(woken), FRAMING, pieces, BOX)]
    assert parts == whole
    # nor does what was followed before
    tracker = Tracker(woken)
    boxes(tracker, blob(speed=-1))
    assert [step.box for step in boxes(tracker)] == whole


def test_windows_without_events_hold_the_box_and_run_nothing(woken, monkeypatch):
    tracker = Tracker(woken)
    calls = []
    answer = tracker._answer
    monkeypatch.setattr(tracker, "_answer", lambda x: calls.append(1) or answer(x))
    steps = boxes(tracker, blob(empty=(3, 4)))
    held = [step.found.held if step.found else "" for step in steps]
    assert held == ["", "", "", HELD_SILENT, HELD_SILENT, "", "", ""]
    assert steps[4].box == steps[3].box == steps[2].box
    assert len(calls) == 5
    lazy = boxes(Tracker(woken, least_events=10**6))
    assert all(step.box == BOX for step in lazy)


def test_a_target_that_leaves(woken):
    """Its box stays on the sensor and is held where nothing happens any more."""
    steps = boxes(Tracker(woken), blob(windows=40, speed=4.0))
    assert len(steps) >= 15
    for step in steps:
        x, y, w, h = step.box
        assert x >= 0
        assert y >= 0
        assert x + w <= WIDTH
        assert y + h <= HEIGHT


def test_answers_that_are_not_finite_are_held(woken, monkeypatch):
    tracker = Tracker(woken)
    monkeypatch.setattr(tracker, "_answer", lambda x: torch.full((1, 5, 4, 4), float("nan")))
    steps = boxes(tracker)
    assert {step.found.held for step in steps[1:]} == {HELD_BROKEN}
    assert steps[-1].box == BOX


def test_options(woken, monkeypatch):
    kept = boxes(Tracker(woken, keep_size=True))
    assert {step.box[2:] for step in kept} == {(12.0, 12.0)}
    moved = boxes(Tracker(woken, recentre=True), blob(speed=6.0))
    for step in moved[1:]:
        region = step.found.region
        x = step.window.events.x
        assert abs(region.left + region.side / 2 - np.median(x)) <= 2
    tracker = Tracker(woken, momentum=0.5)
    monkeypatch.setattr(tracker, "_answer", lambda x: encoded(torch.tensor([[0.5, 0.5, 0.25, 0.25]]), 4))
    tracker.init(torch.ones(3, HEIGHT, WIDTH), BOX)
    tracker._velocity = (4.0, -2.0)
    ahead = tracker.track(torch.ones(3, HEIGHT, WIDTH))
    around = region_of(BOX, 3.0, 64)
    assert (ahead.region.left - around.left, ahead.region.top - around.top) == (4, -2)
    assert tracker._velocity == pytest.approx((4.0, -2.0), abs=0.6)  # the target is where it was looked for
    with pytest.raises(ValueError, match=r"momentum is in \[0, 1\)"):
        Tracker(woken, momentum=1.0)
    with pytest.raises(ValueError, match="a power, is between 0 and 16"):
        Tracker(woken, hann=-1.0)
    two = torch.full((1, 5, 4, 4), -9.0)  # a place in the corner that scores a little more than one in the middle
    two[:, 0, 0, 0], two[:, 0, 2, 2], two[:, 3:] = 1.2, 1.0, 0.0
    places = []
    for hann in (0.0, 2.0):
        tracker = Tracker(woken, hann=hann)
        monkeypatch.setattr(tracker, "_answer", lambda x: two)
        tracker.init(torch.ones(3, HEIGHT, WIDTH), BOX)
        found = tracker.track(torch.ones(3, HEIGHT, WIDTH))
        assert found.score == pytest.approx(torch.tensor(1.0 if hann else 1.2).sigmoid().item())
        assert np.unravel_index(found.scores.argmax(), (4, 4)) == (0, 0)  # the map itself is not weighed
        places.append(found.region.left + found.region.side / 2 - found.box[0] - found.box[2] / 2 > 8)
    assert places == [True, False]
    few = [step.number for step in boxes(Tracker(woken), start_us=25_000)]
    assert few == list(range(6))


def test_windows_by_count(woken):
    framing = Framing(REPRESENTATIONS["gtp"], ByCount(events=200), HEIGHT, WIDTH)
    steps = boxes(Tracker(woken), framing=framing)
    assert {len(step.window.events) for step in steps} == {200}
    with pytest.raises(ValueError, match="equal_count cuts a recording by where it ends"):
        boxes(Tracker(woken), framing=Framing(REPRESENTATIONS["gtp"], WINDOWS["equal_count"], HEIGHT, WIDTH))


def test_what_a_tracker_refuses(woken):
    frame = torch.ones(3, HEIGHT, WIDTH)
    tracker = Tracker(woken)
    with pytest.raises(ValueError, match="track follows init"):
        tracker.track(frame)
    with pytest.raises(ValueError, match=r"expected a frame \[3, H, W\], got \[2, 60, 80\]"):
        tracker.init(frame[:2], BOX)
    for box, words in (((90, 2, 5, 5), "lies outside the sensor of 80 x 60"), ((2, 2, 0, 5), "is empty")):
        with pytest.raises(ValueError, match=words):
            tracker.init(frame, box)
    with pytest.raises(ValueError, match="says nothing of how its frames are made"):
        Tracker(create_model("sdtrack_small"))
    with pytest.raises(ValueError, match="is made of an sdtrack model, got Linear"):
        Tracker(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="no events, so there is nothing to follow"):
        list(follow(tracker, FRAMING, [], BOX))
    with pytest.raises(ValueError, match="no window behind 90000000 us"):
        boxes(tracker, start_us=90_000_000)


def test_another_sensor_size(woken):
    """Regions are cut relative to the box, so a tracker works on any sensor."""
    small, large = blob(), blob()
    wide = EventStream(large.t, large.x, large.y, large.p, 260, 346)
    a, b = (boxes(Tracker(woken), events) for events in (small, wide))
    assert a[1].box == pytest.approx(b[1].box, abs=1e-4)


def test_sequences_keep_potentials():
    """A tracker that was trained on windows in a row carries its potentials on, and gives what the network gives of all."""
    model = model_of(neuron="spikformer", T=2)
    frame = torch.zeros(3, HEIGHT, WIDTH)
    frame[:, 20:32, 20:32] = 60
    wake(model, torch.nn.functional.pad(frame, (0, 16, 0, 36))[None, None].repeat(2, 1, 1, 1, 1))
    model.frames = FRAMING.record() | {"steps": 4}
    tracker = Tracker(model)
    tracker.init(frame, BOX)
    first, second = (tracker._answer(_canvas(tracker, frame)) for _ in range(2))
    assert not torch.equal(first, second)
    together = model(_canvas(tracker, frame)[None, None].repeat(2, 1, 1, 1, 1), steps=True)
    torch.testing.assert_close(torch.stack([first, second]), together)
    program = lower(model, _canvas(tracker, frame)[None, None].repeat(2, 1, 1, 1, 1), unit=1.0)
    integers = Tracker(model, program)
    integers.init(frame, BOX)
    kept = [integers._answer(_canvas(integers, frame)) for _ in range(2)]
    torch.testing.assert_close(torch.stack(kept), together, rtol=0, atol=1e-4)


def _canvas(tracker, frame):
    from saccade.track.crops import canvas, cut

    c = tracker.model.config
    return canvas(cut(frame, region_of(BOX, c.search_factor, c.search), True), tracker._template)


@pytest.mark.parametrize("layout", ["siamese", "plain", "mask"])
def test_integers_give_the_same_boxes(layout, tmp_path):
    """Every spike of the program, and every box, is that of the network."""
    model = model_of(layout=layout, pads=4)
    tracker = Tracker(model)
    frames = FrameStream("gtp", HEIGHT, WIDTH)
    seen = [frames.update(w, i, i + 1) for i, w in enumerate(blob().by_duration(WINDOW_US))]
    tracker.init(seen[0], BOX)
    x = torch.stack([_canvas(tracker, frame) for frame in seen[:3]])
    wake(model, x[None])
    program = lower(model, x[:1], unit=1.0)
    for engine in ("numpy", "native"):
        found = compare(program, model, x, engine=engine)
        assert found.levels > 10_000
        assert found.mismatches == 0
        assert found.largest < 1e-4
    save_program(program, tmp_path / "a.sacc")
    integers = Tracker(model, load_program(tmp_path / "a.sacc"))
    a, b = (np.array([step.box for step in boxes(one)]) for one in (Tracker(model), integers))
    np.testing.assert_allclose(a, b, atol=1e-3)
    with pytest.raises(ValueError, match="it was made from another"):
        Tracker(model_of(search=48), program)


@pytest.mark.parametrize("name", BASELINES)
def test_baselines(name):
    if name in ("csrt", "kcf"):
        cv2 = pytest.importorskip("cv2")
        if not hasattr(cv2, f"Tracker{name.upper()}_create"):
            pytest.skip("this OpenCV has no contributed trackers")
    events = blob(speed=1.5)
    stamps = np.arange(9) * WINDOW_US
    truth = np.array([[20 + 1.5 * i, 20.0, 12 + 1.5, 12] for i in range(8)])
    track = tracked(BASELINES[name](), REPRESENTATIONS["gtp"], events, stamps, truth)
    assert np.isfinite(track.boxes).all()
    away = abs(track.boxes[-1, 0] - truth[-1, 0])
    if name == "static":
        assert (track.boxes == truth[0]).all()
    if name == "median":  # random events look different in each window, so a template finds nothing here
        assert away < 5
    with pytest.raises(ValueError, match="the events of the window too"):
        BASELINES[name]().track(torch.zeros(3, 4, 4))


def test_truth_with_gaps(woken):
    truth = np.tile([BOX], (8, 1)).astype(float)
    truth[[0, 5]] = np.nan
    track = tracked(Tracker(woken), REPRESENTATIONS["gtp"], blob(), np.arange(9) * WINDOW_US, truth)
    assert len(track.boxes) == 7
    assert track.absent.tolist() == [False] * 4 + [True] + [False] * 2
    with pytest.raises(ValueError, match="8 stamps for 8 boxes"):
        tracked(Tracker(woken), REPRESENTATIONS["gtp"], blob(), np.arange(8), truth)
    with pytest.raises(ValueError, match="no window has a true box"):
        tracked(Tracker(woken), REPRESENTATIONS["gtp"], blob(), np.arange(9) * WINDOW_US, truth * np.nan)


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "blob.raw"
    write_events(path, blob())
    return path


def command(recording, file, *more):
    return run(["track", "run", str(recording), "--box", "20,20,12,12", "--model", str(file), *map(str, more)])


def test_command(recording, file, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    outs = [tmp_path / f"a{suffix}" for suffix in (".json", ".csv", ".txt", ".png", ".gif", ".html")]
    assert command(recording, file, *(word for out in outs for word in ("--out", out))) == 0
    said = capsys.readouterr().out
    assert "10.0 ms: 20.0,20.0,12.0,12.0  score 1.00" in said
    assert "8 windows, 0 held" in said
    record = json.loads(outs[0].read_text())
    assert len(record["steps"]) == 8
    lines = outs[1].read_text().splitlines()
    assert lines[0] == "window,start_us,stop_us,x,y,w,h,score,events,held,latency_ms"
    assert len(lines) == 9
    given = [float(word) for word in lines[3].split(",")[3:7]]
    assert given == pytest.approx(record["steps"][2]["box"], abs=1e-3)
    assert len(outs[2].read_text().splitlines()) == 8
    with Image.open(outs[3]) as picture:
        assert picture.size[0] > 4 * WIDTH
        assert (234, 115, 23) in {colour for _, colour in picture.convert("RGB").getcolors(1 << 20)}
    with Image.open(outs[4]) as picture:
        assert picture.n_frames == 8
    page = outs[5].read_text()
    assert page.count("data:image/png;base64,") == 8
    assert '"scores": [[' in page
    assert 'src="http' not in page


def test_command_writes_video(recording, file, tmp_path):
    pytest.importorskip("av")
    assert command(recording, file, "--out", tmp_path / "a.mp4", "--windows", 4) == 0
    assert (tmp_path / "a.mp4").stat().st_size > 1000


def test_command_in_integers_and_baselines(recording, file, tmp_path, capsys):
    model = load_model(file)
    save_program(lower(model, torch.zeros(1, 3, 96, 96), unit=1.0), tmp_path / "a.sacc")
    assert command(recording, file, "--json") == 0
    plain = json.loads(capsys.readouterr().out)["steps"]
    assert command(recording, file, "--json", "--program", tmp_path / "a.sacc") == 0
    integers = json.loads(capsys.readouterr().out)["steps"]
    for a, b in zip(plain, integers, strict=True):
        assert a["box"] == pytest.approx(b["box"], abs=1e-3)
    assert run(["track", "run", str(recording), "--box", "20,20,12,12", "--baseline", "median", "--json"]) == 0
    last = json.loads(capsys.readouterr().out)["steps"][-1]["box"]
    assert last[0] == pytest.approx(20 + 2 * 7.5, abs=3)


def test_command_reads_a_pipe(file, capsys, monkeypatch):
    events = blob()
    rows = zip(events.t, events.x, events.y, events.p, strict=True)
    text = "\n".join(" ".join(map(str, row)) for row in rows) + "\n"
    read, write = os.pipe()
    with open(read, "rb", buffering=0) as end:
        os.write(write, text.encode()[:60_000].rpartition(b"\n")[0] + b"\n")
        os.close(write)
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(end))
        assert command("-", file, "--height", HEIGHT, "--width", WIDTH, "--json") == 0
    assert json.loads(capsys.readouterr().out)["windows"] >= 6


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--box", "20,20,12"], "four numbers with commas between"),
        (["--box", "a,b,c,d"], "four numbers with commas between"),
        (["--box", "200,20,12,12"], "lies outside the sensor of 80 x 60 pixels"),
        (["--box", "20,20,0,12"], "the box is empty: width 0"),
        (["--box", "nan,20,3,12"], "a box is of finite numbers"),
        (["--out", "a.bmp"], "boxes end in .json, .csv or .txt, pictures in"),
        (["--window-us", "5", "--window-events", "5"], "a duration or a number of events, not both"),
        (["--start-us", "99999999"], "no window behind 99999999 us"),
        (["--baseline", "median"], "--baseline stands alone"),
        (["--format", "dat"], "blob.raw"),
    ],
)
def test_command_refuses(recording, file, more, words, capsys):
    assert command(recording, file, *more) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert words in err


def test_command_refuses_models(recording, tmp_path, capsys):
    save_model(create_model("or_resnet18_small"), tmp_path / "other.safetensors")
    save_model(create_model("sdtrack_small"), tmp_path / "blank.safetensors")
    for name, words in (
        ("other.safetensors", "is made of an sdtrack model"),
        ("blank.safetensors", "says nothing of how its frames are made"),
        ("none.safetensors", "neither a model file nor a run directory"),
    ):
        assert command(recording, tmp_path / name) == 2
        assert words in capsys.readouterr().err
    assert run(["track", "run", "-", "--box", "1,2,3,4", "--baseline", "static"]) == 2
    assert "give --height and --width" in capsys.readouterr().err


def test_commands_of_deploy(file, tmp_path, capsys):
    """A tracker is lowered from its file alone: that says what it takes."""
    model = load_model(file)
    save_model(model, file, input_shape=(3, 96, 96))
    assert run(["deploy", "build", str(file), "--out", str(tmp_path / "a.sacc")]) == 0
    assert "layers of neurons" in capsys.readouterr().out
    found = compare(load_program(tmp_path / "a.sacc"), model, torch.full((1, 3, 96, 96), 30.0))
    assert found.mismatches == 0 < found.levels


def test_a_camera_that_is_stopped(recording, file, tmp_path, monkeypatch, capsys):
    """Ctrl-C is how it ends: what was followed until then is written."""
    from saccade.track import live

    whole = live.follow

    def stopped(*given):
        for step in whole(*given):
            if step.number == 3:
                raise KeyboardInterrupt
            yield step

    monkeypatch.setattr(live, "follow", stopped)
    assert command(recording, file, "--out", tmp_path / "a.csv") == 130
    said = capsys.readouterr()
    assert "3 windows, 0 held" in said.out
    assert "what was followed until then is written" in said.err
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 4
