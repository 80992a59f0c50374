"""Speed of dehazing, side by side in one process: python benchmarks/dehaze.py [--quick]

CPU time of one thread, uint8 in memory to uint8, decoding apart; contenders take turns, medians and spread are over rounds.
Ours against our own DCP in float32 with OpenCV's filters and the package image_dehazer (its 0.0.9 crashes with NumPy 2 and
opens windows: patched here, and told not to). Then video frames with their buffers used again, and memory.
Writes results/dehaze/speed.json. Needs pip install ".[dehaze]" and pip install --no-deps image-dehazer==0.0.9: it asks for
opencv-python, which would overwrite the files of opencv-contrib-python-headless.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as `saccade dehaze run` sets it for video

import numpy as np
import torch

from saccade.dehaze import Dehazer, Settings, native
from saccade.dehaze.baselines import dcp
from saccade.dehaze.synthesis import stereo_scene, synth_haze
from saccade.dehaze.video import VideoDehazer
from saccade.experiment import environment
from saccade.report import write_text

Function = Callable[[np.ndarray], Any]


def scene(width: int, height: int) -> np.ndarray:
    """The bundled stereo picture under haze, resized."""
    import cv2

    clear, depth = stereo_scene()
    hazy = synth_haze(clear, depth, 0.6, (0.85, 0.88, 0.90))
    return np.floor(cv2.resize(hazy, (width, height), interpolation=cv2.INTER_LINEAR) * 255 + 0.5).astype(np.uint8)


def own_dcp(image: np.ndarray) -> np.ndarray:
    return (dcp(image.astype(np.float32) / 255) * 255 + 0.5).astype(np.uint8)


def image_dehazer() -> Function:
    """The package, patched at run time; a fresh object each time, as its own entry point does."""
    vars(np).setdefault("alltrue", np.all)
    import image_dehazer as package

    return lambda image: package.remove_haze(image[..., ::-1].copy(), showHazeTransmissionMap=False)[0]


def take_turns(contenders: dict[str, Function], image: np.ndarray, rounds: int) -> list[dict[str, Any]]:
    megapixels = image.shape[0] * image.shape[1] / 1e6
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for call in contenders.values():
        call(image.copy())
    for _ in range(rounds):
        for name, call in contenders.items():
            slow = name == "image_dehazer"
            if slow and len(times[name]) >= 5:
                continue
            given = image.copy()
            started = time.process_time()
            call(given)
            times[name].append((time.process_time() - started) * 1e3 / megapixels)
    rows = []
    for name, found in times.items():
        row = {"contender": name, "size": [image.shape[1], image.shape[0]], "rounds": len(found)}
        row |= {
            "ms_per_megapixel": round(statistics.median(found), 2),
            "least": round(min(found), 2),
            "most": round(max(found), 2),
        }
        rows.append(row)
        print(row, flush=True)
    return rows


def passes(image: np.ndarray, rounds: int) -> dict[str, float]:
    """Median CPU time of each native pass, ms a megapixel, buffers warm."""
    settings, frame = Settings(), native.Frame(*image.shape[:2])
    out = np.empty_like(image)
    found: dict[str, list[float]] = {name: [] for name in ("airlight", "order", "theta", "render", "clahe")}
    for _ in range(rounds):
        marks = [time.process_time()]
        A = frame.load(image, settings)
        marks.append(time.process_time())
        farthest, nearest = frame.order(A, settings)
        marks.append(time.process_time())
        theta, _ = frame.theta(farthest, nearest, settings)
        marks.append(time.process_time())
        frame.render(farthest, nearest, theta.value, settings, out)
        marks.append(time.process_time())
        native.equalise(out, settings.clip)
        marks.append(time.process_time())
        for name, spent in zip(found, np.diff(marks), strict=True):
            found[name].append(spent * 1e3 / (image.shape[0] * image.shape[1] / 1e6))
    return {name: round(float(statistics.median(values)), 2) for name, values in found.items()}


def video(width: int, height: int, threads: int, frames: int, **options: Any) -> dict[str, Any]:
    """Frames a second over a moving scene: by CPU time for one thread, by the clock for several."""
    torch.set_num_threads(threads)
    base = scene(width + 64, height)
    clip = [np.ascontiguousarray(base[:, i % 64 : i % 64 + width]) for i in range(16)]
    dehazer, out = VideoDehazer(**options), np.empty((height, width, 3), np.uint8)
    dehazer(clip[0], out)
    clock = time.process_time if threads == 1 else time.perf_counter
    rates = []
    for _ in range(5):
        started = clock()
        for i in range(frames):
            dehazer(clip[i % 16], out)
        rates.append(frames / (clock() - started))
    row = {"size": [width, height], "threads": threads, "options": options, "clock": "CPU" if threads == 1 else "wall"}
    row |= {
        "frames_per_second": round(statistics.median(rates), 1),
        "least": round(min(rates), 1),
        "most": round(max(rates), 1),
    }
    print(row, flush=True)
    return row


def peak(width: int, height: int) -> None:
    """In a process of its own: memory at its highest during one call, beyond what was there, as float32 planes."""
    torch.set_num_threads(1)
    image = scene(width, height)
    Dehazer("paper")(image[:64, :64])

    def status(key: str) -> int:
        text = Path("/proc/self/status").read_text()
        return int(next(line.split()[1] for line in text.splitlines() if line.startswith(key)))

    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    result = Dehazer("paper")(image)
    grown = (status("VmHWM") - before) * 1024
    plane = 4 * width * height
    row = {"size": [width, height], "planes_beyond_output": round((grown - result.nbytes) / plane, 2)}
    print(json.dumps(row | {"planes_of_buffers": round(native.Frame(height, width).bytes / plane, 2)}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rounds: to try the script, not to measure")
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "results" / "dehaze" / "speed.json")
    options = parser.parse_args()
    if options.peak:
        peak(1920, 1080)
        return
    import cv2

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    rounds = 3 if options.quick else 15
    presets = {f"saccade {name}": Dehazer(name) for name in ("fidelity", "clear", "paper", "fast")}
    everyone: dict[str, Function] = {**presets, "DCP, float32 + OpenCV": own_dcp, "image_dehazer": image_dehazer()}
    rows = []
    for size in ((640, 480), (1920, 1080)):
        rows += take_turns(everyone, scene(*size), rounds)
    del everyone["image_dehazer"]  # minutes a round at five megapixels
    rows += take_turns(everyone, scene(2560, 2048), rounds)
    for row in rows:
        rivals = {r["contender"]: r["ms_per_megapixel"] for r in rows if r["size"] == row["size"]}
        for key, name in (("dcp_over_this", "DCP, float32 + OpenCV"), ("image_dehazer_over_this", "image_dehazer")):
            if name in rivals:
                row[key] = round(rivals[name] / row["ms_per_megapixel"], 2)
    shares = passes(scene(1920, 1080), rounds)
    print(shares)
    frames = 20 if options.quick else 60
    clips = [
        video(640, 360, 1, frames * 3),
        video(640, 360, 1, frames * 3, every=1, reduce=1),
        video(640, 360, 1, frames * 3, clahe="matlab"),
        video(1920, 1080, 1, frames),
        video(1920, 1080, 2, frames),
        video(1920, 1080, 2, frames, every=1, reduce=1),
    ]
    done = subprocess.run([sys.executable, __file__, "--peak"], capture_output=True, text=True, check=True)
    memory = json.loads(done.stdout.splitlines()[-1])
    print(memory)
    env = environment()
    info = Path("/proc/cpuinfo").read_text()
    name = next((line.split(":")[1].strip() for line in info.splitlines() if line.startswith("model name")), "")
    record = {
        "format": "saccade-dehaze-speed-1",
        "command": "python benchmarks/dehaze.py",
        "commit": env["commit"],
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {"cpu": name, "cores": len(os.sched_getaffinity(0)), "python": env["python"], "torch": env["torch"]},
        "versions": {"opencv": cv2.__version__, "numpy": np.__version__},
        "load": round(os.getloadavg()[0], 2),
        "wait_policy": os.environ["OMP_WAIT_POLICY"],
        "quick": options.quick,
        "rows": rows,
        "passes_ms_per_megapixel": shares,
        "video": clips,
        "memory": memory,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_text(options.out, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
