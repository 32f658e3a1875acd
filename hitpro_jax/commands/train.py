"""`--mode=train`: trains, or goes on training, and writes result.json."""

from hitpro_jax.run import Run
from hitpro_jax.train import train


def main(run: Run) -> None:
    """Trains the run to its last step and reports the result."""
    result = train(run)
    run.workdir.result(result)
    run.workdir.table(result)
    run.workdir.log(f"result: {run.workdir.path / 'result.json'}")
