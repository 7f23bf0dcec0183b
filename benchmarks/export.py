"""Exports and the page against what they promise. Run: python -m benchmarks.export

Logits of random and of trained models in `transformers` against this project's decoder, log
probabilities of llama.cpp against `transformers`, and the page in headless Chromium: picks
against the query's, requests, load time.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np

from shapelaw.scaling.architecture import Architecture

BASE = Architecture(
    vocab_size=256, d_model=96, n_blocks=3, n_heads=6, n_kv_heads=2, head_dim=16, d_ff=224
)

CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "GQA, tied": ({}, {}),
    "GQA, untied": ({"tied_embeddings": False}, {}),
    "sharing 2, expanded": ({"sharing": 2}, {}),
    "sharing 2, untied, kept": ({"sharing": 2, "tied_embeddings": False}, {"keep_sharing": True}),
    "sharing 2, cycle": ({"sharing": 2, "sharing_order": "cycle"}, {}),
    "prelude, cycles with injection, coda": (
        {
            "n_blocks": 4,
            "n_prelude": 1,
            "n_coda": 1,
            "sharing": 3,
            "sharing_order": "cycle",
            "input_injection": True,
        },
        {"keep_sharing": True},
    ),
    "window 8, every 2nd global": ({"window": 8, "global_every": 2}, {}),
}


def all_at_work(seed: int) -> Callable[[int, int, float], np.ndarray]:
    """Weights that all matter, where a fresh model's blocks would add nothing yet."""
    source = np.random.default_rng(seed)
    return lambda rows, columns, _: source.standard_normal((rows, columns), np.float32) * rows**-0.5


def hf_rows(folder: Path) -> list[tuple[str, str, str]]:
    """(case, class, largest difference of a logit) for random models."""
    import jax.numpy as jnp
    import torch
    from flax import nnx
    from transformers import AutoModelForCausalLM

    from shapelaw.search.export.export import export_hf
    from shapelaw.sweeps.training.model import Decoder
    from shapelaw.sweeps.training.saved_weights import save_weights

    rows = []
    tokens = np.random.default_rng(0).integers(0, BASE.vocab_size, (2, 64))
    for number, (case, (changes, options)) in enumerate(CASES.items()):
        architecture = Architecture(**{**BASE.to_dict(), **changes})
        decoder = Decoder(
            architecture,
            draw=all_at_work(number),
        )
        parameters = nnx.to_pure_dict(nnx.state(decoder, nnx.Param))
        weights = save_weights(folder, f"run{number}", architecture, parameters)
        export_hf(architecture, folder / f"hf{number}", weights, **options)
        model = AutoModelForCausalLM.from_pretrained(folder / f"hf{number}", trust_remote_code=True)
        with torch.no_grad():
            theirs = model(torch.tensor(tokens)).logits.numpy()
        gap = float(np.abs(theirs - np.asarray(decoder(jnp.asarray(tokens)))).max())
        rows.append((case, type(model).__name__, f"{gap:.1e}"))
    return rows


def trained_rows(folder: Path) -> list[tuple[str, str, str]]:
    """A trained run: its loss in transformers, and llama.cpp's greedy tokens beside it."""
    import torch
    from transformers import AutoModelForCausalLM

    from shapelaw.results.record import ArchitectureFields
    from shapelaw.search.export.export import export_gguf, export_hf
    from shapelaw.sweeps.corpus.token_corpus import load_corpus
    from shapelaw.sweeps.training.trainer import train_trunk
    from shapelaw.sweeps.training.trunk import CorpusSpec, TrunkJob

    spec = CorpusSpec(validation_tokens=16_384)
    architecture = Architecture(
        **{**BASE.to_dict(), "sharing": 2, "d_model": 64, "d_ff": 160, "n_heads": 4}
    )
    job = TrunkJob(
        architecture=ArchitectureFields.of(architecture),
        tokens=(400_000,),
        corpus=spec,
        keep_weights=str(folder / "weights"),
        precision="float32",
    )
    (record,) = train_trunk(job, cache_dir=folder / "cache")
    weights = folder / "weights" / f"{record.run_key}.safetensors"
    export_hf(architecture, folder / "trained", weights)
    model = AutoModelForCausalLM.from_pretrained(folder / "trained")
    windows = load_corpus(spec, folder / "cache").validation_windows(job.sequence_length)
    tokens = torch.tensor(windows.astype(np.int64))
    with torch.no_grad():
        logits = model(tokens[:, :-1]).logits
        loss = float(
            torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        )
    assert record.loss is not None
    rows = [
        ("validation loss, record", "sweep", f"{record.loss:.6f}"),
        ("validation loss, transformers", "", f"{loss:.6f}"),
    ]
    prompt = list(b"import os\n\n\ndef main(")
    with torch.no_grad():
        expected = (
            cast(Any, model)
            .generate(torch.tensor([prompt]), max_new_tokens=24, do_sample=False, pad_token_id=0)[
                0, len(prompt) :
            ]
            .tolist()
        )
    for precision in ("f32", "f16", "q8_0"):
        export_gguf(
            architecture, folder / f"{precision}.gguf", weights=weights, weight_formats=(precision,)
        )
        made = _greedy(folder / f"{precision}.gguf", prompt, len(expected))
        same = sum(a == b for a, b in zip(made, bytes(expected), strict=False))
        rows.append(
            (f"greedy bytes agreeing, {precision}", "llama.cpp", f"{same} of {len(expected)}")
        )
    return rows


