"""Every transcript in this folder is played, and must go as it is written.

``UPDATE=1 make test ONLY=transcript`` writes what the steps show into the files. What they
``expect``, and results after ``=``, are for people to change.
"""

import os
from pathlib import Path

import pytest

from copycat.actors.simulation import Simulation
from sources import ROOT
from transcript_file import ScriptError, Transcript
from transcript_stage import Stage
from transcript_steps import check_used
from transcript_words import FACTS, STEPS, perform

FOLDER = Path(__file__).parent
FILES = sorted(FOLDER.glob("*.txt"))


def play(transcript: Transcript) -> tuple[str, int]:
    """Play all steps in a world of their own.

    Returns:
        The file as it would be right, and the trace of the world.

    Raises:
        ScriptError: a step cannot be done, or what it expects is not so.
    """
    shown = {}
    with Simulation(transcript.seed) as simulation:
        stage = Stage(simulation, transcript.servers)
        with stage.elections_in_hand():
            for step in transcript.steps:
                try:
                    shown[step.line] = perform(stage, step.text)
                except ScriptError as error:
                    error.line = step.line
                    raise
            check_used(stage)
        return transcript.with_shown(shown), simulation.trace_hash


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_transcript(path: Path) -> None:
    """The hazard that the file is named after does no harm, in just the way it says."""
    try:
        transcript = Transcript.load(path)
        now, _ = play(transcript)
    except ScriptError as error:
        pytest.fail(f"{path.name}:{error.line}: {error}", pytrace=False)
    if now == transcript.text:
        return
    if os.environ.get("UPDATE"):
        path.write_text(now, encoding="utf-8")
        return
    pytest.fail(
        f"{transcript.difference(now)}\nif this is right: UPDATE=1 make test ONLY={path.stem}",
        pytrace=False,
    )


def play_text(text: str) -> str:
    """Play a script that is not in a file."""
    return play(Transcript(Path("script.txt"), text))[0]


def test_steps_show_what_really_happens() -> None:
    """What stands below a step is replaced by what it shows; all else stays as it is."""
    script = (
        "# A comment.\nseed 1\n\nstart n1 n2 n3\nelect n1\nclient a\n"
        "a: map users put ann 1\nshow leaders\n{}\nexpect n1 leads\n"
    )
    played = play_text(script.format("    term 7: n3\n    term 8: n3"))
    right = script.replace("put ann 1\n", "put ann 1\n    None\n").format("    term 1: n1")
    assert played == right
    assert play_text(played) == played


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        ("elct n1", "did you mean: elect SERVER"),
        ("elect n4", "no server is called 'n4': there are n1, n2, n3"),
        ("pass two s", "'two' is no number"),
        ("expect n1 leeds", "did you mean: SERVER leads"),
        ("expect n2 leads", "n2 follows n1 in term 1"),
        ("expect a is conected", "did you mean connected?"),
        ("a: conter hits increment", "did you mean counter?"),
        ("a: counter hits increment = 2", "2 was expected, and it is 1"),
        ("b: counter hits increment", "no client is called 'b'"),
        ("await a", "a has begun nothing"),
        ("hold AppendEntris n1 > n2", "did you mean AppendEntries?"),
        ("hold Entries n1 > n2", "`hold Entries n1 > n2` has met no such message"),
        ("release", "nothing is held back"),
        ("client c at=n1 timeout=2", "no option is called 'timeout': did you mean timeout_s?"),
        ("start n1", "n1 runs"),
        ("  start n1", "a step is not indented"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(step: str, reason: str) -> None:
    """A script with a mistake, or an expectation that is not met, fails where it stands."""
    with pytest.raises(ScriptError) as caught:
        play_text(f"seed 1\nstart n1 n2 n3\nelect n1\nclient a\npass 0.5 s\n{step}\n")
    assert reason in str(caught.value)
    assert caught.value.line == (0 if "has met no" in reason else 6)


def test_a_script_begins_with_its_seed() -> None:
    """Without a seed in the file a transcript would not say in which world it is true."""
    with pytest.raises(ScriptError, match="`seed NUMBER` comes here"):
        play_text("start n1\n")


@pytest.mark.parametrize("path", FILES[:: len(FILES) // 4], ids=lambda path: path.stem)
def test_a_transcript_is_the_same_each_time(path: Path) -> None:
    """The same file makes the same world, event for event."""
    transcript = Transcript.load(path)
    assert play(transcript) == play(transcript)


def test_every_step_and_fact_is_documented() -> None:
    """docs/testing.md lists the whole language, and nothing else."""
    text = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
    for phrases, block in zip((STEPS, FACTS), text.split("```text\n# the ")[1:], strict=True):
        lines = block.partition("```")[0].splitlines()[1:]
        documented = [line.partition("  ") for line in lines]
        assert [(pattern, meaning.strip()) for pattern, _, meaning in documented] == [
            (phrase.pattern, phrase.meaning) for phrase in phrases
        ]


def test_every_file_names_its_hazard() -> None:
    """A transcript says first which hazard it shows, and what would be wrong."""
    assert len(FILES) >= 40
    for path in FILES:
        assert path.read_text(encoding="utf-8").startswith("# Hazard"), path.name
