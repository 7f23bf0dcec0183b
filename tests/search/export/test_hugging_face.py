"""Hugging Face export: the folder's facts, and the same logits as the decoder that was trained."""

import errno
import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.errors import BadInput, NoAnswer
from shapelaw.search.export.exchange_weights import (
    RandomWeights,
    expansion_parameters,
    tensor_shapes,
)
from shapelaw.search.export.hugging_face import export_hf, hf_config

SMALL = Architecture(
    vocab_size=256, d_model=64, n_blocks=2, n_heads=4, n_kv_heads=2, head_dim=16, d_ff=160
)


def shaped(**changes: Any) -> Any:
    return Architecture(**{**SMALL.to_dict(), **changes})


def random_file(path: Any, architecture: Any) -> Any:
    source = RandomWeights(1)
    save_file(
        {name: source.tensor(name, shape) for name, shape in tensor_shapes(architecture).items()},
        path,
    )
    return path


@pytest.mark.parametrize("tied", [True, False])
def test_the_tensors_are_all_the_parameters_there_are(tied: Any) -> None:
    architecture = shaped(tied_embeddings=tied, sharing=3)
    sizes = [int(np.prod(shape)) for shape in tensor_shapes(architecture).values()]
    assert sum(sizes) == architecture.total_parameters


def test_expanding_shared_blocks_costs_what_the_note_says(tmp_path: Path) -> None:
    architecture = shaped(sharing=3)
    weights = random_file(tmp_path / "w.safetensors", architecture)
    report = export_hf(architecture, tmp_path / "out", weights)
    stored = sum(tensor.size for tensor in load_file(tmp_path / "out/model.safetensors").values())
    assert stored - architecture.total_parameters == expansion_parameters(architecture)
    assert f"{4 * expansion_parameters(architecture):,} bytes" in report["notes"][0]
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["shapelaw_note"] == report["notes"][0]
    assert config["num_hidden_layers"] == architecture.depth


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "LlamaForCausalLM"),
        ({"d_model": 72}, "LlamaForCausalLM"),
        ({"d_model": 70}, "MistralForCausalLM"),
        ({"window": 8}, "MistralForCausalLM"),
        ({"window": 8, "global_every": 2}, "MinistralForCausalLM"),
    ],
)
def test_a_stock_class_is_named_wherever_one_computes_the_shape(changes: Any, name: Any) -> None:
    assert hf_config(shaped(**changes))["architectures"] == [name]


def test_nothing_is_left_where_export_cannot_finish(tmp_path: Path) -> None:
    other = random_file(tmp_path / "w.safetensors", shaped(d_ff=96))
    (tmp_path / "text.safetensors").write_text("not weights")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    for weights, target, said in (
        (other, "out", "mlp.gate_proj.weight has shape"),
        (tmp_path / "text.safetensors", "out", "not a safetensors file"),
        (tmp_path / "absent.safetensors", "out", "no such file"),
        (None, "full", "it exists"),
        (None, "text.safetensors/below", "cannot be written"),
    ):
        with pytest.raises(BadInput, match=said) as caught:
            export_hf(SMALL, tmp_path / target, weights)
        assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "full",
        "text.safetensors",
        "w.safetensors",
    ]
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]


def test_a_full_disk_is_said_of_the_file_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NoAnswer, match=os.strerror(errno.ENOSPC)) as caught:
        export_hf(SMALL, tmp_path / "out")
    assert str(caught.value).startswith(str(tmp_path / "out"))
    assert not list(tmp_path.iterdir())


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    report = export_hf(SMALL, tmp_path / "out")
    assert "config.json" in {path.name for path in (tmp_path / "out").iterdir()}
    assert "No weights" in report["notes"][0]


def test_sixteen_bit_weights_are_read(tmp_path: Path) -> None:
    import ml_dtypes

    source = RandomWeights(1)
    save_file(
        {
            name: source.tensor(name, shape).astype(ml_dtypes.bfloat16)
            for name, shape in tensor_shapes(SMALL).items()
        },
        tmp_path / "w.safetensors",
    )
    export_hf(SMALL, tmp_path / "out", tmp_path / "w.safetensors")
    name = "model.layers.1.mlp.down_proj.weight"
    written = load_file(tmp_path / "out/model.safetensors")[name]
    assert written.dtype == np.float32
    np.testing.assert_allclose(written, source.tensor(name, written.shape), rtol=2**-8, atol=1e-6)


