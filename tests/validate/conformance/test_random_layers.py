"""Large random layers: a difference from another backend is found, named and reported."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import numpy as np
import pytest

from waterlevel.reference.errors import WaterlevelError
from waterlevel.reference.grids.codebooks import UniformLattice
from waterlevel.reference.operations import Operations
from waterlevel.reference.operations.numpy_operations import NUMPY, NumpyOperations
from waterlevel.validate.cli import validate as command
from waterlevel.validate.cli.main import main
from waterlevel.validate.conformance import random_layers
from waterlevel.validate.conformance.random_layers import DTYPES, compare
from waterlevel.validate.conformance.runner import SubjectReport

from ...helpers.opaque import OPAQUE, OpaqueOperations
from ...helpers.wrong_backends import CHAINS, SUMS, Chained, Summed

SMALL = ((9, 12), (20, 16))


def reversed_factors():
    """A backend whose factorisation begins its sums at the other end."""
    return Chained(CHAINS["reversed-chain"], only=("cholesky",))


class OnDevice(OpaqueOperations):
    """A backend with a device."""

    name = "on-device"

    class meter:
        @staticmethod
        def describe():
            return {"name": "A device", "compute_capability": "9.0"}


def differing(backend):
    return {one.case for one in compare(backend, NUMPY, SMALL) if one.difference is not None}


def cases(*names):
    return {f"{a}×{n} {dtype} {name}" for a, n in SMALL for dtype in DTYPES for name in names}


def test_equal_backends_and_all_that_costs_time():
    found = compare(OPAQUE, NUMPY, SMALL)
    assert [one.difference for one in found] == [None] * len(found)
    assert all(len(one.sha256 or "") == 64 for one in found)
    assert len({one.case for one in found}) == len(found)
    asked = set()

    class Asked(OpaqueOperations):
        def __getattr__(self, operation):
            asked.add(operation)
            return super().__getattr__(operation)

    compare(Asked(), NUMPY, SMALL[:1])
    # What moves or makes single numbers, or looks for one, has its golden cases.
    small = {
        "combine", "convert", "diagonal", "divide", "dtype", "find_asymmetry", "find_nonfinite",
        "largest_magnitude", "multiply", "name", "scale_columns", "scale_rows", "scatter_columns",
        "shape", "transpose", "with_diagonal",
    }  # fmt: skip
    assert asked | small >= {name for name in vars(Operations) if not name.startswith("_")}


def test_only_what_is_summed_otherwise_differs():
    assert differing(Summed(SUMS["numpy-sum"])) == cases("row_inner", "column_inner")


def test_one_code_among_all_is_seen():
    class OtherCode(NumpyOperations):
        def sic(self, target, codes, *arguments):
            gains = super().sic(target, codes, *arguments)
            codes[-1, 0] += 1 if isinstance(arguments[1], UniformLattice) else 0
            return gains

    found = differing(OtherCode())
    assert cases("sic uniform, codes") <= found
    counted = cases("sic uniform, counts", "sic uniform, symbols")
    assert found <= cases("sic uniform, codes") | counted


def test_another_order_in_the_factor():
    found = compare(reversed_factors(), NUMPY, SMALL)
    first = next(one for one in found if one.difference)
    assert first.case == "9×12 float64 cholesky"
    assert first.difference is not None
    assert "ulp" in first.difference


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (WaterlevelError("no memory\nleft"), "9×12 float64 solve: no output: no memory left"),
        (TypeError("no"), "9×12 float64 solve: no output: TypeError: no"),
    ],
)
def test_a_layer_ends_where_the_backend_fails(error, said):
    class Failing(OpaqueOperations):
        def solve(self, target, factor):
            raise error

    found = [one for one in compare(Failing(), NUMPY, SMALL) if one.difference is not None]
    assert [one.case for one in found] == [
        f"{a}×{n} {dtype} solve" for dtype in DTYPES for a, n in SMALL
    ]
    assert found[0].difference == said
    assert found[0].sha256 is None


# The command -------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(random_layers, "SHAPES", SMALL)
    monkeypatch.setattr("waterlevel.validate.conformance.runner.probe", lambda backend: [])


def validate(tmp_path, *arguments):
    """Exit code, what the JSON says of the backend, and the suite of the XML."""
    files = [tmp_path / name for name in ("report.json", "report.xml")]
    code = main(["validate", *arguments, "--json", str(files[0]), "--junit", str(files[1])])
    (backend,) = json.loads(files[0].read_text("utf-8"))["backends"]
    return code, backend, ElementTree.parse(files[1]).getroot().find("testsuite")


def test_a_wrong_backend_is_named(tmp_path, capsys):
    wrong = f"{__name__}:reversed_factors"
    arguments = ("--backend", wrong, "--against", "numpy", "--cases", "transpose/*")
    code, backend, suite = validate(tmp_path, *arguments)
    assert code == 1
    assert not backend["passed"]
    assert backend["counts"]["failed"] == 0  # all that differs are layers
    layers = backend["random_layers"]
    assert (layers["against"], layers["reason"]) == ("numpy", None)
    wrong_ones = [one["case"] for one in layers["results"] if one["difference"]]
    assert "9×12 float64 cholesky" in wrong_ones
    assert len(suite.findall("testcase/failure")) == len(wrong_ones) == int(suite.get("failures"))
    assert len(suite.findall("testcase")) == int(suite.get("tests"))
    said = capsys.readouterr().out
    assert f"{wrong}, not as numpy: 9×12 float64: cholesky[" in said
    assert f"{wrong} DIFFERS" in said
    same = len(layers["results"]) - len(wrong_ones)
    assert f"{same} of {len(layers['results'])} random outputs as numpy" in said


def test_a_right_backend_passes(tmp_path, capsys):
    arguments = ("--backend", "numpy", "--against", "numpy", "--cases", "transpose/*")
    code, backend, suite = validate(tmp_path, *arguments)
    assert code == 0
    assert len(backend["random_layers"]["results"]) > 80
    assert suite.get("failures") == "0"


@pytest.fixture
def no_cases(monkeypatch):
    """The golden cases are not run, but it is noted which were wanted."""
    wanted = []

    def nothing(subject, cases, selection, announce):
        wanted.append(selection.sizes)
        return SubjectReport(subject.name, (), (), (), 0.0)

    monkeypatch.setattr(command, "validate", nothing)
    return wanted


def test_a_device_is_held_against_the_fast_backend_by_default(tmp_path, no_cases, monkeypatch):
    asked = []
    find = command.get
    monkeypatch.setattr(
        command, "get", lambda name: asked.append(name) or find(name.replace("numba", "numpy"))
    )
    device = f"{__name__}:OnDevice"
    code, backend, _ = validate(tmp_path, "--backend", device)
    assert code == 0
    assert asked == [device, "numba"]
    assert backend["random_layers"]["against"] == "numba"
    assert backend["random_layers"]["results"]
    assert backend["device"] == OnDevice.meter.describe()
    assert "large" in no_cases[-1]
    _, backend, _ = validate(tmp_path, "--backend", device, "--cases", "transpose/*")
    assert backend["random_layers"] is None
    _, backend, _ = validate(tmp_path, "--backend", "numpy")
    assert (backend["random_layers"], backend["device"]) == (None, None)
    assert "large" not in no_cases[-1]
    validate(tmp_path, "--backend", device, "--size", "small")
    assert no_cases[-1] == ("small",)


def test_without_the_fast_backend_the_report_says_so(tmp_path, no_cases, monkeypatch, capsys):
    find = command.get

    def get(name):
        if name == "numba":
            raise WaterlevelError("numba is not there")
        return find(name)

    monkeypatch.setattr(command, "get", get)
    code, backend, _ = validate(tmp_path, "--backend", f"{__name__}:OnDevice")
    assert code == 0
    assert backend["random_layers"] == {
        "against": "numba", "reason": "numba is not there", "results": [],
    }  # fmt: skip
    assert "random layers were not compared: numba is not there" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--against", "abacus"], "no backend is called 'abacus'"),
        (["--against", "numpy", "--outputs", "nowhere"], "--against compares backends"),
    ],
)
def test_bad_usage_is_one_line(arguments, says, capsys):
    assert main(["validate", *arguments]) == 2
    said = capsys.readouterr()
    assert says in said.err
    assert (said.out, len(said.err.splitlines())) == ("", 1)


def test_a_layer_is_the_same_twice():
    one, two = (dict(random_layers.outputs(NUMPY, 9, 12, "float32")) for _ in range(2))
    assert all(np.array_equal(one[name], two[name]) for name in one)
