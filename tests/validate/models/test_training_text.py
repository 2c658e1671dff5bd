"""The text of the small model: no repeats, no document in both parts."""

from waterlevel.validate.models.training_text import (
    SEPARATOR,
    docstrings,
    split,
    windows,
    without_repeats,
)

SENTENCE = "Number {0} of these sentences says {0} things about {0} times {0} other {0} matters."


def documents(count):
    return [SENTENCE.format(f"{i * 7919:05d}") for i in range(count)]


def test_a_repeated_document_is_kept_once():
    original = " ".join(documents(5))
    changed = original.replace("sentences", "SENTENCES  ", 1) + " More."
    assert without_repeats([original, changed, original]) == [changed]


def test_the_order_of_the_documents_does_not_matter():
    some = [*documents(20), " ".join(documents(3))]
    assert without_repeats(some) == without_repeats(some[::-1])


def test_windows_do_not_see_white_space_or_case():
    text = documents(1)[0]
    assert windows(text) == windows(text.upper().replace(" ", "\n  "))
    assert windows(text) != windows(text.replace("things", "thinks"))


def test_the_split_shares_nothing_and_depends_on_the_seed():
    some = documents(100)
    text = split(some, seed=0)
    train, held_out = (part.decode().split(SEPARATOR) for part in (text.train, text.held_out))
    assert sorted(train + held_out) == sorted(some)
    assert len(held_out) == 5
    assert split(some, seed=0) == text
    assert split(some, seed=1) != text


def test_calibration_ends_with_a_document():
    text = split(documents(3000), seed=0)
    assert 150_000 <= len(text.calibration) < len(text.train)
    assert text.train.startswith(text.calibration + SEPARATOR.encode())
    small = split(documents(20), seed=0)
    assert small.calibration == small.train


def test_docstrings_of_a_folder(tmp_path):
    long = "A docstring of a function, long enough to be a document of the text, and it says so."
    for name in ("b.py", "a.py", "test/c.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'def f():\n    """{name}: {long}"""\n\ndef g():\n    """Short."""\n')
    (tmp_path / "broken.py").write_text("print 'of another time'\n")
    assert list(docstrings(tmp_path)) == [f"{name}: {long}" for name in ("a.py", "b.py")]
