"""Lesson 03: splitting a transformer decoder; its questions, and the prediction at its start."""

from d2lpart.course.lessons.lesson_03 import facts
from d2lpart.course.lessons.lesson_03.variants import kilobytes, mean_loss, messages_of
from d2lpart.course.questions.arrangements import Ordering
from d2lpart.course.questions.choices import (
    BaseQuestion,
    NumberQuestion,
    Option,
    Question,
    Several,
    true_or_false,
)
from d2lpart.course.questions.prediction import Prediction

PREDICTIONS = [
    Prediction(
        "03.p1",
        "In how many of the 77 gradients does at least one bit differ?",
        unit="",
        tolerance=0.5,
        ideas=[
            (77, "Rounding would differ everywhere if sums were taken in another order."),
            (3, "A message over one of the 3 cuts keeps all 32 bits of each number."),
        ],
        lesson="The gradients are not merely close: they are equal to the last bit.",
    ),
]


def _no_history() -> str:
    front, of_front, *_ = facts.stage_1_alone()
    return (
        f"Autograd goes back as far as the graph goes, and the message has no history: on a small "
        f"decoder {front} of stage 0's {of_front} weights have a gradient."
    )


def _own_part() -> str:
    _, of_front, back, of_back = facts.stage_1_alone()
    return (
        f"On a small decoder {back} of stage 1's {of_back} weights have their gradient; the "
        f"{of_front} of stage 0 wait for a message."
    )


def _whole_part() -> str:
    _, _, back, of_back = facts.stage_1_alone()
    return (
        f"Stage 1 has a whole graph, from the message to the loss. That is all it needs: {back} of "
        f"its {of_back} weights have a gradient."
    )


def _falling() -> str:
    first, last = facts.losses_without_sending_back()
    return f"in 10 steps of a small decoder cut in two, from {first:.2f} to {last:.2f}"