def test_an_answer_a_record_and_a_file_can_each_be_exported(tmp_path: Path) -> None:
    from shapelaw.search.export.export import export_source

    fields = shaped(sharing=2).to_dict()
    plain, answer, broken = (tmp_path / name for name in ("a.json", "b.json", "c.json"))
    plain.write_text(json.dumps(fields))
    answer.write_text(json.dumps({"device": "x", "best": {"architecture": fields, "loss": 2.5}}))
    broken.write_text(json.dumps({"best": {"architecture": {**fields, "n_heads": "4"}}}))
    assert export_source(str(plain)).architecture == shaped(sharing=2)
    assert export_source(str(answer)).architecture == shaped(sharing=2)
    assert export_source("mobilellm-125m").architecture.n_blocks == 30
    with pytest.raises(BadInput, match="n_heads"):
        export_source(str(broken))
    with pytest.raises(BadInput, match="no such file"):
        export_source(str(tmp_path / "absent.safetensors"))


# --- with transformers ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def auto() -> Any:
    pytest.importorskip("torch")
    return pytest.importorskip("transformers")


def logits_of(model: Any, tokens: Any) -> Any:
    import torch

    with torch.no_grad():
        return model(torch.tensor(tokens)).logits.numpy()


def test_a_configuration_alone_makes_a_model_of_the_stated_size(auto: Any, tmp_path: Path) -> None:
    export_hf(shaped(tied_embeddings=False), tmp_path / "out")
    config = auto.AutoConfig.from_pretrained(tmp_path / "out")
    model = auto.AutoModelForCausalLM.from_config(config)
    assert model.num_parameters() == shaped(tied_embeddings=False).total_parameters


def test_the_byte_tokenizer_reads_back_any_text(auto: Any, tmp_path: Path) -> None:
    export_hf(SMALL, tmp_path / "out")
    tokenizer = auto.AutoTokenizer.from_pretrained(tmp_path / "out")
    text = "naïve  text\n\twith — everything\n"
    assert tokenizer.encode(text) == list(text.encode())
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.eos_token_id == 0


SHAPES = [
    pytest.param({}, {}, id="gqa-tied"),
    pytest.param({"tied_embeddings": False, "n_kv_heads": 1}, {}, id="gqa-untied"),
    pytest.param({"sharing": 2}, {}, id="shared-expanded"),
    pytest.param(
        {"sharing": 2, "tied_embeddings": False}, {"keep_sharing": True}, id="shared-kept"
    ),
    pytest.param({"sharing": 2, "sharing_order": "cycle"}, {}, id="cycle-expanded"),
    pytest.param(
        {"n_blocks": 4, "n_prelude": 1, "n_coda": 1, "sharing": 3, "sharing_order": "cycle"},
        {},
        id="prelude-cycle-coda-expanded",
    ),
    pytest.param(
        {
            "n_blocks": 4,
            "n_prelude": 1,
            "n_coda": 1,
            "sharing": 3,
            "sharing_order": "cycle",
            "input_injection": True,
        },
        {"keep_sharing": True},
        id="prelude-cycle-injection-coda-kept",
    ),
    pytest.param(
        {"sharing": 3, "window": 5, "global_every": 2, "d_model": 72},
        {"keep_sharing": True},
        id="window-shared-kept",
    ),
    pytest.param({"sharing": 2, "window": 5, "global_every": 2}, {}, id="window-expanded"),
    pytest.param(
        {"window": 6, "d_model": 72, "n_heads": 5, "n_kv_heads": 1}, {}, id="window-odd-width"
    ),
]


