"""Text that cannot be read is named with its remedy; text read many times is remarked upon."""

import json
import random
import re
from pathlib import Path

import msgspec
import pytest

from shapelaw.results.store import read_records
from shapelaw.results.tables.from_records import table_of
from shapelaw.scaling.errors import BadInput
from shapelaw.sweeps.corpus.readable_text import documents
from shapelaw.sweeps.corpus.sources import CorpusSpec, corpus_identity
from shapelaw.sweeps.design.design import load_design, read_design
from shapelaw.sweeps.design.plan import plan

ROOT = Path(__file__).parents[3]
CASES = ROOT / "tests" / "cases" / "inputs"


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The text files that the designs name."""
    generator = random.Random(0)
    words = Path(random.__file__).read_text(encoding="utf-8").split()

    def text(length: int) -> str:
        return "\n".join(
            " ".join(generator.choices(words, k=12)) for _ in range(max(1, length // 70))
        )

    folder = tmp_path / "txt"
    folder.mkdir()
    (folder / "good.txt").write_text(text(300_000), encoding="utf-8")
    (folder / "latin1.txt").write_bytes(("é " + text(300_000)).encode("latin-1"))
    (folder / "utf16.txt").write_bytes(text(300_000).encode("utf-16"))
    (folder / "nul.txt").write_bytes(text(300_000).encode() + b"\0")
    (folder / "empty.txt").write_bytes(b"")
    (folder / "small.txt").write_text(text(20_000), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return folder


def test_text_that_is_not_utf8_is_named_with_the_remedy(texts: Path) -> None:
    with pytest.raises(BadInput, match=r"latin1\.txt: not utf-8 .*encoding = \"latin-1\"") as one:
        plan(load_design(CASES / "d-latin.toml"))
    with pytest.raises(BadInput, match=r"latin1\.txt") as many:
        plan(load_design(CASES / "d-mixed.toml"))
    assert "nul.txt" in str(many.value)
    assert "utf16.txt" in str(many.value)
    assert max(len(str(one.value)), len(str(many.value))) <= 300


def test_an_encoding_that_is_said_is_used(texts: Path) -> None:
    design = (CASES / "d-latin.toml").read_text()
    said = read_design(design.replace("seeds", 'encoding = "latin-1"\nseeds', 1))
    assert plan(said)["runs"] == 2
    spec = said.corpus_spec()
    assert next(iter(documents(spec)))[1].startswith("é ".encode())
    assert corpus_identity(spec) != corpus_identity(
        CorpusSpec(text=spec.text, encoding="cp1252")
    )  # the same bytes, another text
    with pytest.raises(BadInput, match="encoding = utf-99"):
        CorpusSpec(text=spec.text, encoding="utf-99").kind()


def test_zero_bytes_empty_files_and_an_empty_corpus(texts: Path) -> None:
    with pytest.raises(BadInput, match=r"nul\.txt: a zero byte"):
        list(documents(CorpusSpec(text=("txt/nul.txt",))))
    with pytest.raises(BadInput, match="all empty"):
        list(documents(CorpusSpec(text=("txt/empty.txt",))))
    design = (CASES / "d-mixed.toml").read_text()
    empty = 'text = ["txt/empty.txt"]'
    lines = [empty if line.startswith("text") else line for line in design.splitlines()]
    with pytest.raises(BadInput, match="all empty"):
        plan(read_design("\n".join(lines)))
    both = "\n".join(lines).replace(empty, 'text = ["txt/empty.txt", "txt/good.txt"]')
    assert any("empty.txt" in note for note in plan(read_design(both))["notes"])


def test_repeated_text_is_remarked_upon(texts: Path) -> None:
    notes = plan(load_design(CASES / "d-rep.toml"))["notes"]
    told = next(note for note in notes if "times" in note)
    epochs = int(told.split(" times")[0].split()[-1])
    assert 55 <= epochs <= 80  # 1.2 million tokens of 20 kB of text, less what is held out
    assert not any("times" in note for note in plan(load_design("smoke"))["notes"])


def test_repeated_and_empty_token_files_are_remarked_upon(texts: Path) -> None:
    design = read_design(
        """
        name = "own"
        tokens = "t.bin"
        token_budgets = [400_000]
        [base]
        vocab_size = 256
        non_embedding = [20_000]
        """
    )
    (texts.parent / "t.bin").write_bytes(bytes(2 * 100_000))
    (told,) = [note for note in plan(design)["notes"] if "times" in note]
    assert re.search(r"reads its text 4\.\d times", told)
    assert "100,000 in its file" in told
    (texts.parent / "t.bin").write_bytes(b"")
    with pytest.raises(BadInput, match=r"t\.bin.*0 bytes are not whole tokens"):
        plan(design)


def test_a_local_dataset_is_no_more_text_than_its_file(texts: Path) -> None:
    design = read_design(
        """
        name = "own"
        dataset = "json:d.jsonl"
        token_budgets = [400_000]
        [base]
        non_embedding = [20_000]
        """
    )
    rows = [json.dumps({"text": f"document {number} " * 100}) for number in range(60)]
    (texts.parent / "d.jsonl").write_text("\n".join(rows))
    (told,) = [note for note in plan(design)["notes"] if "times" in note]
    assert re.search(r"reads its text at least [56]\.\d times", told)
    (texts.parent / "d.jsonl").write_text("")
    with pytest.raises(BadInput, match="there is no text in it"):
        plan(design)


def test_a_table_of_repeated_runs_says_so() -> None:
    records = read_records(ROOT / "results" / "reference")[:20]
    assert table_of(records).remarks == ()
    repeated = [msgspec.structs.replace(record, epochs=67.0) for record in records[:5]]
    assert "up to 67 times" in table_of([*repeated, *records[5:]]).remarks[0]
