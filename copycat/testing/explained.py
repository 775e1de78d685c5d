"""Holds a history of a world against a model, in both ways, and tells the world's story if it fails."""

from copycat.testing.history import History
from copycat.testing.linearizability import Report, check
from copycat.testing.models import Model
from copycat.testing.violation import Story
from copycat.testing.witness import check_by_index


def explained(
    story: Story, rule: str, history: History, model: Model, *, by_index: bool = True
) -> Report:
    """What a search has found about a history that a model explains.

    Args:
        story: of the world.
        rule: what is broken when the model does not explain it.
        history: all operations on one object.
        model: of the object.
        by_index: whether it also has to be explained by the order of the log.

    Raises:
        InvariantViolated: it cannot be explained.
    """
    reports = [check(history, model)]
    if by_index:
        reports.append(check_by_index(history, model))
    for report in reports:
        found = report.counterexample
        if found is not None:
            raise story.violated(rule, str(found), until_s=found.blocked.returned_s)
    return reports[0]
