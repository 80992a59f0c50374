"""Boxes, results in files, the protocols, ``saccade track eval``."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from saccade.cli.main import run
from saccade.track.boxes import centres, checked_box, clipped, overlap
from saccade.track.metrics import PROTOCOLS
from saccade.track.results import matched, read_boxes, read_flags, read_tracks, trackers_in, write_boxes


@pytest.fixture(scope="session")
def fe108_data() -> Path:
    """Truth and stored results of FE108: $SACCADE_DATA/tracking, else ../shared/data/tracking, else the test skips."""
    roots = [Path(__file__).parents[3] / "shared" / "data"]
    if os.environ.get("SACCADE_DATA"):
        roots.insert(0, Path(os.environ["SACCADE_DATA"]))
    for root in roots:
        if (root / "tracking" / "fe108" / "results").is_dir():
            return root / "tracking" / "fe108"
    pytest.skip("no results of FE108: neither in $SACCADE_DATA/tracking nor in ../shared/data/tracking")


@pytest.mark.parametrize(
    ("tracker", "auc", "pr"),
    [
        ("sdtrack_tiny", 59.02, 91.67),  # the authors' MATLAB gives the same from these files
        ("ostrack", 54.59, 87.11),
        ("grm", 56.8, 89.3),  # as printed by Shan et al. (2025), to one decimal
        ("stark", 48.15, 72.41),  # files that are damaged: printed are 57.4 and 89.2
    ],
)
def test_the_published_table_from_raw_boxes(fe108_data, tracker, auc, pr):
    folders = fe108_data / "results" / tracker, fe108_data / "annos" / "gt_rect", fe108_data / "annos" / "absent"
    tracks, notes = read_tracks(*folders)
    assert len(tracks) == 32
    assert sum(len(track.truth) for track in tracks) == 59_688
    assert sum(int((track.truth <= 0).any(1).sum()) for track in tracks) == 619
    assert notes == []
    numbers = PROTOCOLS["fe108"].score(tracks).numbers
    digits = 1 if tracker == "grm" else 2
    assert (round(numbers["AUC"], digits), round(numbers["PR"], digits)) == (auc, pr)


def test_overlap_by_hand():
    a, b = [0, 0, 4, 4], [2, 2, 4, 4]
    assert overlap(a, b) == pytest.approx(4 / 28)
    assert overlap(a, b, pixel=1.0) == pytest.approx(4 / 28)  # the same but for boxes that touch
    assert overlap([0, 0, 0, 0], b) == 0
    assert centres(a).tolist() == [2, 2]
    assert centres(a, 1.0).tolist() == [1.5, 1.5]


def test_fe108_edge_frames_are_lost_and_hit():
    """Of four frames, two touch the left edge: never a success, always within a distance."""
    truth = np.array([[10, 10, 8, 8], [0, 10, 8, 8], [10, 10, 8, 8], [-1, 10, 8, 8]], float)
    perfect, far = truth.copy(), truth + np.array([200, 0, 0, 0])
    for boxes, success, hits in ((perfect, 0.5, 1.0), (far, 0.25, 0.75)):  # frame 0 is always the truth
        scores = PROTOCOLS["fe108"].score([matched("one", boxes, truth)])
        assert scores.curves["success"][1][:-1] == pytest.approx([success] * 20)
        assert scores.curves["success"][1][-1] == 0  # strictly above 1 is nothing
        assert scores.numbers["PR"] == pytest.approx(100 * hits)
    plain = PROTOCOLS["pytracking"].score([matched("one", perfect, truth)]).numbers
    assert plain["AUC"] == pytest.approx(100 * 20 / 21)


def test_fe108_holds_what_is_invalid_and_forgets_what_is_silent():
    truth = np.tile([[10.0, 10, 8, 8]], (4, 1))
    boxes = truth.copy()
    boxes[2], boxes[3, 2] = np.nan, 0
    assert PROTOCOLS["fe108"].score([matched("one", boxes, truth)]).numbers["PR"] == 100
    absent = np.array([False, False, True, False])
    assert PROTOCOLS["fe108"].score([matched("one", boxes, truth, absent)]).numbers["PR"] == 75
    lost = truth + np.array([500, 0, 0, 0])
    lost[:, 2:] = 8
    silent = matched("two", lost, truth)
    silent.boxes[0] = truth[0]
    both = PROTOCOLS["fe108"].score([matched("one", boxes, truth), silent])
    assert both.by_sequence["two"]["PR"] == 25
    assert both.numbers["PR"] == pytest.approx((100 + 25) / 2)


def test_what_protocols_make_of_an_absent_target():
    truth = np.array([[10, 10, 8, 8], [10, 10, 8, 8], [10, 10, 8, 4]], float)
    boxes = truth.copy()
    boxes[2] = [14, 12, 8, 4]  # half a width, half a height away
    absent = np.array([False, True, False])
    track = matched("one", boxes, truth, absent)
    found = {name: PROTOCOLS[name].score([track]).numbers for name in ("pytracking", "lasot", "got10k")}
    assert found["pytracking"]["NPR"] == pytest.approx(200 / 3)  # its error of -1
    assert found["lasot"]["NPR"] == pytest.approx(100 / 3)
    assert found["pytracking"]["PR"] == found["lasot"]["PR"] == pytest.approx(200 / 3)
    expected = overlap(boxes[2], truth[2])
    assert found["got10k"]["AO"] == pytest.approx(100 * expected)  # the first frame and the absent one are left out
    assert found["got10k"]["SR50"] == 0


def test_results_of_other_lengths(tmp_path):
    truth = np.tile([[10.0, 10, 8, 8]], (4, 1))
    for folder, boxes in (("truth", truth), ("long", truth[[0, 1, 2, 3, 3]]), ("short", truth[:2])):
        (tmp_path / folder).mkdir()
        write_boxes(tmp_path / folder / "a.txt", boxes)
    tracks, (note,) = read_tracks(tmp_path / "long", tmp_path / "truth")
    assert "5 boxes for 4 frames; the rest is left out" in note
    assert PROTOCOLS["fe108"].score(tracks).numbers["PR"] == 100
    tracks, (note,) = read_tracks(tmp_path / "short", tmp_path / "truth")
    assert "2 boxes for 4 frames; those that are missing count as lost" in note
    for name, own in (("fe108", "PR"), ("pytracking", "PR"), ("lasot", "NPR"), ("got10k", "AO")):
        expected = 100 / 3 if name == "got10k" else 50
        assert PROTOCOLS[name].score(tracks).numbers[own] == pytest.approx(expected)
    write_boxes(tmp_path / "truth" / "b.txt", truth)
    with pytest.raises(ValueError, match=r"lacks 1 of 2 sequences, e.g. b; --partial leaves them out"):
        read_tracks(tmp_path / "long", tmp_path / "truth")
    assert len(read_tracks(tmp_path / "long", tmp_path / "truth", partial=True)[0]) == 1
    with pytest.raises(ValueError, match="holds no result of the 2 sequences"):
        read_tracks(tmp_path, tmp_path / "truth")
    with pytest.raises(ValueError, match="holds no sequences"):
        read_tracks(tmp_path / "long", tmp_path)


def test_files_of_boxes(tmp_path):
    path = tmp_path / "a.txt"
    for text in ("1,2,3,4\n5,6,7,8\n", "1 2 3 4\n\n5\t6\t7\t8", "1; 2; 3; 4\r\n5;6;7;8\r\n"):
        path.write_text(text)
        assert read_boxes(path).tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    path.write_text("1,2,3,4\nnan,nan,nan,nan\n")
    assert np.isnan(read_boxes(path)[1]).all()
    for text, words in (("1,2,3\n", "line 1 is no box"), ("1,2,3,4\n5,6,x,8", "line 2 is no box"), ("\n", "no boxes")):
        path.write_text(text)
        with pytest.raises(ValueError, match=words):
            read_boxes(path)
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ValueError, match="is no text"):
        read_boxes(path)
    path.write_text("0\n1\n")
    assert read_flags(path, 2).tolist() == [False, True]
    with pytest.raises(ValueError, match="expected 3 flags of 0 or 1, found 2 words"):
        read_flags(path, 3)


def test_boxes_are_cut_to_the_image():
    assert clipped((-20, 5, 30, 20), 100, 100) == (0, 5, 10, 20)
    assert clipped((150, 150, 1, 1), 100, 100) == (90, 90, 10, 10)
    assert clipped((-500, -500, 4000, 4000), 60, 80) == (0, 0, 80, 60)
    assert clipped((0, 0, 1, 1), 6, 8) == (0, 0, 8, 6)
    assert checked_box((-2, 1, 5, 5), 10, 10) == (0, 1, 3, 5)
    for box, words in (
        ((1, 2, 3), "four numbers"),
        ((1, 2, float("nan"), 4), "finite"),
        ((1, 2, 0, 4), "empty"),
        ((1, 2, 3, -4), "empty"),
        ((10, 2, 3, 4), r"lies outside the sensor of 10 x 10"),
        ((-5, 2, 5, 4), "lies outside"),
    ):
        with pytest.raises(ValueError, match=words):
            checked_box(box, 10, 10)


@pytest.fixture
def folders(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("first", "second"):
        truth = np.cumsum(rng.normal(0, 2, (30, 4)), 0) * [1, 1, 0, 0] + [60, 60, 20, 15]
        for folder, noise in (("truth", 0), ("all/good", 1), ("all/bad", 20)):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            boxes = truth + rng.normal(0, 1, truth.shape) * noise * [1, 1, 0, 0]
            write_boxes(tmp_path / folder / f"{name}.txt", boxes)
    return tmp_path


def test_command(folders, capsys):
    pytest.importorskip("matplotlib")
    arguments = [
        "track",
        "eval",
        str(folders / "all"),
        "--truth",
        str(folders / "truth"),
        "--out",
        str(folders / "out"),
    ]
    assert run([*arguments, "--protocol", "pytracking"]) == 0
    out = capsys.readouterr().out
    assert out.index("good") < out.index("bad")
    assert "2 sequences, 60 frames" in out
    record = json.loads((folders / "out" / "scores.json").read_text())
    assert record["trackers"]["good"]["numbers"]["PR"] == 100 > record["trackers"]["bad"]["numbers"]["PR"] + 20
    assert set(record["trackers"]["good"]["by_sequence"]) == {"first", "second"}
    page = (folders / "out" / "report.html").read_text()
    assert page.count("<svg") == 3
    assert "good [" in page
    assert run([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["protocol"] == "fe108"


def test_command_refuses(folders, capsys):
    truth = ["--truth", str(folders / "truth")]
    (folders / "other" / "good").mkdir(parents=True)
    (folders / "other" / "good" / "first.txt").write_text("1,2,3,4\n")
    for arguments, words in (
        ([str(folders / "nowhere"), *truth], "nowhere: no folder of results"),
        ([str(folders / "all"), *truth, "--protocol", "fe109"], "did you mean fe108"),
        (
            [str(folders / "all" / "good"), str(folders / "other" / "good"), *truth],
            "two folders of results are called good",
        ),
        ([str(folders / "other"), *truth], "lacks 1 of 2 sequences, e.g. second"),
    ):
        assert run(["track", "eval", *arguments]) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert words in err
    assert run(["track", "eval", str(folders / "other"), *truth, "--partial"]) == 0
    assert "1 boxes for 30 frames" in capsys.readouterr().err
    assert list(trackers_in([folders / "all"])) == ["bad", "good"]


def test_a_page_of_something_else_is_refused(tmp_path):
    from saccade.report.track_scores import write_track_scores

    with pytest.raises(ValueError, match="holds no scores of trackers"):
        write_track_scores(tmp_path)
    (tmp_path / "scores.json").write_text('{"format": "saccade-track-scores-1"}')
    with pytest.raises(ValueError, match="not what saccade writes"):
        write_track_scores(tmp_path)
