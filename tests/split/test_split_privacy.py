"""What protects, how far, and what an attack reads."""

import json
import math

import pytest
import torch
from split_models import tiny

from saccade.cli.main import run
from saccade.split.audit import audit_inversion, linear_probe, read_by_probe, what_is_sent
from saccade.split.codecs import CODECS
from saccade.split.privacy import PrivacyFilter, gaussian_epsilon


def test_epsilon_of_known_cases():
    """Against the definition: the best order of a fine search, and the exact trade-off of a Gaussian (Balle and Wang
    2018)."""

    def exact_delta(epsilon, sigma):  # of one release, sensitivity 2 clips
        mu = 2 / sigma
        normal = torch.distributions.Normal(torch.tensor(0.0, dtype=torch.float64), 1.0)
        first = normal.cdf(torch.tensor(mu / 2 - epsilon / mu, dtype=torch.float64))
        return float(first - math.exp(epsilon) * normal.cdf(torch.tensor(-mu / 2 - epsilon / mu, dtype=torch.float64)))

    for sigma in (1.0, 4.0, 20.0):
        for delta in (1e-5, 1e-3):
            epsilon = gaussian_epsilon(sigma, 1, delta)
            assert exact_delta(epsilon, sigma) <= delta  # it promises no more than there is
            assert exact_delta(0.75 * epsilon, sigma) > delta  # nor much less
    assert gaussian_epsilon(4.0, 4, 1e-5) == pytest.approx(gaussian_epsilon(2.0, 1, 1e-5), rel=0.02)
    assert gaussian_epsilon(0.0, 1, 1e-5) == math.inf
    assert gaussian_epsilon(1.0, 0, 1e-5) == 0
    with pytest.raises(ValueError, match="delta lies in"):
        gaussian_epsilon(1.0, 1, 0.0)


def test_the_filter_holds_norms_and_adds_noise():
    h = torch.randn(4, 50, 16) * 3
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(PrivacyFilter().apply(h, generator), h)
    held = PrivacyFilter(2.0).apply(h, generator)
    assert float(held.norm(dim=-1).max()) <= 2.0 + 1e-5
    small = h * 0.001
    assert torch.equal(PrivacyFilter(2.0).apply(small, generator), small)
    noisy = PrivacyFilter(2.0, 0.5).apply(small, generator) - small
    assert float(noisy.std()) == pytest.approx(1.0, rel=0.05)
    for wrong in ((0.0, 0.0), (None, 1.0), (1.0, -1.0)):
        with pytest.raises(ValueError, match="clip is positive|noise is measured"):
            PrivacyFilter(*wrong)


def test_a_probe_reads_what_is_there_and_no_more():
    model = tiny("llama")
    ids = torch.randint(3, 64, (64, 32), generator=torch.Generator().manual_seed(0))
    clear = what_is_sent(model, ids[:48], 1, CODECS["fp32"], PrivacyFilter())
    probe = linear_probe(clear, 64)
    assert read_by_probe(probe, what_is_sent(model, ids[48:], 1, CODECS["fp32"], PrivacyFilter())) > 0.5
    loud = PrivacyFilter(1.0, 50.0)
    drowned = audit_inversion(model, ids[:48], ids[48:], [1], CODECS["fp32"], loud)[0]
    assert drowned["probe"] < 0.08  # one of 61 by chance


def test_the_command(text_data, monkeypatch, capsys):
    monkeypatch.setenv("SACCADE_DATA", str(text_data.parent))
    quick = ["--cuts", "1", "--rows", "160", "--json", "--set=data.length=64"]
    assert run(["split", "audit", "small", *quick]) == 0
    clear = json.loads(capsys.readouterr().out)
    assert [row["cut"] for row in clear["cuts"]] == [1]
    assert clear["cuts"][0]["probe"] > 0.9  # raw data stays; what it says does not
    assert "epsilon" not in clear
    noisy = ["--set=privacy.clip=8", "--set=privacy.noise=1", "--delta", "1e-5"]
    assert run(["split", "audit", "small", *quick, *noisy]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["cuts"][0]["probe"] < 0.7 * clear["cuts"][0]["probe"]
    assert found["cuts"][0]["loss"] > clear["cuts"][0]["loss"]
    assert found["epsilon"] == pytest.approx(gaussian_epsilon(1.0, 200, 1e-5))
    assert run(["split", "audit", "small", "--cuts", "x"]) == 2
    assert run(["split", "audit", "small", "--cuts", "7"]) == 2
