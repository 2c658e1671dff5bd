"""The command `waterlevel`: what is said, where it is said, and the exit code."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import struct
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from waterlevel.backends import Availability, Unusable
from waterlevel.reference.contract import CONTRACT_VERSION
from waterlevel.reference.operations.numpy_operations import NUMPY
from waterlevel.validate.cli import backends as list_backends, main as command_line, model, quantize
from waterlevel.validate.support import backend_choice
from waterlevel.validate.support.backend_choice import Choice
from waterlevel.validate.support.console import describe, fail, number, one_line
from waterlevel.validate.support.progress import Progress

from ...helpers import layers
from ...helpers.command import COLUMNS, ROWS, Command, write

RTN, SIC = "rtn --bits 3", "watersic --rate 4"
HERE = [sys.executable, "-m", "waterlevel.validate"]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    return Command(capsys, tmp_path)


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    return write(tmp_path / "layer.safetensors")


# Help and usage -----------------------------------------------------------------------------------


def test_help_names_every_command_and_gives_examples(command: Command):
    done = command("--help")
    assert (done.code, done.err) == (0, "")
    for name in ("quantize", "study", "backends"):
        assert re.search(rf"^    {name} +\w", done.out, re.MULTILINE)
    assert "examples:\n  waterlevel quantize" in done.out


def test_help_of_quantize_names_every_option(command: Command):
    done = command("quantize", "--help")
    assert (done.code, done.err) == (0, "")
    options = (
        "method bits rate spacing open-loop entropy-coded format group-size block-size asymmetric "
        "actorder static-groups mse damping dead-threshold no-lmmse no-rescale rotate "
        "rate-measure encode dtype backend seed json output"
    )
    for option in re.findall(r"\S+", options):
        assert re.search(rf"--{option}[ ,\n]", done.out), option


def test_version(command: Command):
    done = command("--version")
    expected = f"waterlevel {version('waterlevel')} (arithmetic contract {CONTRACT_VERSION})\n"
    assert done == (0, expected, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "waterlevel: .*required: COMMAND .see waterlevel --help"),
        ("quantise", "waterlevel: .*'quantise' .did you mean quantize"),
        ("quantize", "waterlevel quantize: .*required: IN.safetensors, --method, -o/--output"),
        (
            "quantize x --method rtn -o y --dampign 1",
            "waterlevel quantize: .*--dampign .did you mean --damping?",
        ),
        ("quantize x --groupsize 4", "waterlevel quantize: .*did you mean --group-size?"),
        ("quantize x --act-order", "waterlevel quantize: .*did you mean --actorder?"),
        ("quantize x --desc-act", "waterlevel quantize: .*it is called --actorder"),
        ("quantize x --sym", "waterlevel quantize: .*symmetric is the default, else --asymmetric"),
        ("quantize x --method GPTQ -o y", "waterlevel quantize: .*'GPTQ' .did you mean gptq"),
        ("backends --json", "waterlevel backends: .*--json: expected one argument"),
        ("backends --json x.safetensors", "waterlevel backends: .*a report is no layer"),
        ("quantize x --meth rtn -o y", "waterlevel quantize: .*--method"),
        ("backends --method x", "waterlevel backends: there is no option --method "),
    ],
)
def test_bad_usage_is_one_line(command: Command, arguments: str, message: str):
    done = command(*arguments.split())
    assert (done.code, done.out) == (2, "")
    assert re.fullmatch(f"{message}.*\n", done.err)


# What happens on the way --------------------------------------------------------------------------


@pytest.mark.parametrize("json_wanted", [False, True])
def test_a_rate_that_is_not_met_is_written_and_said(
    command: Command, layer: Path, json_wanted: bool
):
    options = ["--method", "watersic", "--rate", "0.01", *["--json", "-"] * json_wanted]
    done = command.quantize(layer, *options)
    found, metadata = command.result()
    assert done.code == 1
    least = (4 * (COLUMNS - 1) + 16 * COLUMNS + 16 * ROWS) / (ROWS * COLUMNS)  # one input is dead
    without_classes = (16 * COLUMNS + 16 * ROWS) / (ROWS * COLUMNS)
    unseen, missed = done.err.splitlines(keepends=True)
    assert f"calibration never saw 1 of {COLUMNS} features" in unseen
    assert missed == (
        "waterlevel quantize: the rate of 0.01 was not met: the closest found is "
        f"{least:.4f} (side information alone costs at least {without_classes:.4f}); "
        f"{command.output} was written all the same\n"
    )
    assert not found["codes"].any()
    assert metadata["rate_met"] is False
    if json_wanted:
        assert json.loads(done.out)["rate_met"] is False
    else:
        assert "searched 0.01: NOT met" in done.out


@pytest.mark.parametrize(
    ("failure", "code", "said"),
    [
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), 141, ""),
        (MemoryError("4 GiB\nfor Y"), 2, "waterlevel quantize: out of memory: 4 GiB for Y\n"),
        (MemoryError(), 2, "waterlevel quantize: out of memory\n"),
        (OSError(errno.ENOSPC, "No space", "x"), 2, "waterlevel quantize: x: No space\n"),
        (IndexError("a\nb"), 70, "waterlevel quantize: internal error, IndexError: a b; "),
    ],
)
def test_whatever_happens_is_a_code_and_a_line(
    command: Command,
    layer: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: BaseException,
    code: int,
    said: str,
):
    def fails(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr(quantize, "quantize", fails)
    done = command.quantize(layer, "--method", *RTN.split())
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith(said)
    assert done.err.count("\n") == (1 if said else 0)
    assert [path.name for path in command.directory.iterdir()] == [layer.name]


def test_text_of_errors():
    assert describe(OSError("no\ngood")) == "no good"
    assert describe(OSError(28, "No space left")) == "No space left"
    assert describe(OSError(28, "No space left", b"a\xff")) == "a\udcff: No space left"
    assert describe(ValueError()) == "ValueError"
    assert one_line("  a \n\t b ") == "a b"
    assert [number(x) for x in (None, -float("inf"), 1 / 3)] == ["—", "-∞", "0.3333"]


def test_a_closed_standard_error_takes_nothing_into_the_results(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "stderr", None)
    fail("waterlevel", "anything")
    assert capsys.readouterr().out == ""


def test_backends_says_where_compiled_code_is(command: Command, monkeypatch, tmp_path: Path):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("WATERLEVEL_CACHE_DIR", str(tmp_path))
    (tmp_path / "numba").mkdir()
    (tmp_path / "numba" / "code").write_bytes(bytes(1_500_000))
    said = command("backends").out
    assert f"compiled code of numba: 1 files, 1.5 MB in {tmp_path / 'numba'}\n" in said
    assert f"compiled code of cupy: nothing in {tmp_path / 'cupy'}\n" in said
    entries = {entry["name"]: entry for entry in json.loads(command("backends", "--json", "-").out)}
    assert entries["numba"]["compiled_code"] == {
        "folder": str(tmp_path / "numba"), "files": 1, "bytes": 1_500_000,
    }  # fmt: skip
    assert entries["numpy"]["compiled_code"] is None


def test_json_is_a_file_beside_the_text_or_standard_output(
    command: Command, monkeypatch, tmp_path: Path
):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("WATERLEVEL_CACHE_DIR", str(tmp_path / "cache"))  # where nobody compiles
    text = command("backends")
    beside = command("backends", "--json", tmp_path / "found.json")
    instead = command("backends", "--json", "-")
    assert beside == text
    assert (tmp_path / "found.json").read_text() == instead.out


BACKEND = """
from helper_of_kern import Backend
"""
HELPER = """
from waterlevel.reference.operations.numpy_operations import NumpyOperations
class Backend(NumpyOperations):
    name = "kern"