@pytest.mark.parametrize(("changes", "options"), SHAPES)
def test_transformers_computes_what_the_decoder_computes(
    auto: Any, tmp_path: Path, changes: Any, options: Any
) -> None:
    import jax.numpy as jnp
    from flax import nnx

    from shapelaw.sweeps.training.model import Decoder
    from shapelaw.sweeps.training.saved_weights import save_weights

    architecture = shaped(**changes)
    source = np.random.default_rng(2)

    def draw(rows: int, columns: int, _: float) -> np.ndarray:
        """Weights that all matter, where a fresh model's blocks would add nothing yet."""
        return source.standard_normal((rows, columns), np.float32) * rows**-0.5

    decoder = Decoder(architecture, draw=draw)
    parameters = nnx.to_pure_dict(nnx.state(decoder, nnx.Param))
    weights = save_weights(tmp_path, "run", architecture, parameters)
    export_hf(architecture, tmp_path / "out", weights, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what transformers deprecates within itself
        model = auto.AutoModelForCausalLM.from_pretrained(tmp_path / "out", trust_remote_code=True)
    tokens = np.random.default_rng(0).integers(0, 256, (2, 24))
    np.testing.assert_allclose(
        logits_of(model, tokens), np.asarray(decoder(jnp.asarray(tokens))), atol=1e-4
    )


@pytest.mark.parametrize("changes", [{}, {"window": 5, "global_every": 2}])
def test_generation_with_a_cache_agrees_with_generation_without(
    auto: Any, tmp_path: Path, changes: Any
) -> None:
    import torch

    architecture = shaped(sharing=2, **changes)
    weights = random_file(tmp_path / "w.safetensors", architecture)
    export_hf(architecture, tmp_path / "out", weights, keep_sharing=True)
    model = auto.AutoModelForCausalLM.from_pretrained(tmp_path / "out", trust_remote_code=True)
    assert model.num_parameters() == architecture.total_parameters
    prompt = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12]])
    made = model.generate(prompt, max_new_tokens=8, do_sample=False)
    without = logits_of(model, made[:, :-1].tolist()).argmax(-1)[0, 7:]
    assert made[0, 8:].tolist() == without.tolist()


@pytest.mark.long
@pytest.mark.parametrize("sharing", [1, 2])
def test_a_trained_run_has_the_loss_in_transformers_that_its_record_states(
    auto: Any, tmp_path: Path, sharing: Any
) -> None:
    import torch

    from shapelaw.results.record import ArchitectureFields
    from shapelaw.results.store import RunStore
    from shapelaw.search.export.export import export_command
    from shapelaw.sweeps.corpus.token_corpus import load_corpus
    from shapelaw.sweeps.training.trainer import train_trunk
    from shapelaw.sweeps.training.trunk import CorpusSpec, TrunkJob

    sources = Path(__file__).parents[3] / "search"
    spec = CorpusSpec(text=(str(sources / "**/*.py"),), validation_tokens=4096)
    job = TrunkJob(
        architecture=ArchitectureFields.of(
            shaped(d_model=32, d_ff=64, head_dim=8, sharing=sharing)
        ),
        tokens=(20_000,),
        corpus=spec,
        keep_weights=str(tmp_path / "sweep/weights"),
        precision="float32",
    )
    (record,) = train_trunk(job, cache_dir=tmp_path / "cache")
    with RunStore(tmp_path / "sweep") as store:
        store.append(record)
    kept = tmp_path / f"sweep/weights/{record.run_key}.safetensors"
    report = export_command(str(kept), "hf", tmp_path / "out", keep_sharing=False)
    assert report["architecture"]["sharing"] == sharing
    model = auto.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    windows = load_corpus(spec, tmp_path / "cache").validation_windows(job.sequence_length)
    tokens = torch.tensor(windows.astype(np.int64))
    with torch.no_grad():
        logits = model(tokens[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    assert record.loss is not None
    assert float(loss) == pytest.approx(record.loss, abs=1e-4)
    assert record.loss < 4  # it learned: chance is ln 256 = 5.5


def test_sharing_is_kept_unless_expansion_is_asked_for_and_its_cost_is_said_first(
    tmp_path: Path,
) -> None:
    from shapelaw.search.export.export import export_command

    shape = {
        "vocab_size": 256, "d_model": 32, "n_blocks": 2, "sharing": 3, "n_heads": 2,
        "n_kv_heads": 1, "head_dim": 16, "d_ff": 64,
    }  # fmt: skip
    arch = tmp_path / "shared.json"
    arch.write_text(json.dumps(shape))
    said: list[tuple[str, bool]] = []
    out = tmp_path / "kept"
    export_command(str(arch), "hf", out, progress=lambda text: said.append((text, out.exists())))
    assert said == []
    assert json.loads((out / "config.json").read_text())["num_hidden_layers"] in (2, 6)
    assert (out / "modeling_shapelaw.py").exists()
    out = tmp_path / "expanded"
    export_command(
        str(arch), "hf", out, keep_sharing=False,
        progress=lambda text: said.append((text, out.exists())),
    )  # fmt: skip
    block = Architecture.from_dict(shape).block_parameters
    ((text, written),) = said
    assert f"{4 * block:,} parameters more" in text, "two blocks, twice more each"
    assert "ExecuTorch" in text, "an engine that would keep them shared"
    assert not written, "before anything is written"
    assert not (out / "modeling_shapelaw.py").exists()
