"""Lesson 02: three ways to split; its questions: what is split, what moves, and who waits."""

from d2lpart.common.quantities import bytes_text
from d2lpart.course.lessons.lesson_02.facts import (
    POOL2,
    before,
    cut,
    decoder_ways,
    held,
    idle,
    numbers,
    parameters,
    share,
    ways,
)
from d2lpart.course.lessons.lesson_02.variants import (
    barriers_by_outputs,
    decoder_barriers,
    over_the_cut,
    ring_bytes,
    same_cost,
)
from d2lpart.course.lessons.lesson_05.facts import pass_seconds
from d2lpart.course.questions.choices import BaseQuestion, Option, Question, Several
from d2lpart.course.questions.prediction import Prediction

COSTS: list[BaseQuestion] = [
    same_cost(thousands=300, each=1200),
    decoder_barriers(blocks=6),
    Question(
        "02.q11",
        "Four devices, no micro-batches. Which of the three ways leaves devices idle because they "
        "wait for the others' *computing*, however fast the link is?",
        {
            "a": Option(
                "network partitioning",
                lambda: (
                    f"One stage after another: {idle(4):.0%} of all device time is idle. The other "
                    f"two let all 4 compute at the same time."
                ),
            ),
            "b": Option(
                "layer-wise partitioning",
                lambda: (
                    f"All 4 work on the same layer at the same time. What hurts is the "
                    f"{decoder_ways(4)['layer-wise partitioning'].traffic.barriers} barriers of a "
                    f"decoder of 4 blocks, and they cost nothing on a free link."
                ),
            ),
            "c": Option(
                "data parallelism",
                "Each of the 4 runs its own images forward and back, and waits once, for the sum.",
            ),
            "d": Option(
                "all three alike",
                lambda: (
                    f"A cut between layers alone makes a device wait for what another computes: "
                    f"{idle(4):.0%} against 0%."
                ),
            ),
        },
        answer="a",
    ),
]


PREDICTIONS = [
    Prediction(
        "02.p1",
        "What part of LeNet's multiply-adds is in its second convolution, in %?",
        unit="%",
        tolerance=5,
        ideas=[
            (19, "That is its part of the parameters. A convolution uses each of them many times."),
            (25, "There are 4 layers with weights, and they are far from even."),
            (79, "That is the first dense layer's part of the parameters."),
        ],
        lesson="Who holds the weights need not do the work.",
    ),
    Prediction(
        "02.p2",
        "16 images, two devices. How many times as many bytes as the cut behind pool2 does data "
        "parallelism move?",
        unit="",
        tolerance=1,
        ideas=[
            (1, "One moves activations, the other gradients of weights; there are more of these."),
            (
                129_068 / 800,
                "That is for 1 image. The cut's bytes grow with the images, the replicas' do not.",
            ),
        ],
        lesson="The more images, the better for data parallelism.",
    ),
]