QUESTIONS: list[BaseQuestion] = [
    Question(
        "03.q1",
        "`loss.backward()` runs on stage 1, and nothing else has run yet. Which weights have a "
        "gradient now?",
        {
            "a": Option("All: the loss depends on all of them.", _no_history),
            "b": Option("Those of stage 1 alone.", _own_part),
            "c": Option("None: backward needs the graph of the whole model.", _whole_part),
        },
        answer="b",
    ),
    Ordering(
        "03.q2",
        "Two stages on two workers, one mini-batch in one piece. Bring the events of one step into "
        "order:",
        {
            "a": "the gradient of the activation is sent",
            "b": "stage 0 runs its backward",
            "c": "stage 1 runs its forward and computes the loss",
            "d": "stage 0 runs its forward",
            "e": "stage 1 runs its backward",
            "f": "the activation is sent",
        },
        answer="dfceab",
        because={
            ("e", "b"): lambda: (
                f"The loss is on stage 1, so its backward comes first: with F = 1 s and B = 2 s, "
                f"1B0 starts at {facts.starts('1B0', 2):g} s, 0B0 at {facts.starts('0B0', 2):g} s."
            ),
            ("f", "c"): "Stage 1 computes with what stage 0 has sent: 1 message comes first.",
            ("a", "b"): "Stage 0 starts from the gradient of its output, which 1 message brings.",
            ("d", "f"): "Stage 0 sends what its forward has made: 1 forward comes first.",
            ("e", "a"): "Stage 1 sends what its backward has made: 1 backward comes first.",
            ("c", "e"): "A backward starts from a loss, and there is none before 1F0.",
        },
        explain=lambda: (
            f"{len(facts.naive_step(2).spans)} actions and {facts.messages(2)} messages, none of "
            f"which can begin before the one in front of it has ended."
        ),
    ),
    messages_of(4),
    NumberQuestion(
        "03.q4",
        "There are 128 ways to cut 8 layers into stages. In how many of them does at least one bit "
        "of a gradient differ from the uncut model's?",
        answer=0,
        tolerance=0,
        unit="ways",
        explain=lambda: (
            f"A cut adds no operation and moves none. On a small decoder of 4 layers, "
            f"{facts.changed_by_cuts()[1]} of {facts.changed_by_cuts()[0]} ways change a bit."
        ),
        misconceptions=[
            (
                127,
                lambda: (
                    f"You expect every cut to cost a bit. On a small decoder of 4 layers "
                    f"{facts.changed_by_cuts()[1]} of {facts.changed_by_cuts()[0]} ways do."
                ),
            ),
            (
                128,
                lambda: (
                    f"One of the 128 is no cut at all. And on a small decoder of 4 layers "
                    f"{facts.changed_by_cuts()[1]} of {facts.changed_by_cuts()[0]} ways change a "
                    f"bit."
                ),
            ),
        ],
        otherwise="Which operation does a cut add, and which does it put in another place?",
    ),
    Several(
        "03.q5",
        "Which of these cross the cut between two stages in a step? Tick all that do.",
        {
            "a": Option(
                "the activation of the last layer before the cut",
                lambda: f"Once forward: {facts.messages(2) // 2} message.",
            ),
            "b": Option(
                "the weights of the stage",
                lambda: (
                    f"Rank 1 of a small decoder keeps its {facts.kept(1)[0]} bytes of weights to "
                    f"itself."
                ),
            ),
            "c": Option(
                "the gradient of that activation",
                lambda: f"Once backward, with the same shape: {facts.messages(2) // 2} message.",
            ),
            "d": Option(
                "what autograd saves for the backward of the stage",
                lambda: (
                    f"{facts.kept(1)[2]} bytes wait on rank 1, where its own backward needs them; "
                    f"the message it got has {facts.kept(1)[1]}."
                ),
            ),
        },
        answer="ac",
    ),
    kilobytes(samples=8, positions=32, width=64, p=4),
    true_or_false(
        "03.q7",
        "A decoder of four blocks, one block on each of four workers, one mini-batch: the blocks "
        "run at the same time.",
        answer=False,
        when_true=lambda: (
            f"Block 1 needs block 0's output before it can start. Of 4 ranks, "
            f"{facts.ranks_at_once()} works at any moment."
        ),
        when_false=lambda: (
            f"Each block needs the output of the one before. Of 4 ranks, {facts.ranks_at_once()} "
            f"works at a time; {facts.naive_step().idle_fraction():.0%} of all rank time is idle."
        ),
    ),
    Question(
        "03.q8",
        "In D2L's words, a model of 24 layers on 4 GPUs uses “layer-wise partitioning”. "
        "What does each GPU hold?",
        {
            "a": Option(
                "6 consecutive layers.",
                lambda: (
                    f"In other books it would. D2L calls that network partitioning: {4 - 1} cuts, "
                    f"{facts.messages()} messages a step."
                ),
            ),
            "b": Option(
                "All 24 layers, and a quarter of the mini-batch.",
                lambda: f"That is data parallelism: {4} copies of {24} layers.",
            ),
            "c": Option(
                "A quarter of each of the 24 layers.",
                lambda: (
                    f"D2L means inside the layer, what others call tensor parallelism. As D2L "
                    f"describes it, all 4 GPUs meet behind every layer, {24} times a forward, "
                    f"where {4 - 1} cuts between layers need {4 - 1} messages."
                ),
            ),
        },
        answer="c",
    ),
    Question(
        "03.q9",
        "You forget to send the gradient back: only the last stage gets any. What do you see?",
        {
            "a": Option(
                "An error: weights without a gradient cannot be updated.",
                lambda: (
                    f"An optimizer skips weights whose gradient is None, without a word. The loss "
                    f"even falls: {_falling()}."
                ),
            ),
            "b": Option(
                "The loss stays where it is.",
                lambda: f"It falls, as the last stage learns: {_falling()}.",
            ),
            "c": Option(
                "The loss falls, and nothing tells you.",
                lambda: f"The last stage learns what it can: {_falling()}.",
            ),
        },
        answer="c",
    ),
    NumberQuestion(
        "03.q10",
        "`detach` is forgotten, and the error is silenced with `retain_graph=True`. How many times "
        "too large are stage 0's gradients?",
        answer=facts.factor_without_detach,
        tolerance=0.01,
        unit="times",
        explain=lambda: (
            f"The first backward already runs through stage 0, the second runs there again, and "
            f"gradients add up: {facts.factor_without_detach():g} times."
        ),
        misconceptions=[
            (1, "A second backward does not overwrite `.grad`: it adds to it. 1 + 1 is not 1."),
        ],
        otherwise="How many backwards run through stage 0, and what does each do to `.grad`?",
    ),
    Question(
        "03.q11",
        "Embedding and head share one weight, but now live on two stages, each with a copy of it. "
        "Each stage runs its own backward. The gradient in the embedding's copy …",
        {
            "a": Option(
                "lacks what the head's copy has got.",
                lambda: (
                    f"Each copy has its own share, and only the sum is the gradient: in a small "
                    f"decoder the missing part is {facts.missing_of_tied_weight():.0%} of it."
                ),
            ),
            "b": Option(
                "is right: the embedding is where the weight lives.",
                lambda: (
                    f"The loss depends on the weight in two places. In a small decoder the "
                    f"embedding's copy is off by {facts.missing_of_tied_weight():.0%}."
                ),
            ),
            "c": Option(
                "is twice too large: both stages count it.",
                lambda: (
                    f"No share is counted twice; 1 of the 2 shares is missing, which is "
                    f"{facts.missing_of_tied_weight():.0%} of the gradient in a small decoder."
                ),
            ),
        },
        answer="a",
    ),
    mean_loss((2.0, 4.0), (100, 300)),
]
