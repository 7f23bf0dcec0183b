"""Which functions show what the public names return. Names only: nothing is imported here."""

from shapelaw.scaling.notebook_display import register_views


def register_all() -> None:
    """Every class that a notebook can show."""
    register_views(
        "Fit",
        tables="shapelaw.results.report:tables_of_fit",
        figure="shapelaw.scaling.plots.run_plots:parity",
    )
    register_views(
        "Law",
        tables="shapelaw.results.report:tables_of_law",
        figure="shapelaw.scaling.plots.parameter_plots:parameter_intervals",
    )
    register_views(
        "Answer",
        tables="shapelaw.search.answer.answer_tables:answer_tables",
        figure="shapelaw.search.answer.plots:front_figure",
    )
    register_views(
        "Explanation",
        tables="shapelaw.search.devices.explain_tables:explanation_tables",
        figure="shapelaw.search.devices.explain_plot:explanation_figure",
    )
    register_views(
        "DeviceProfile",
        tables="shapelaw.search.devices.device_tables:profile_tables",
        figure="shapelaw.search.devices.device_plot:speed_against_size",
    )
