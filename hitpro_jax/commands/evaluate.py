"""`--mode=eval`: scores the newest checkpoint of the workdir and writes eval/<step>.json."""

from hitpro_jax.run import Run


def main(run: Run) -> None:
    """Scores the newest checkpoint.

    Raises:
      ValueError: there is no checkpoint, or it belongs to another encoder, or the data set has no labelled test set,
        or its people are those that the encoder was trained on.
    """
    if recorded := run.workdir.recorded_config():
        run.refuse_people_trained_on(recorded, run.workdir.path)
    if not run.protocol.directions:
        raise ValueError(
            f"{run.dataset.root} has no labelled query and gallery to score: add them, or use --mode=train"
        )
    variables, step = run.trained_variables()
    result = run.evaluate(variables, step)
    run.workdir.evaluation(result)
    run.workdir.table(result)
