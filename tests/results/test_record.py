"""The run record: strict at the border, and readable for ever."""

from pathlib import Path

import msgspec
import pytest

from shapelaw.results.record import SCHEMA_VERSION, RunRecord, content_key, decode_record
from shapelaw.results.store import read_records
from shapelaw.scaling.errors import BadInput

VERSION_1 = Path(__file__).parents[1] / "data" / "runs-v1.jsonl"
VERSION_2 = VERSION_1.with_name("runs-v2.jsonl")


def line() -> bytes:
    return VERSION_1.read_bytes().split(b"\n")[0]


def test_a_file_of_version_1_reads_for_ever() -> None:
    records = read_records(VERSION_1)
    assert [record.status for record in records] == ["finished"] * 4 + ["failed"]
    first = records[0]
    assert first.run_key == "809eecfb987fa8df"
    assert first.architecture.build().non_embedding_parameters == 12_216
    assert first.n_parameters.total == 18_360
    assert (first.tokens, first.seed) == (96_256, 0)
    assert first.loss == pytest.approx(2.493288368685171, abs=0)
    assert records[-1].loss is None
    assert "pretending" in (records[-1].reason or "")


def test_what_version_1_kept_elsewhere_is_found_where_it_now_stands() -> None:
    shared = VERSION_1.read_bytes().split(b"\n")[1]
    assert b'"sharing":2' in shared
    cycles = shared.replace(b'"sharing_order":"immediate"', b'"sharing_order":"cycle"')
    record = decode_record(cycles, "here")
    assert record.architecture.sharing_order == "cycle"
    assert record.recipe.trainer_version == 3
    assert record.loss_by_format == {}
    # Where nothing is applied twice the order means nothing, and two equal shapes must be equal.
    alone = line().replace(b'"sharing_order":"immediate"', b'"sharing_order":"cycle"')
    assert decode_record(alone, "here") == decode_record(line(), "here")


def test_a_file_of_version_2_reads_for_ever() -> None:
    plain, aware = read_records(VERSION_2)
    assert [r.recipe.weight_format for r in (plain, aware)] == ["f16", "int4_g32"]
    assert plain.recipe.trainer_version == 4
    assert plain.loss_by_format["q4_0"].difference > plain.loss_by_format["q6_k"].difference
    assert aware.loss_by_format["int4_g32_f32"].difference == 0.0


def test_what_is_written_today_is_the_version_it_says() -> None:
    record = decode_record(line(), "here")
    assert record.schema_version == SCHEMA_VERSION
    again = msgspec.json.decode(msgspec.json.encode(record), type=RunRecord)
    assert again == record


def test_parameter_counts_agree_with_the_architecture_in_the_same_line() -> None:
    for record in read_records(VERSION_1):
        shape = record.architecture.build()
        assert record.n_parameters.non_embedding == shape.non_embedding_parameters
        assert record.n_parameters.embedding == shape.embedding_parameters
        assert record.n_parameters.applied == shape.applied_parameters


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        (b'"seed":0', b'"seed":0,"colour":"red"', "colour"),
        (b'"tokens":96256', b'"tokens":-1', "tokens"),
        (b'"status":"finished"', b'"status":"perfect"', "status"),
        (b'"schema_version":1', b'"schema_version":99', "schema_version"),
        (b'"d_ff":52', b'"d_ff":"wide"', "d_ff"),
    ],
)
def test_a_line_that_is_not_a_record_is_named(old: bytes, new: bytes, named: str) -> None:
    assert old in line()
    with pytest.raises(BadInput, match=f"runs.jsonl line 7.*{named}"):
        decode_record(line().replace(old, new, 1), "runs.jsonl line 7")


def test_a_key_changes_with_every_part() -> None:
    key = content_key("a", {"b": 1}, 0.1)
    assert len(key) == 16
    assert key == content_key("a", {"b": 1}, 0.1)
    assert (
        len(
            {
                key,
                content_key("a", {"b": 2}, 0.1),
                content_key("a", {"b": 1}, 0.2),
                content_key("ab", {}, 0.1),
            }
        )
        == 4
    )
