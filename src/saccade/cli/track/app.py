"""What the commands of tracking share."""

import typer

track_app = typer.Typer(
    help="Follow one target through a recording of an event camera, and score trackers.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
