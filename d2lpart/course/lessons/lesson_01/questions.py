"""Lesson 01: why one device is not enough; its questions and predictions."""

from d2lpart.course.lessons.lesson_01.facts import fewest, longer, seven, small_state, state_gb
from d2lpart.course.lessons.lesson_01.variants import gpus, in_flight, training
from d2lpart.course.questions.choices import BaseQuestion, Option, Question, Several
from d2lpart.course.questions.prediction import Prediction

PREDICTIONS = [
    Prediction(
        "01.p1",
        "A decoder of 2 million parameters of 4 bytes trains with Adam on 8 sequences. What part "
        "of all that it holds is weights, in %?",
        unit="%",
        tolerance=4,
        ideas=[
            (25, "That is weights, gradients and two moments, without activations."),
            (50, "That is weights and gradients alone."),
            (100, "That is a model that only answers: nothing is kept for a backward."),
        ],
        lesson="That the weights have room says little: training holds much more.",
    ),
    Prediction(
        "01.p2",
        "Rank 0 of five keeps only the inputs of its micro-batches, and runs their forward once "
        "more before the backward. How much of its activations is left, in %?",
        unit="%",
        tolerance=8,
        ideas=[
            (0, "The micro-batch whose backward is running is held in full."),
            (50, "Half would be a stage that holds little beside its input."),
            (100, "Nothing saved? All but one micro-batch wait as an input alone."),
        ],
        lesson="One micro-batch in full and the inputs of the others: paid for with one forward "
        "more.",
    ),
]

QUESTIONS: list[BaseQuestion] = [
    training(7),
    Question(
        "01.q2",
        "A unit has room for 30 MB. It has just run out of memory in the forward of 8 sequences. "
        "What makes this decoder train on such units, step after step?",
        {
            "a": Option(
                "One sequence at a time.",
                lambda: (
                    f"Then the first forward and backward fit. But weights, gradients and Adam's "
                    f"state are {small_state():.1f} MB, whatever the batch."
                ),
            ),
            "b": Option(
                "Letting the activations go, and computing them once more for the backward.",
                lambda: (
                    f"That takes activations away, and only them: {small_state():.1f} MB stay, and "
                    f"30 MB are there."
                ),
            ),
            "c": Option(
                "More units, each with a part of the layers.",
                lambda: (
                    f"On four units the {small_state():.1f} MB become {small_state(4):.1f} MB "
                    f"each, and 30 MB have room for activations as well."
                ),
            ),
            "d": Option(
                "A faster unit.",
                lambda: (
                    f"It would fail sooner: {small_state():.1f} MB are needed at any speed, and "
                    f"there are 30 MB."
                ),
            ),
        },
        answer="c",
    ),
    Question(
        "01.q3",
        "Which statement best analyzes how this strategy addresses the memory constraint?",
        {
            "a": Option(
                "The network is compressed, so that its parameters take fewer bytes.",
                lambda: (
                    f"Not a byte is saved: four stages of the 7B hold "
                    f"{4 * seven(4).state / 1e9:.0f} GB of state together, as the whole did."
                ),
            ),
            "b": Option(
                "Each unit gets a part of the batch, and so has fewer samples to hold.",
                lambda: (
                    f"That is data parallelism. Each unit would still hold the whole network, "
                    f"{seven().state / 1e9:.0f} GB for the 7B, before the first sample."
                ),
            ),
            "c": Option(
                "Each unit keeps only its own layers' weights, gradients and optimizer state, so "
                "that the largest stage has to fit into one unit, and not the whole network.",
                lambda: (
                    f"For the 7B on four units: largest stage {seven(4).total / 1e9:.1f} GB < 80 "
                    f"GB < {seven().total / 1e9:.1f} GB for the whole."
                ),
            ),
            "d": Option(
                "The units work at once, a pass is faster, and what it needs is freed sooner.",
                lambda: (
                    f"Data flows through in sequence, so one pass is no faster; and of the 7B's "
                    f"{seven().total / 1e9:.1f} GB, {seven().state / 1e9:.0f} GB are state, which "
                    f"no pass frees."
                ),
            ),
        },
        answer="c",
    ),
    in_flight(num_layers=32, gb=1, num_ranks=4, num_microbatches=12),
    Question(
        "01.q5",
        "The 7B decoder, twice the context: 4,096 positions in place of 2,048. Nothing is "
        "recomputed, and the scores of the attention are written down. What becomes of the "
        "activations of a layer?",
        {
            "a": Option(
                "They stay: the layer has the same weights.",
                lambda: (
                    f"The weights stay. Activations are there for each position, and the scores "
                    f"for each pair: {longer(2):.1f} times as many bytes."
                ),
            ),
            "b": Option(
                "They double.",
                lambda: (
                    f"Without the scores they would: {longer(2, 'selective'):g} times. With them "
                    f"it is {longer(2):.1f} times."
                ),
            ),
            "c": Option(
                "They more than double.",
                lambda: (
                    f"{longer(2):.1f} times: 34 bytes for each position and each of the width, and "
                    f"5 for each pair of positions and each head, of which there are 4 times as "
                    f"many."
                ),
            ),
            "d": Option(
                "They become four times as many.",
                lambda: (
                    f"The scores do. The rest doubles, and together it is {longer(2):.1f} times."
                ),
            ),
        },
        answer="c",
    ),
    gpus(billions=200, card=40),
    Several(
        "01.q7",
        "200 billion parameters, GPUs with 40 GB, as many as you like. Which of these, by itself, "
        "can make the state of a GPU small enough? Tick all that can.",
        {
            "a": Option(
                "Data parallelism: a copy of the model on each GPU, and a part of the batch.",
                lambda: f"Each copy needs {state_gb(200):,.0f} GB, on however many GPUs.",
            ),
            "b": Option(
                "Network partitioning: consecutive layers on each GPU.",
                lambda: (
                    f"The state is divided, and {fewest(200, 40)} GPUs would do if it could be cut "
                    f"anywhere; cut between 110 layers, it takes 110."
                ),
            ),
            "c": Option(
                "Splitting each layer's matrices over the GPUs.",
                lambda: (
                    f"It divides the state as well, into as many parts: {state_gb(200):,.0f} GB "
                    f"over 110 GPUs are {state_gb(200) / 110:.1f} GB each."
                ),
            ),
            "d": Option(
                "Recomputing activations in the backward.",
                lambda: f"Not a byte of the {state_gb(200):,.0f} GB is an activation.",
            ),
        },
        answer="bc",
    ),
]