"""


@pytest.mark.parametrize("name", ["kern:Backend", "kern.py:Backend", "./kern.py:Backend"])
def test_a_backend_in_the_current_folder(tmp_path: Path, name: str):
    (tmp_path / "kern.py").write_text(BACKEND)
    (tmp_path / "helper_of_kern.py").write_text(HELPER)
    write(tmp_path / "layer", covariance=layers.covariance(3, COLUMNS))
    code = "import sys; from waterlevel.validate.cli.main import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["quantize", "layer", "--method", "rtn", "--bits", "3", "-o", "out"]
    # -P: the current folder is not on the path, as for an installed command.
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments, "--backend", name],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "on kern" in done.stdout


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken.py:Backend", "cannot be loaded: SyntaxError"),
        ("absent.py:Backend", "there is no file absent.py"),
        ("Numpy", "did you mean numpy?"),
    ],
)
def test_a_backend_that_is_none(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
):
    (tmp_path / "broken.py").write_text("def (")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    layer = write(tmp_path / "layer")
    done = command(
        "quantize", layer, *["--method", "rtn", "--bits", "3", "-o", "out", "--backend"], name
    )
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (b"\x93NUMPY\x01\x00", "a NumPy array"),
        (b"PK\x03\x04....", "as .npz and .pt are"),
        (b"\x80\x02\x8a\x0a....", "an old PyTorch file"),
        (b"GGUF\x03\x00\x00\x00", "a GGUF file"),
    ],
)
def test_other_files_are_recognised(command: Command, tmp_path: Path, start: bytes, message: str):
    other = tmp_path / "other"
    other.write_bytes(start + bytes(100))
    for arguments in (
        ("quantize", other, *["--method", "rtn", "--bits", "3", "-o", "out"]),
        ("study", other),
    ):
        done = command(*arguments)
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
        assert f"{other}: " in done.err
        assert message in done.err
        assert "save_file" in done.err


def test_a_model_and_a_pipe_are_recognised(command: Command, tmp_path: Path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    os.mkfifo(tmp_path / "pipe")
    for name, message in (("model", "a model's directory"), ("pipe", "not a regular file")):
        path = tmp_path / name
        for arguments in (
            ("study", path),
            ("compare", path, path),
            ("quantize", path, *["--method", "rtn", "--bits", "3", "-o", "out"]),
        ):
            done = command(*arguments)
            assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
            assert f"{path}: {message}" in done.err


def test_a_transposed_weight_and_a_short_last_group(command: Command, tmp_path: Path):
    layer = write(tmp_path / "layer", weight=layers.weight(1, 16, 48))
    done = command.quantize(layer, *["--method", "rtn", "--bits", "3"])
    assert f"{layer}: covariance has shape 16×16, expected 48×48" in done.err
    assert "looks transposed" in done.err
    layer = write(tmp_path / "layer")
    for group, said in ((5, True), (4, False), (64, False)):
        done = command.quantize(
            layer, *["--method", "rtn", "--bits", "3", "--group-size"], str(group)
        )
        assert ("the last group has 1 columns in place of 5" in done.out) == said


def test_an_error_that_nobody_can_read_is_no_error(monkeypatch: pytest.MonkeyPatch):
    with open(os.devnull) as unwritable:
        monkeypatch.setattr(sys, "stderr", unwritable)
        fail("waterlevel", "anything")


# Backends -----------------------------------------------------------------------------------------


def test_backends_are_listed(command: Command, monkeypatch: pytest.MonkeyPatch):
    found = [Availability("numpy", None), Availability("cupy", "package cupy\nis missing")]
    monkeypatch.setattr(list_backends, "available", lambda: found)
    monkeypatch.setattr(list_backends, "choose_backend", lambda _: Choice(NUMPY))
    done = command("backends")
    assert (done.code, done.err) == (0, "")
    assert done.out.split("\n\n")[0].splitlines()[1:] == [
        "numpy      yes       the default",
        "cupy       no        package cupy is missing",
    ]
    listed = json.loads(command("backends", "--json", "-").out)
    assert listed[0] == {
        "name": "numpy", "usable": True, "reason": None, "default": True, "compiled_code": None,
    }  # fmt: skip
    assert listed[1]["reason"] == "package cupy\nis missing"
    assert (listed[1]["usable"], listed[1]["default"]) == (False, False)


def test_this_installation_has_the_oracle(command: Command):
    listed = {entry["name"]: entry for entry in json.loads(command("backends", "--json", "-").out)}
    assert listed["numpy"]["usable"]
    assert sum(entry["default"] for entry in listed.values()) == 1


class Fast:
    """The oracle by another name."""

    name = "fast"

    def __getattr__(self, operation: str) -> Any:
        return getattr(NUMPY, operation)


@pytest.mark.parametrize("usable", [True, False])
def test_the_default_is_the_first_usable_one(
    command: Command, layer: Path, monkeypatch: pytest.MonkeyPatch, usable: bool
):
    def get(name: str) -> Any:
        if name == "numpy":
            return NUMPY
        if not usable:
            raise Unusable("numba is not installed:\npip install 'waterlevel[numba]'")
        return Fast()

    monkeypatch.setattr(backend_choice, "get", get)
    done = command("quantize", layer, "--method", *RTN.split(), "-o", command.output)
    assert done.code == 0
    if usable:
        assert "float64 on fast\n" in done.out
        assert "because" not in done.out
        assert command.result()[1]["backend"] == "fast"
    else:
        reason = "numba is not installed: pip install 'waterlevel[numba]'"
        assert f"computed on numpy because {reason}\n" in done.out


# A process of its own -----------------------------------------------------------------------------


def call(*arguments: str | Path, **settings: Any) -> subprocess.CompletedProcess[bytes]:
    command = [*HERE, *map(str, arguments)]
    # As users have it: what is written to a pipe or a file waits in a buffer.
    buffered = {name: text for name, text in os.environ.items() if name != "PYTHONUNBUFFERED"}
    usual = {"capture_output": True, "check": False, "timeout": 60, "env": buffered}
    return subprocess.run(command, **{**usual, **settings})


def test_as_a_process(layer: Path, tmp_path: Path):
    done = call("quantize", layer, "--method", *SIC.split(), "-o", tmp_path / "out")
    assert (done.returncode, done.stderr.count(b"\n")) == (0, 1)
    assert b"calibration never saw 1 of" in done.stderr
    assert b"searched 4: met" in done.stdout
    done = call("quantize", layer, "--method", "watersic", "-o", tmp_path / "out")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"waterlevel quantize: watersic needs")
    assert done.stderr.count(b"\n") == 1


def test_terminals_without_greek_letters(tmp_path: Path):
    layer = write(tmp_path / "layer", **layers.drift(5, ROWS, COLUMNS))
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = call(
        "quantize", layer, "--method", *SIC.split(), "-o", tmp_path / "o", env=environment
    )  # the table has a dash for the limit, and ×
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\\u2014" in done.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the device that is always full")
def test_a_full_disk_behind_standard_output():
    with open("/dev/full", "wb") as full:
        done = call("backends", capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr == b"waterlevel backends: standard output: No space left on device\n"


def test_a_reader_that_went_away():
    reading, writing = os.pipe()
    os.close(reading)
    done = call("backends", capture_output=False, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_file_that_may_not_grow(layer: Path, tmp_path: Path):
    """A limit of the operating system stands for a full disk."""
    resource = pytest.importorskip("resource")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))

    out = tmp_path / "out"
    arguments = ["quantize", layer, "--method", *RTN.split(), "--backend", "numpy", "-o", out]
    done = call(*arguments, preexec_fn=limit)
    assert done.returncode == 2
    assert re.fullmatch(rf"waterlevel quantize: output {out} cannot .*\n", done.stderr.decode())
    assert [path.name for path in tmp_path.iterdir()] == [layer.name]


ENDLESS = """
import time
from waterlevel.reference.operations.numpy_operations import NumpyOperations

