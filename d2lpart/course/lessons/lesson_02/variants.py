"""Lesson 02: its number questions for any sizes, and the variants drawn from them."""

from d2lpart.course.lessons.lesson_02.facts import FLOAT, numbers, parameters
from d2lpart.course.questions.choices import NumberQuestion


def over_the_cut(images: int, layer: str = "pool2") -> NumberQuestion:
    """02.q3: the bytes that cross a cut in one step."""
    each = numbers(layer)
    kilobytes = 2 * images * each * FLOAT / 1000
    return NumberQuestion(
        "02.q3",
        f"LeNet is cut behind {layer}, whose output has {each:,} numbers for an image, each of "
        f"{FLOAT} bytes. How many kB cross the cut in one training step with {images} images?",
        answer=kilobytes,
        unit="kB",
        tolerance=0.005 * kilobytes,
        explain=(
            f"{images} × {each:,} × {FLOAT} bytes forward, and their gradients back: "
            f"{kilobytes:.1f} kB."
        ),
        misconceptions=[
            (
                kilobytes / 2,
                f"That is the forward. The gradients of the same {each:,} numbers come back.",
            ),
            (
                2 * each * FLOAT / 1000,
                f"That is one image. All {images} cross the cut.",
            ),
            (
                2 * images * each / 1000,
                f"You count the numbers; each has {FLOAT} bytes.",
            ),
            (1000 * kilobytes, "Those are bytes; 1 kB is 1,000 of them."),
            (
                2 * parameters() * FLOAT / 1000,
                f"Those are the {parameters():,} weights. They stay where they are; what crosses "
                f"is what {layer} puts out.",
            ),
        ],
        otherwise="Images × numbers × bytes, once forward and once back.",
    )


def barriers_by_outputs(layers: int) -> NumberQuestion:
    """02.q6: the barriers of a step where every layer with weights is split by its outputs."""
    return NumberQuestion(
        "02.q6",
        f"A network has {layers} layers with weights, each split by its outputs over the ranks. "
        f"The loss needs the whole output, and the images need no gradient. How many barriers has "
        f"one training step?",
        answer=2 * layers - 1,
        tolerance=0,
        explain=(
            f"Forward, one behind each of the {layers}. Back, one for the input of each but the "
            f"first: {layers} + {layers - 1} = {2 * layers - 1}."
        ),
        misconceptions=[
            (layers, f"Those are the {layers} of the forward. The backward has some, too."),
            (
                2 * layers,
                f"One too many: nobody needs the gradient of the images, so back it is "
                f"{layers - 1}.",
            ),
            (
                layers - 1,
                f"Those lie between {layers} layers, one way; the loss asks for one more, and the "
                f"backward has its own.",
            ),
            (1, "With 1 data parallelism makes do: all gradients at once, at the end."),
        ],
        otherwise="Go through the forward, then through the backward: where do all ranks wait?",
    )


def ring_bytes(ranks: int, thousands: int) -> NumberQuestion:
    """02.q8: the bytes that replicas move in one step, all together."""
    whole = thousands * 1000 * FLOAT / 1e6
    return NumberQuestion(
        "02.q8",
        f"{ranks} replicas of a network of {1000 * thousands:,} parameters, {FLOAT} bytes each, "
        f"sum their gradients by a ring all-reduce. How many MB do all ranks together send in one "
        f"step?",
        answer=2 * (ranks - 1) * whole,
        unit="MB",
        tolerance=0.005 * whole,
        explain=(
            f"Each rank sends 2 × {ranks - 1}/{ranks} of {whole:g} MB, and there are {ranks}: "
            f"2 × {ranks - 1} × {whole:g} = {2 * (ranks - 1) * whole:g} MB."
        ),
        misconceptions=[
            (2e6 * (ranks - 1) * whole, "Those are bytes; 1 MB is a million of them."),
            (
                (ranks - 1) * whole,
                f"That brings the sums together. They also have to go round: {ranks - 1} rounds "
                f"more.",
            ),
            (
                2 * (ranks - 1) / ranks * whole,
                f"That is what one rank sends; there are {ranks}.",
            ),
            (
                2 * ranks * whole,
                f"In a round each rank passes 1/{ranks} on, and {ranks - 1} rounds are enough for "
                f"either half.",
            ),
            (
                ranks * (ranks - 1) * whole,
                f"Each of {ranks} to each other one: that works, and moves more than a ring.",
            ),
        ],
        otherwise=f"A ring has 2 × {ranks - 1} rounds. What does each rank send in one of them?",
    )


