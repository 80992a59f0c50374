"""Pages: whatever a file says is text on them, and they follow the viewer's colours."""

import pytest

from saccade.report import RunFiles, fill, section, write_report
from saccade.report.sections import SECTIONS

SUMMARY = {
    "recipe": "<script>r</script>",
    "seed": "<img src=x onerror=alert(1)>",
    "model": "<b>m</b>",
    "T": "<i>4</i>",
    "parameters": 3,
    "images": {"train": 1, "validation": 1, "test": 1},
    "scores": [{"name": "<u>s</u>", "best": "highest", "percent": False}],
    "test_<u>s</u>": 0.5,
    "validation_<u>s</u>": 0.5,
    "chosen_epoch": 1,
    "chosen_by": "<em>c</em>",
    "epochs": 1,
    "training_seconds": 1,
}


@pytest.fixture
def run(tmp_path):
    (tmp_path / "metrics.csv").write_text("epoch,train_loss\n0,1\n1,0.5\n")
    (tmp_path / "recipe.yaml").write_text("name: <script>y</script>")
    RunFiles(tmp_path).write_json("summary.json", SUMMARY)
    return tmp_path


def test_nothing_of_a_foreign_summary_is_markup(run):
    page = write_report(run).read_text()
    for tag in ("<script", "<img", "<b>m", "<i>4", "<u>", "<em>"):
        assert tag not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert "&lt;script&gt;y" in page


def test_what_a_section_returns_is_text_unless_a_template_made_it(run):
    section("hostile.json")(lambda run, summary: "<script>plain</script>")
    section("filled.json")(lambda run, summary: fill("<p>{{ words }}</p>", **run.read_json("filled.json")))
    try:
        RunFiles(run).write_json("hostile.json", {})
        RunFiles(run).write_json("filled.json", {"words": "<script>"})
        page = write_report(run).read_text()
    finally:
        for name in ("hostile.json", "filled.json"):
            del SECTIONS._values[name]
    assert "&lt;script&gt;plain" in page
    assert "<p>&lt;script&gt;</p>" in page


@pytest.mark.parametrize("change", [{"images": 3}, {"parameters": "many"}, {"scores": None}])
def test_a_summary_of_another_shape_is_refused_in_one_line(run, change):
    RunFiles(run).write_json("summary.json", SUMMARY | change)
    with pytest.raises(ValueError, match=r"summary\.json: not what saccade writes") as caught:
        write_report(run)
    assert "\n" not in str(caught.value)
    assert not (run / "report.html").exists()


def test_pages_fit_a_phone_and_follow_light_and_dark(run):
    page = write_report(run).read_text()
    assert "width=device-width" in page
    assert "prefers-color-scheme:dark" in page
    assert "min(430px,100%)" in page  # no column is wider than the page
    assert page.count("var(--ink, #1f2933)") > 5  # the figures' words too
