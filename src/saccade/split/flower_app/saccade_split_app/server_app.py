"""The server's side of a Flower run."""

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    from saccade.split import flower  # torch is loaded when there is work, so that the process is up in time

    flower.lead(grid, context)
