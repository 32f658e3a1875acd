"""`--mode=eval`: scores the newest checkpoint of the workdir and writes eval/<step>.json."""

from hitpro_jax.data import sets
from hitpro_jax.methods.registry import METHODS
from hitpro_jax.run import Run


def main(run: Run) -> None:
    """Scores the newest checkpoint.

    Raises:
      ValueError: there is no checkpoint, or it belongs to another encoder, or the data set has no labelled test set,
        or its people are those that the encoder was trained on.
    """
    refuse_people_trained_on(run)
    if not run.protocol.directions:
        raise ValueError(
            f"{run.dataset.root} has no labelled query and gallery to score: add them, or use --mode=train"
        )
    variables, step = run.trained_variables()
    result = run.evaluate(variables, step)
    run.workdir.evaluation(result)
    run.workdir.table(result)


def refuse_people_trained_on(run: Run) -> None:
    """Refuses test sets of other trials than that on whose training set the workdir's encoder was trained.

    Raises:
      ValueError: the data set has trials with training sets of their own, and another one is asked for.
    """
    name = run.options.data.name
    recorded = run.workdir.recorded_config() if run.training_trial is not None else None
    if not recorded or recorded["data"]["name"] != name or not METHODS[recorded["method"]["name"]].trains:
        return
    trained = recorded["data"][name][sets.find(name).training_trial]
    if trained != run.training_trial:
        raise ValueError(
            f"the encoder in {run.workdir.path} was trained on trial {trained} of {name}, with people that other "
            f"trials test: give --config.data.{name}.trial={trained}. The published figure is the mean of ten trainings"
        )