def same_cost(thousands: int, each: int) -> NumberQuestion:
    """02.q9: the batch at which a cut and two replicas move equally many bytes."""
    batch = thousands * 1000 / each
    return NumberQuestion(
        "02.q9",
        f"Two devices. A network has {thousands},000 parameters; the cut carries {each} numbers "
        f"for each sample, one way. At which batch size do the cut and data parallelism (ring) "
        f"move equally many bytes?",
        answer=batch,
        tolerance=1,
        explain=(
            f"The cut moves 2 × batch × {each} numbers, the ring 2 × 1 × {thousands},000: equal at "
            f"{thousands},000/{each} = {batch:.1f}. A smaller batch is cheaper over the cut, a "
            f"larger one with replicas."
        ),
        misconceptions=[
            (
                batch / 2,
                f"The cut is crossed twice, {each} numbers each way; but the ring, too, moves each "
                f"gradient twice.",
            ),
            (
                2 * batch,
                f"The ring moves 2 × {thousands},000 numbers, yes; and the cut 2 × {each} for each "
                f"sample.",
            ),
            (
                FLOAT * batch,
                f"{FLOAT} bytes a number are in both, and cancel.",
            ),
        ],
        otherwise="Write down both sums of numbers, forward and back, and set them equal.",
    )


def decoder_barriers(blocks: int) -> NumberQuestion:
    """02.q10: the barriers of a decoder with blocks split by heads and hidden units."""
    all_ = 4 * blocks + 2
    return NumberQuestion(
        "02.q10",
        f"A decoder of {blocks} blocks, each split in two pairs, attention and perceptron; the "
        f"last layer, the head, is split by outputs, and the embedding is on every rank. How many "
        f"barriers has one training step?",
        answer=all_,
        tolerance=0,
        explain=(
            f"Each block: one behind attention and one behind the perceptron, and as many back, "
            f"4 × {blocks}. The head: its logits are gathered, and the gradient of its input is "
            f"summed: {all_}."
        ),
        misconceptions=[
            (2 * blocks, f"That is the forward of the blocks, 2 for each of {blocks}."),
            (
                4 * blocks,
                "The blocks are right, forward and back. The head has 2 of its own.",
            ),
            (
                4 * blocks + 1,
                "The head has 2: its logits are gathered, and going back the gradient of its input "
                "is summed.",
            ),
            (
                2 * blocks + 1,
                f"That is the whole forward, 2 × {blocks} + 1. The backward has as many.",
            ),
            (
                8 * blocks + 2,
                "You let the ranks meet behind each of 4 linear layers. In pairs, split by outputs "
                "and then by inputs, they meet behind each second one.",
            ),
        ],
        otherwise="Count for one block, forward and back; then the head.",
    )


VARIANTS = {
    "02.q3": lambda rng: over_the_cut(rng.randint(3, 60), rng.choice(["pool1", "pool2", "conv2"])),
    "02.q6": lambda rng: barriers_by_outputs(rng.randint(3, 30)),
    "02.q8": lambda rng: ring_bytes(rng.randint(4, 9), 250 * rng.randint(1, 40)),
    "02.q9": lambda rng: same_cost(rng.randint(100, 900), rng.randint(100, 2000)),
    "02.q10": lambda rng: decoder_barriers(rng.randint(2, 48)),
}