def _greedy(path: Path, prompt: list[int], count: int) -> bytes:
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    parameters.n_ctx, parameters.n_parallel = 256, 1
    parameters.warmup, parameters.verbosity = False, 0
    answer = xllamacpp.Server(parameters).handle_completions(
        {"prompt": prompt, "max_tokens": count, "temperature": 0, "ignore_eos": True}
    )
    return str(answer["choices"][0]["text"]).encode()


def page_rows(folder: Path) -> list[tuple[str, str, str]]:
    """Size, time to write, load times, requests, and picks that equal the query's."""
    from benchmarks.browser import Browser
    from shapelaw.search.answer.query import Budget, query
    from shapelaw.search.page.page import write_answer_page
    from shapelaw.search.page.stop_answers import stop_answers

    answer = query("iphone-13", None, Budget(memory_bytes="400MB", decode_tokens_per_s=20))
    start = time.perf_counter()
    page = write_answer_page(answer, folder / "answer.html")
    wrote = time.perf_counter() - start
    browser = Browser(folder / "chromium")
    loads, plots = [], []
    for _ in range(5):
        start = time.perf_counter()
        browser.open(page)
        plots.append(time.perf_counter() - start)
        loads.append(
            browser.run("performance.getEntriesByType('navigation')[0].loadEventEnd / 1000")
        )
    asked = {
        event["params"]["request"]["url"]
        for event in browser.events
        if event["method"] == "Network.requestWillBeSent"
    }
    foreign = [url for url in asked if not url.startswith(("file:", "data:", "about:"))]
    browser.close()
    found = stop_answers(answer)
    return [
        ("page", "", f"{page.stat().st_size / 1e6:.1f} MB, {found.n_picks:,} shapes"),
        ("answers in it", "", f"{found.picks.size:,}"),
        ("written in", "", f"{wrote:.2f} s"),
        ("loaded in (best, worst of 5)", "Chromium", f"{min(loads):.2f} s, {max(loads):.2f} s"),
        ("plots drawn after", "Chromium", f"{min(plots):.2f} s, {max(plots):.2f} s"),
        ("requests beyond the file", "Chromium", str(len(foreign))),
        ("picks equal to query's", "", _picks(answer, found, 24)),
    ]


def _picks(answer: Any, found: Any, tries: int) -> str:
    """Random stops of every slider, each asked of the query as well."""
    from shapelaw.search.answer.query import Budget, Infeasible, query

    fields = {"memory": "memory_bytes", "decode": "decode_tokens_per_s", "ttft": "ttft_s"}
    rng, same = np.random.default_rng(0), 0
    places = np.argwhere(found.picks >= 0)
    for place in rng.choice(places, tries, replace=False):
        serving, training, *stops = place.tolist()
        named: dict[str, Any] = {
            fields.get(each.name, "energy_j"): float(each.values[stop])
            for each, stop in zip(found.stops, stops, strict=True)
            if stop > 0
        }
        tokens = found.trainings[training].budget.tokens
        try:
            best = query(
                answer.device,
                None,
                Budget(**named, tokens=tokens),
                found.servings[serving].workload,
                answer.space,
            ).best
            same += found.shapes[int(found.picks[tuple(place)])] == best.architecture
        except Infeasible:
            pass
    return f"{same} of {tries}"


def main() -> None:
    """Print every row."""
    from rich.console import Console
    from rich.table import Table

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for title, rows in (
            ("Hugging Face: largest difference of a logit", hf_rows(folder)),
            ("A trained run", trained_rows(folder)),
            ("The page", page_rows(folder)),
        ):
            table = Table(title=title, title_justify="left", box=None, show_header=False)
            for row in rows:
                table.add_row(*row)
            Console().print(table)


if __name__ == "__main__":
    main()
