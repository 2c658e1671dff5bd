"""Peers of `waterlevel bench`: they do what they are timed for; a broken one is one line."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from waterlevel.reference.errors import WaterlevelError
from waterlevel.validate.benchmark import block_updated, child as benchmark_child, eager, peers
from waterlevel.validate.benchmark.rows import MAXIMUM, ROWS, STEP, Inputs, Placed
from waterlevel.validate.cli.main import main

SHAPE = 40, 90


def codes(row: str, inputs: Inputs):
    """What a core gives on BLAS and LAPACK."""
    if row == "WaterSIC core":
        return block_updated.watersic(inputs.weight, inputs.covariance, STEP)
    return block_updated.gptq(inputs.weight, inputs.covariance, inputs.scale, inputs.zero, MAXIMUM)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("row", ["WaterSIC core", "GPTQ core"])
@pytest.mark.parametrize("name", list(peers.PEERS))
def test_a_peer_does_what_it_is_timed_for(name, row, dtype):
    """A code differs where a number lies within rounding of a tie: about n·ε of them."""
    pytest.importorskip(name, reason=f"the peer {name} is not installed: waterlevel[peers]")
    inputs = Inputs(*SHAPE, dtype)
    weight, covariance = inputs.weight.copy(), inputs.covariance.copy()
    run = peers.PEERS[name](row, inputs)
    if run is None:
        assert name == "llmcompressor"
        assert (row, dtype) != ("GPTQ core", "float32")
        return
    expected = codes(row, inputs)
    for _ in range(2):  # a second run gets the same inputs
        differing = (np.asarray(run()) != expected).any(axis=1).mean()
        assert differing <= 100 * SHAPE[1] ** 2 * np.finfo(dtype).eps
    assert (inputs.weight == weight).all()
    assert (inputs.covariance == covariance).all()


def _numpy(row: str, inputs: Inputs):
    """Stands for a package: `eager` on NumPy."""
    return lambda: ROWS[row].eager(np, Placed(inputs, np.asarray))


def _broken(row: str, inputs: Inputs):
    raise ImportError("libmissing.so: cannot open shared object file")


def test_peers_that_are_installed_are_found_with_their_version(monkeypatch):
    inputs = Inputs(*SHAPE, "float64")
    given = {"numpy": _numpy, "scipy": lambda row, inputs: None, "no_such_package": _broken}
    monkeypatch.setattr(peers, "PEERS", given)
    found = peers.peers("GPTQ core", inputs)
    assert list(found) == [f"numpy {np.__version__}"]
    expected = eager.gptq(np, inputs.weight, inputs.covariance, inputs.scale, inputs.zero, MAXIMUM)
    assert (found[f"numpy {np.__version__}"]() == expected).all()


def test_a_broken_peer_is_one_line(monkeypatch):
    monkeypatch.setattr(peers, "PEERS", {"numpy": _broken})
    with pytest.raises(WaterlevelError, match=r"numpy is installed but cannot be used .*libm"):
        peers.peers("GPTQ core", Inputs(*SHAPE, "float64"))


def test_peers_have_a_table_of_their_own(capsys, monkeypatch, tmp_path):
    """Through the child process, which greets on standard output as some packages do."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import numpy\n"
        "from waterlevel.validate.benchmark import peers\n"
        "from waterlevel.validate.benchmark.rows import ROWS, Placed\n"
        "def prepare(row, inputs):\n"
        "    print('Welcome!')\n"
        "    placed = Placed(inputs, numpy.asarray)\n"
        "    return lambda: ROWS[row].eager(numpy, placed)\n"
        "peers.PEERS = {'numpy': prepare}\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(site))
    report = tmp_path / "bench.json"
    arguments = ("--sizes", "24", "--dtype", "float64", "--only", "GPTQ", "--backend", "numpy")
    assert main(["bench", *arguments, "--repetitions", "2", "--json", str(report)]) == 0
    said = capsys.readouterr()
    name = f"numpy {np.__version__}"
    assert f"× {name}" in said.out
    assert max(len(line) for line in said.out.splitlines()[1:]) <= 100
    rows = json.loads(report.read_text())["rows"]
    assert len(rows) == 3
    for row in rows:
        own, others = row["all_seconds"]["ours"], row["all_seconds"][name]
        assert len(own) == len(others) == 2
        ratio = (others[0] / own[0] + others[1] / own[1]) / 2
        assert math.isclose(row["times_peers"][name], ratio)


def test_a_slow_peer_is_measured_once_and_with_many_columns_not_at_all(monkeypatch):
    calls = []
    given = {"numpy": lambda row, inputs: lambda: calls.append(inputs.rows)}
    monkeypatch.setattr(peers, "PEERS", given)
    job = {"row": "Cholesky", "rows": 30, "columns": 30, "dtype": "float64"}
    job |= {"backend": "numpy", "threads": 1, "repetitions": 3}
    for patience, times in ((0, 1), (60, 4)):
        monkeypatch.setattr(benchmark_child, "PATIENCE", patience)
        calls.clear()
        found = benchmark_child.measure(job)
        assert calls.count(30) == times
        own, other = found["all_seconds"]["ours"], found["all_seconds"][f"numpy {np.__version__}"]
        assert (len(own), len(other)) == (3, max(1, times - 1))
        assert len(found["all_seconds"]["library"]) == 3
        ratio = found["times_peers"][f"numpy {np.__version__}"]
        assert min(other) / max(own) <= ratio <= max(other) / min(own)
    monkeypatch.setattr(benchmark_child, "PEER_COLUMNS", 29)
    calls.clear()
    found = benchmark_child.measure(job)
    assert calls == []
    assert found["times_peers"] == {}
    assert found["times_library"] > 0