class Backend(NumpyOperations):
    name = "endless"

    def cholesky(self, matrix):
        print("begun", flush=True)
        while True:
            time.sleep(60)
"""


def test_an_interrupt_is_quiet_and_leaves_nothing(layer: Path, tmp_path: Path):
    (tmp_path / "backend").mkdir()
    (tmp_path / "backend" / "endless.py").write_text(ENDLESS)
    before = sorted(tmp_path.iterdir())
    backend = f"{tmp_path / 'backend' / 'endless.py'}:Backend"
    arguments = ["quantize", layer, "--method", *SIC.split(), "--backend", backend, "-o"]
    process = subprocess.Popen(
        [*HERE, *arguments, tmp_path / "out"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == (b"", b"")
    assert process.returncode == 130
    assert sorted(tmp_path.iterdir()) == before


def test_an_interrupt_while_a_command_is_still_imported_is_quiet(tmp_path: Path):
    program = (
        "import sys\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'scipy':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "from waterlevel.validate.cli.main import main\n"
        "sys.exit(main(['quantize', '--help']))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_help_and_version_import_nothing_heavy():
    program = (
        "import sys\n"
        "from waterlevel.validate.cli.main import main\n"
        "main(sys.argv[1:])\n"
        "heavy = {'numpy', 'scipy', 'numba', 'tabulate', 'tqdm', 'safetensors'}\n"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)\n"
    )
    for option in ("--help", "--version"):
        done = subprocess.run([sys.executable, "-c", program, option], capture_output=True)
        assert (done.returncode, done.stderr) == (0, b"")


INTERRUPTED_WHILE_IMPORTING = """
import sys