NAMES_AND_CUTS: list[BaseQuestion] = [
    Question(
        "02.q1",
        "A convolution has 64 output channels. Each of 4 GPUs computes 16 of them, for all images; "
        "in the next layer they do the same again. Which way to split is this?",
        {
            "a": Option(
                "network partitioning",
                "Then the whole layer, all 64 channels, would be on one GPU, and other layers on "
                "others.",
            ),
            "b": Option(
                "layer-wise partitioning, as D2L calls it",
                lambda: (
                    f"The cut goes through every layer: 64/4 = 16 channels each. To go on, all "
                    f"need all 64: LeNet split so has "
                    f"{ways(pairs=False)['layer-wise partitioning'].traffic.barriers} barriers a "
                    f"step."
                ),
            ),
            "c": Option(
                "data parallelism",
                "Then each GPU would compute all 64 channels, for a quarter of the images.",
            ),
        },
        answer="b",
    ),
    Several(
        "02.q2",
        "Names clash. Which of these mean a cut *between* layers? Tick all that do.",
        {
            "a": Option(
                "network partitioning (D2L)",
                "Yes: each device has some consecutive layers, all others are on other devices: 0 "
                "layers are cut through.",
            ),
            "b": Option(
                "layer-wise model parallelism (Foundations of LLMs)",
                "Yes: 2 names, 1 thing. It is network partitioning.",
            ),
            "c": Option(
                "layer-wise partitioning (D2L)",
                lambda: (
                    f"No: it cuts *inside* each layer. On 2 ranks of LeNet each holds "
                    f"{held('layer-wise partitioning') / (4 * parameters()):.0%} of every layer's "
                    f"weights."
                ),
            ),
            "d": Option(
                "tensor parallelism",
                "No: it is another name for D2L's layer-wise partitioning, 1 cut through each "
                "layer's tensors.",
            ),
            "e": Option(
                "pipeline parallelism",
                "Yes: network partitioning whose mini-batch goes through in more than 1 piece.",
            ),
        },
        answer="abe",
    ),
    over_the_cut(images=16),
    Question(
        "02.q4",
        "What is true of network partitioning?",
        {
            "a": Option(
                "It costs no traffic: every device has its own layers.",
                lambda: (
                    f"The layers stay, but what they put out crosses, and its gradient comes back: "
                    f"{bytes_text(cut())} for LeNet behind pool2 with 16 images."
                ),
            ),
            "b": Option(
                "It makes one pass through the network faster.",
                lambda: (
                    f"The devices compute one after another: 1 s of compute on 4 of them, with "
                    f"0.03 s a message, takes {pass_seconds(4, 0.03):.2f} s."
                ),
            ),
            "c": Option(
                "A device holds the weights of its own layers only.",
                lambda: (
                    f"Of LeNet's {bytes_text(4 * parameters())} the fuller device holds "
                    f"{bytes_text(held('network partitioning'))}, the other one "
                    f"{bytes_text(4 * parameters() - held('network partitioning'))}."
                ),
            ),
            "d": Option(
                "It spares each device part of the images.",
                lambda: (
                    f"All 16 images pass through both devices: {16 * numbers('pool2'):,} numbers "
                    f"cross the cut, one way. Data parallelism shares out the images."
                ),
            ),
        },
        answer="c",
    ),
    Question(
        "02.q5",
        "You want to cut LeNet between its layers so that both devices compute about equally long. "
        "Where?",
        {
            "a": Option(
                "In the middle: five layers here, five there.",
                lambda: (
                    f"The first 5 do {before(5, 'forward_flops'):.0%} of the multiply-adds: "
                    f"counting layers is not counting work."
                ),
            ),
            "b": Option(
                "Behind pool2: convolutions here, dense layers there.",
                lambda: (
                    f"Then one has {before(POOL2, 'forward_flops'):.0%} of the multiply-adds, and "
                    f"the other {1 - before(POOL2, 'parameters'):.0%} of the weights."
                ),
            ),
            "c": Option(
                "Nowhere.",
                lambda: (
                    f"conv2 alone does {share('conv2', 'forward_flops'):.0%}, and it is on one of "
                    f"the two. A cut between layers cannot divide it."
                ),
            ),
        },
        answer="c",
    ),
]

INSIDE_AND_REPLICAS: list[BaseQuestion] = [
    barriers_by_outputs(layers=4),
    Question(
        "02.q7",
        "Four replicas of LeNet in place of one. What does that do to the memory for the weights?",
        {
            "a": Option(
                "Each device needs a quarter: it reduces memory for the model.",
                lambda: (
                    f"Each replica is the whole model, {bytes_text(held('data parallelism', 4))} "
                    f"of weights. What is quartered is the mini-batch, and with it the activations."
                ),
            ),
            "b": Option(
                "Each device needs all of them; together four times as much.",
                lambda: (
                    f"{bytes_text(held('data parallelism', 4))} on each. A model that does not fit "
                    f"on 1 device does not fit on 4 replicas."
                ),
            ),
            "c": Option(
                "One device holds them, the others ask for what they need.",
                lambda: (
                    f"Without weights of its own no replica can compute. All "
                    f"{ways(ranks=4)['data parallelism'].traffic.messages} messages of a step are "
                    f"gradients, not weights."
                ),
            ),
        },
        answer="b",
    ),
    ring_bytes(ranks=4, thousands=1000),
]

QUESTIONS: list[BaseQuestion] = [*NAMES_AND_CUTS, *INSIDE_AND_REPLICAS, *COSTS]