class Interrupt:
    def find_spec(name, path=None, target=None):
        if name == "waterlevel.validate.cli.main":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupt)
from waterlevel.validate.__main__ import main
sys.exit(main())
"""


def test_an_interrupt_while_the_command_is_imported_is_as_quiet():
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_WHILE_IMPORTING], capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_progress_is_for_terminals(layer: Path, tmp_path: Path):
    pty, fcntl, termios = (pytest.importorskip(name) for name in ("pty", "fcntl", "termios"))
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    arguments = ["quantize", layer, "--method", *SIC.split(), "-o", tmp_path / "out", "--json", "-"]
    on_terminal = call(*arguments, capture_output=False, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    shown = os.read(ours, 1 << 20).decode()
    os.close(ours)
    assert on_terminal.returncode == 0
    assert "watersic: cholesky 1" in shown
    assert "watersic: sic 2" in shown
    progress, _, remark = shown.rstrip().rpartition("\r")
    assert remark.startswith("waterlevel quantize: ")  # the line is gone at the end
    assert progress.rpartition("\r")[2].strip() == ""
    first = (tmp_path / "out").read_bytes()
    in_pipe = call(*arguments)
    assert b"\n" not in in_pipe.stderr.rstrip(b"\n")  # the remark on the dead feature
    assert in_pipe.stdout == on_terminal.stdout
    assert (tmp_path / "out").read_bytes() == first


def test_nobody_is_told_where_nobody_looks(command: Command):
    with Progress("title") as progress:
        assert progress.watch(NUMPY) is NUMPY
        progress.stage("anything")
    assert command.capsys.readouterr() == ("", "")


def test_a_mistake_of_ours_shows_where_it_is_on_request(tmp_path: Path, layer: Path):
    (tmp_path / "faulty.py").write_text(
        "from waterlevel.reference.operations.numpy_operations import NumpyOperations\n"
        "class Faulty(NumpyOperations):\n"
        "    def sic(self, *_):\n"
        "        raise RuntimeError('device lost')\n"
    )
    options = ["quantize", layer, "--method", *RTN.split(), "-o", tmp_path / "out"]
    options += ["--backend", "faulty:Faulty"]
    done = call(*options, cwd=tmp_path)
    assert done.returncode == 70
    assert re.fullmatch(
        r"waterlevel quantize: internal error, RuntimeError: device lost; .*\n",
        done.stderr.decode(),
    )
    assert not (tmp_path / "out").exists()
    command = [sys.executable, "-X", "dev", *HERE[1:], *map(str, options)]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, text=True)
    assert "faulty.py" in shown.stderr


def test_the_table_of_commands_is_complete():
    for module, summary in (*command_line.COMMANDS.values(), *model.ACTIONS.values()):
        command = import_module(f"waterlevel.validate.cli.{module}")
        assert callable(command.add_arguments)
        assert command is model or callable(command.run)
        assert summary
